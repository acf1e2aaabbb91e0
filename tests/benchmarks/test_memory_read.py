"""Both sides of the benchmark of the memory read do the same work, and its ratios stay in their limits."""

import json
from pathlib import Path

import torch

from benchmarks.memory_read import MOST_PRODUCTS, SIZES, TEMPERATURE, memory_read_benchmark, plain_masked_softmax
from memae.memory.ops import read_memory

RESULT = Path("benchmarks/results/memory-read.json")


def test_the_plain_masked_softmax_gives_what_the_read_gives() -> None:
    torch.manual_seed(0)
    query, items = (torch.nn.functional.normalize(torch.randn(rows, 64), dim=1) for rows in (20, 500))
    found = read_memory(query, items, similarity="dot", temperature=TEMPERATURE)
    value, entropy = plain_masked_softmax(query, items)
    assert torch.allclose(found.value, value, atol=1e-6)
    assert torch.allclose(found.entropy, entropy, atol=1e-5)


def test_it_runs() -> None:
    found = memory_read_benchmark(rounds=1, sizes=(50,))
    assert found["score_to_products"] > 0
    assert {*found["read_to_plain_forward"]} == {*found["read_to_plain_step"]} == {50}


def test_the_committed_result_keeps_the_limit_of_the_score() -> None:
    found = json.loads(RESULT.read_text())
    assert found["score_to_products"] <= MOST_PRODUCTS
    assert [int(size) for size in found["read_to_plain_forward"]] == list(SIZES)
