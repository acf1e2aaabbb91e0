"""Both sides of the benchmark of the memory read do the same work."""

import torch

from benchmarks.memory_read import TEMPERATURE, memory_read_benchmark, plain_masked_softmax
from memae.memory.ops import read_memory


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
