"""The default of tables against its own two large products, and the memory read against a plain masked softmax.

Both sides of a ratio run in turn, so that a busy machine is fair to both, and the ratio is the median over the pairs.
One thread.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from memae.engine import one_thread
from memae.memory.ops import read_memory
from memae.modality import build, preset_config

__all__ = ["MOST_PRODUCTS", "SIZES", "memory_read_benchmark", "plain_masked_softmax"]

ROWS, COLUMNS, ITEMS = 2048, 120, 2000
MOST_PRODUCTS = 2.5
SIZES = (50, 200, 1000, 2000, 8192, 65_536, 1_048_576)
QUERIES, FEW_QUERIES, MANY_ITEMS = 256, 16, 1 << 20  # a million weights of 256 queries would take 1 GiB a tensor
WIDTH, TEMPERATURE = 64, 0.1


def memory_read_benchmark(rounds: int = 15, sizes: tuple[int, ...] = SIZES) -> dict[str, Any]:
    """The ratios, ours to plain: below 1 ours is faster."""
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        score = _score_to_products(rounds)
        read = {size: _read_to_plain(size, rounds) for size in sizes}
    return {
        "score_to_products": score,
        "read_to_plain_forward": {size: found[0] for size, found in read.items()},
        "read_to_plain_step": {size: found[1] for size, found in read.items()},
        "queries": {size: _queries(size) for size in sizes},
        "rows": ROWS,
        "columns": COLUMNS,
        "items": ITEMS,
        "width": WIDTH,
        "rounds": rounds,
        "threads": 1,
    }


def plain_masked_softmax(query: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
    """Values (T, C) and entropies (T,) as one would write them; a row without any weight above 1/N reads zero."""
    weights = torch.softmax(query @ items.T / TEMPERATURE, dim=1)
    weights = torch.where(weights > 1 / len(items), weights, 0.0)
    weights = weights / weights.sum(dim=1, keepdim=True).clamp_min(1e-12)
    return weights @ items, torch.special.entr(weights).sum(dim=1)


def _score_to_products(rounds: int) -> float:
    """The default model of tables on rows, over the two products of its read by torch.mm."""
    config = preset_config("table", "table")
    model, x = build(config, (COLUMNS,), ITEMS).eval(), torch.randn(ROWS, COLUMNS)
    assert model.memory is not None
    queries = torch.randn(ROWS, model.memory.item_dim)
    items, weights = torch.randn(ITEMS, model.memory.item_dim), torch.rand(ROWS, ITEMS)

    def products() -> None:
        torch.mm(queries, items.T)
        torch.mm(weights, items)

    with torch.inference_mode():
        return _ratio(lambda: model(x), products, rounds)


def _read_to_plain(size: int, rounds: int) -> tuple[float, float]:
    """Forward, and forward with backward, at so many items."""
    query, items = torch.randn(_queries(size), WIDTH), torch.randn(size, WIDTH)
    query, items = (torch.nn.functional.normalize(x, dim=1) for x in (query, items))

    def ours(query: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        found = read_memory(query, items, similarity="dot", temperature=TEMPERATURE)
        return found.value, found.entropy

    def step(read: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> None:
        value, entropy = read(query.clone().requires_grad_(), items.clone().requires_grad_())
        (value.square().sum() + entropy.sum()).backward()

    with torch.no_grad():
        forward = _ratio(lambda: ours(query, items), lambda: plain_masked_softmax(query, items), rounds)
    return forward, _ratio(lambda: step(ours), lambda: step(plain_masked_softmax), rounds)


def _queries(size: int) -> int:
    return FEW_QUERIES if size >= MANY_ITEMS else QUERIES


def _ratio(ours: Callable[[], object], plain: Callable[[], object], rounds: int) -> float:
    ours(), plain()
    return round(statistics.median(_seconds(ours) / _seconds(plain) for _ in range(rounds)), 3)


def _seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started
