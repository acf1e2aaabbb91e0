"""How a memory is used: counts, health, and items that say the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict

import pytest
import torch

from memae.autoencoder import mean_shares
from memae.memory.base import MemoryRead
from memae.memory.memae import MemAE
from memae.memory.ops import Similarity
from memae.memory.usage import MemoryHealth, duplicate_count, duplicate_pairs, memory_health, use_counts


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_duplicates_are_the_pairs_that_point_the_same_way() -> None:
    memory = MemAE(5, 2)
    angle = math.acos(0.99)
    with torch.no_grad():
        memory.items.copy_(
            torch.tensor(
                [
                    [1.0, 0.0],
                    [math.cos(angle * 0.99), math.sin(angle * 0.99)],  # a duplicate of the first
                    [0.0, 5.0],
                    [math.cos(angle * 2.01), math.sin(angle * 2.01)],  # of none
                    [0.0, 0.1],  # of the third
                ]
            )
        )
    assert duplicate_pairs(memory) == [(0, 1), (2, 4)]


@pytest.mark.parametrize("similarity", ["cosine", "euclidean"])
@pytest.mark.parametrize("pairs", [1, 40])  # compared at a time: one row, three rows and a last one of one
def test_duplicates_are_found_over_blocks(
    monkeypatch: pytest.MonkeyPatch, similarity: Similarity, pairs: int
) -> None:
    memory = MemAE(10, 3, similarity=similarity, shrinkage=0.0)
    with torch.no_grad():
        memory.items[[4, 9]] = memory.items[[0, 7]] * 1.001
    wanted, count = duplicate_pairs(memory), duplicate_count(memory)
    monkeypatch.setattr("memae.memory.usage.COMPARED_ELEMENTS", pairs)
    assert duplicate_pairs(memory) == wanted
    assert {(0, 4), (7, 9)} <= set(wanted)
    assert duplicate_count(memory) == count


def synthetic_read(
    weights: list[list[float]] | None, fallback: list[bool] | None, nearest: Sequence[int] = ()
) -> MemoryRead:
    count = len(nearest or weights or ())
    queries, items = torch.ones(1, count, 2), torch.zeros(4, 2)
    return MemoryRead(
        queries,
        queries,
        items,
        lambda: (torch.tensor([nearest]), torch.zeros(1, count)),
        weights=None if weights is None else torch.tensor([weights]),
        fallback=None if fallback is None else torch.tensor([fallback]),
    )


def test_health_of_a_hand_made_case() -> None:
    memory = MemAE(4, 2)
    with torch.no_grad():
        memory.items.copy_(torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]))
    counts = use_counts(synthetic_read([[0.5, 0, 0.5, 0], [0, 0, 1, 0], [0.2, 0, 0.8, 0]], [False, True, False]))
    assert counts.tolist() == [2, 0, 3, 0, 3, 1]
    counts += use_counts(synthetic_read([[0, 0, 1, 0]], [False]))
    assert counts.tolist() == [2, 0, 4, 0, 4, 1]
    assert memory_health(memory, counts) == MemoryHealth(
        items=4, items_used=2, items_dead=2, items_duplicate=2, items_per_query=6 / 4, fallback_share=1 / 4
    )
    # two processes add up their counts
    both = memory_health(memory, counts + torch.tensor([0, 1, 0, 0, 1, 1]))
    assert (both.items_used, both.items_dead, both.items_per_query, both.fallback_share) == (3, 1, 7 / 5, 2 / 5)


def test_of_a_read_without_weights_the_nearest_item_counts() -> None:
    assert use_counts(synthetic_read(None, None, [2, 0, 2])).tolist() == [1, 0, 2, 0, 3, 0]


def test_health_before_any_read() -> None:
    memory = MemAE(4, 2)
    health = memory_health(memory, torch.zeros(6, dtype=torch.long))
    assert (health.items_used, health.items_dead, health.items_per_query, health.fallback_share) == (0, 4, 0, 0)


def test_health_agrees_with_the_reads_of_a_real_memory() -> None:
    memory = MemAE(12, 3, temperature=0.2, shrinkage=4.0)
    memory.initialise(torch.randn(12, 3, generator=source(2)))
    reads = [memory.read(torch.randn(8, 2, 3, generator=source(seed))) for seed in (0, 1)]
    weights = torch.cat([read.weights for read in reads if read.weights is not None])
    health = memory_health(memory, use_counts(reads[0]) + use_counts(reads[1]))
    assert health.items_used == int((weights > 0).any(dim=(0, 1)).sum())
    assert health.items_per_query == pytest.approx(float((weights > 0).sum()) / 32)
    assert health.fallback_share == pytest.approx(
        float(torch.cat([read.fallback for read in reads if read.fallback is not None]).float().mean())
    )
    assert 0 < health.fallback_share < 1


def test_duplicates_by_distance_lie_close_for_their_spread_and_direction_is_nothing() -> None:
    memory = MemAE(5, 2, similarity="euclidean", shrinkage=0.0)
    with torch.no_grad():
        memory.items.copy_(torch.tensor([[1.0, 1.0], [2.0, 2.0], [2.0, 2.05], [-1.0, -1.0], [-2.0, 0.0]]))
    assert duplicate_pairs(memory) == [(1, 2)]
    with torch.no_grad():
        memory.items.add_(100.0)  # every direction is the same now, and no distance has changed
    assert duplicate_pairs(memory) == [(1, 2)]


def test_the_duplicate_count_is_of_the_items_in_any_pair() -> None:
    memory = MemAE(5, 2)
    with torch.no_grad():
        memory.items.copy_(torch.tensor([[1.0, 0.0], [2.0, 0.001], [0.0, 1.0], [1.0, 0.002], [-1.0, 0.0]]))
    assert duplicate_pairs(memory) == [(0, 1), (0, 3), (1, 3)]
    assert duplicate_count(memory) == 3


def test_health_is_read_under_old_names_too() -> None:
    old = {
        "items": 4,
        "items_used": 2,
        "items_dead": 2,
        "items_twin": 1,
        "items_per_query": 1.5,
        "rescued_share": 0.5,
    }
    health = MemoryHealth(
        items=4, items_used=2, items_dead=2, items_duplicate=1, items_per_query=1.5, fallback_share=0.5
    )
    assert MemoryHealth.of(old) == MemoryHealth.of(asdict(health)) == health


def test_a_query_that_was_not_asked_counts_for_nothing() -> None:
    memory = MemAE(3, 2, temperature=0.01)
    with torch.no_grad():
        memory.items.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]))
    read = memory.read(torch.tensor([[[0.0, 0.0], [0.0, 2.0], [1.0, 0.0], [0.0, 0.0]]]))
    asked = read.queries.any(dim=2)
    assert use_counts(read, asked).tolist() == [1, 1, 0, 2, 0]
    assert mean_shares(read.shares, asked).tolist() == [[0.5, 0.5, 0.0]]
