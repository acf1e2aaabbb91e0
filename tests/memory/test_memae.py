"""The memory module: encodings of every shape, ways to start, revival, twins and health."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from memae.memory.memae import MemoryHealth, MemoryModule, memory_health, use_counts
from memae.memory.ops import MemoryRead, read_memory


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def distinct(rows: Tensor) -> int:
    return len(torch.unique(rows, dim=0))


@pytest.mark.parametrize("shape", [(6, 4), (2, 4, 3, 5), (2, 4, 2, 3, 2), (3, 4, 7)])
def test_a_position_read_has_the_shape_of_the_encoding_and_one_query_a_place(shape: tuple[int, ...]) -> None:
    memory = MemoryModule(9, 4, temperature=0.1)
    read = memory(torch.randn(shape, generator=source()))
    queries = math.prod(shape) // 4
    assert read.value.shape == shape
    assert read.weights.shape == (queries, 9)
    assert read.entropy.shape == read.rescued.shape == (queries,)


@pytest.mark.parametrize("shape", [(2, 4, 3, 5), (2, 4, 2, 3, 2)])
def test_a_place_of_a_position_read_is_the_read_of_its_vector_alone(shape: tuple[int, ...]) -> None:
    memory = MemoryModule(9, 4, temperature=0.1)
    encoding = torch.randn(shape, generator=source())
    read = memory(encoding)
    places = itertools.product(*(range(n) for n in (shape[0], *shape[2:])))
    for row, (sample, *place) in enumerate(places):
        alone = memory(encoding[(sample, slice(None), *place)][None])
        assert_close(read.value[(sample, slice(None), *place)], alone.value[0])
        assert_close(read.weights[row], alone.weights[0])
        assert_close(read.entropy[row], alone.entropy[0])


def test_a_whole_read_asks_once_for_the_flattened_encoding() -> None:
    memory = MemoryModule(9, 4 * 3 * 5, query="whole", temperature=0.1)
    encoding = torch.randn(2, 4, 3, 5, generator=source())
    read = memory(encoding)
    assert read.value.shape == encoding.shape
    assert read.weights.shape == (2, 9)
    flat = read_memory(encoding.reshape(2, 60), memory.items, temperature=0.1)
    assert torch.equal(read.value, flat.value.reshape(2, 4, 3, 5))


def test_whole_and_position_are_the_same_for_vectors() -> None:
    whole, position = (MemoryModule(9, 4, query=query, temperature=0.1) for query in ("whole", "position"))
    position.load_state_dict(whole.state_dict())
    encoding = torch.randn(5, 4, generator=source())
    for one, other in zip(whole(encoding), position(encoding), strict=True):
        assert torch.equal(one, other)


def test_the_settings_reach_the_read() -> None:
    memory = MemoryModule(9, 4, similarity="dot", temperature=0.7, shrinkage=3.0)
    encoding = torch.randn(5, 4, generator=source())
    wanted = read_memory(encoding, memory.items, similarity="dot", temperature=0.7, shrinkage=3.0)
    assert torch.equal(memory(encoding).weights, wanted.weights)
    assert "9 x 4, query=position, similarity=dot, temperature=0.7, shrinkage=3/N" in repr(memory)


def test_items_start_within_one_over_root_c() -> None:
    items = MemoryModule(200, 16).items
    assert items.abs().max() <= 0.25
    assert items.max() > 0.24
    assert items.min() < -0.24


@pytest.mark.parametrize("encoding", [(2, 5), (2, 5, 3, 3)])
def test_an_encoding_of_another_width_is_refused(encoding: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"4-d items .* shape \(2, 5.*5-d queries \(position\)"):
        MemoryModule(9, 4)(torch.zeros(encoding))


def test_a_whole_encoding_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"4-d items .* 36-d queries \(whole\)"):
        MemoryModule(9, 4, query="whole")(torch.zeros(2, 4, 3, 3))


def test_an_encoding_without_a_batch_axis_is_refused() -> None:
    with pytest.raises(ValueError, match=r"batch and a channel axis; got shape \(4,\)"):
        MemoryModule(9, 4)(torch.zeros(4))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_items": 0, "item_dim": 4}, "at least 1; got 0 and 4"),
        ({"num_items": 3, "item_dim": 0}, "at least 1; got 3 and 0"),
        ({"num_items": 3, "item_dim": 4, "temperature": 0.0}, "temperature must be above 0; got 0.0"),
        ({"num_items": 3, "item_dim": 4, "shrinkage": 3.0}, r"\[0, 3\); got 3.0"),
        ({"num_items": 3, "item_dim": 4, "shrinkage": -1.0}, r"\[0, 3\); got -1.0"),
    ],
)
def test_sizes_and_settings_out_of_range_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MemoryModule(**arguments)


def test_a_state_dict_brings_the_items_and_nothing_else() -> None:
    memory, other = MemoryModule(9, 4), MemoryModule(9, 4)
    assert list(memory.state_dict()) == ["items"]
    assert not torch.equal(memory.items, other.items)
    other.load_state_dict(memory.state_dict())
    assert torch.equal(memory.items, other.items)


def test_the_uniform_start_is_a_draw_of_the_generator() -> None:
    memory, other, another = (MemoryModule(50, 16) for _ in range(3))
    memory.initialise(torch.zeros(0, 16), "uniform", source(1))
    other.initialise(torch.zeros(0, 16), "uniform", source(1))
    another.initialise(torch.zeros(0, 16), "uniform", source(2))
    assert torch.equal(memory.items, other.items)
    assert not torch.equal(memory.items, another.items)
    assert memory.items.abs().max() <= 0.25
    assert memory.items.std().item() == pytest.approx(0.25 / math.sqrt(3), rel=0.1)


@pytest.mark.parametrize("how", ["data", "kmeans"])
def test_a_start_from_encodings_follows_the_generator_alone(how: str) -> None:
    encodings = torch.randn(60, 4, generator=source())
    started = []
    for generator in (source(1), source(1), source(2)):
        torch.rand(7)  # the global state does not matter
        memory = MemoryModule(8, 4)
        before = torch.get_rng_state()
        memory.initialise(encodings, how, generator)
        assert torch.equal(torch.get_rng_state(), before)
        started.append(memory.items.detach())
    assert torch.equal(started[0], started[1])
    assert not torch.equal(started[0], started[2])


@pytest.mark.parametrize(
    ("shape", "query"), [((30, 4), "position"), ((10, 4, 3, 2), "position"), ((30, 2, 2), "whole")]
)
def test_the_data_start_takes_different_encodings(shape: tuple[int, ...], query: str) -> None:
    encodings = torch.randn(shape, generator=source())
    memory = MemoryModule(20, 4, query=query)
    memory.initialise(encodings, "data", source(1))
    rows = {tuple(row) for row in memory.queries(encodings).tolist()}
    assert {tuple(row) for row in memory.items.tolist()} <= rows
    assert distinct(memory.items) == 20
    assert memory.items.requires_grad


@pytest.mark.parametrize("how", ["data", "kmeans"])
@pytest.mark.parametrize("count", [1, 3])
def test_fewer_encodings_than_items_make_no_exact_repeats(how: str, count: int) -> None:
    encodings = torch.randn(count, 4, generator=source())
    memory = MemoryModule(10, 4)
    memory.initialise(encodings, how, source(1))
    assert distinct(memory.items) == 10
    for row in encodings:  # every encoding is there, and nothing strays far
        assert (memory.items == row).all(dim=1).any()
    assert torch.cdist(memory.items, encodings).min(dim=1).values.max() < 0.1


@pytest.mark.parametrize("width", [1, 4])
def test_encodings_that_are_all_alike_make_no_exact_repeats(width: int) -> None:
    encodings = torch.full((50, width), 3.0)
    memory = MemoryModule(10, width)
    for some in (encodings, encodings[:1]):
        memory.initialise(some, "data", source(1))
        assert distinct(memory.items) == 10
        assert (memory.items - 3).abs().max() < 0.2
    memory.revive(torch.arange(10), encodings, source(1))
    assert distinct(memory.items) == 10


@pytest.mark.parametrize("how", ["data", "kmeans"])
def test_encodings_of_a_few_kinds_make_no_exact_repeats(how: str) -> None:
    # tables such as KDDCUP hold the same row thousands of times
    encodings = torch.randn(3, 4, generator=source()).repeat(100, 1)
    memory = MemoryModule(10, 4)
    memory.initialise(encodings, how, source(1))
    assert distinct(memory.items) == 10
    assert torch.cdist(memory.items, encodings[:3]).min(dim=1).values.max() < 0.1


def test_kmeans_finds_the_centres_of_clusters() -> None:
    centres = 10 * torch.eye(4)
    noise = 0.1 * torch.randn(4, 50, 4, generator=source())
    memory = MemoryModule(4, 4)
    memory.initialise((centres[:, None] + noise).reshape(200, 4), "kmeans", source(1))
    distances = torch.cdist(centres, memory.items)
    assert distances.min(dim=1).values.max() < 0.1
    assert sorted(distances.argmin(dim=1).tolist()) == [0, 1, 2, 3]


def test_revival_replaces_the_dead_items_alone() -> None:
    memory = MemoryModule(6, 4)
    before = memory.items.detach().clone()
    encodings = torch.randn(5, 4, 3, 2, generator=source())
    dead = torch.tensor([4, 1])
    memory.revive(dead, encodings, source(1))
    alive = [0, 2, 3, 5]
    assert torch.equal(memory.items[alive], before[alive])
    rows = {tuple(row) for row in memory.queries(encodings).tolist()}
    assert {tuple(row) for row in memory.items[dead].tolist()} <= rows
    assert distinct(memory.items) == 6

    again = MemoryModule(6, 4)
    again.load_state_dict({"items": before})
    again.revive(dead, encodings, source(1))
    assert torch.equal(again.items, memory.items)


def test_twins_are_the_pairs_that_point_the_same_way() -> None:
    memory = MemoryModule(5, 2)
    angle = math.acos(0.99)
    with torch.no_grad():
        memory.items.copy_(
            torch.tensor(
                [
                    [1.0, 0.0],
                    [math.cos(angle * 0.99), math.sin(angle * 0.99)],  # a twin of the first
                    [0.0, 5.0],
                    [math.cos(angle * 2.01), math.sin(angle * 2.01)],  # of none
                    [0.0, 0.1],  # of the third
                ]
            )
        )
    assert memory.twins() == [(0, 1), (2, 4)]


@pytest.mark.parametrize("similarity", ["cosine", "euclidean"])
@pytest.mark.parametrize("pairs", [1, 40])  # compared at a time: one row, three rows and a last one of one
def test_twins_are_found_over_blocks(monkeypatch, similarity: str, pairs: int) -> None:
    memory = MemoryModule(10, 3, similarity=similarity, shrinkage=0.0)
    with torch.no_grad():
        memory.items[[4, 9]] = memory.items[[0, 7]] * 1.001
    wanted, count = memory.twins(), memory.twin_count()
    monkeypatch.setattr("memae.memory.memae.TWIN_ELEMENTS", pairs)
    assert memory.twins() == wanted
    assert {(0, 4), (7, 9)} <= set(wanted)
    assert memory.twin_count() == count


def made_up_read(weights: list[list[float]], rescued: list[bool]) -> MemoryRead:
    table = torch.tensor(weights)
    return MemoryRead(torch.zeros(len(table), 2), table, torch.zeros(len(table)), torch.tensor(rescued))


def test_health_of_a_hand_made_case() -> None:
    memory = MemoryModule(4, 2)
    with torch.no_grad():
        memory.items.copy_(torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]))
    counts = use_counts(made_up_read([[0.5, 0, 0.5, 0], [0, 0, 1, 0], [0.2, 0, 0.8, 0]], [False, True, False]))
    assert counts.tolist() == [2, 0, 3, 0, 3, 1]
    counts += use_counts(made_up_read([[0, 0, 1, 0]], [False]))
    assert counts.tolist() == [2, 0, 4, 0, 4, 1]
    assert memory_health(memory, counts) == MemoryHealth(
        items=4, items_used=2, items_dead=2, items_twin=2, items_per_query=6 / 4, rescued_share=1 / 4
    )
    # two processes add up their counts
    both = memory_health(memory, counts + torch.tensor([0, 1, 0, 0, 1, 1]))
    assert (both.items_used, both.items_dead, both.items_per_query, both.rescued_share) == (3, 1, 7 / 5, 2 / 5)


def test_health_before_any_read() -> None:
    memory = MemoryModule(4, 2)
    health = memory_health(memory, torch.zeros(6, dtype=torch.long))
    assert (health.items_used, health.items_dead, health.items_per_query, health.rescued_share) == (0, 4, 0, 0)


def test_health_agrees_with_the_reads_of_a_real_memory() -> None:
    memory = MemoryModule(12, 3, temperature=0.2, shrinkage=4.0)
    memory.initialise(torch.zeros(0, 3), "uniform", source(2))
    reads = [memory(torch.randn(8, 3, 2, generator=source(seed))) for seed in (0, 1)]
    weights = torch.cat([read.weights for read in reads])
    health = memory_health(memory, use_counts(reads[0]) + use_counts(reads[1]))
    assert health.items_used == int((weights > 0).any(dim=0).sum())
    assert health.items_per_query == pytest.approx(float((weights > 0).sum()) / 32)
    assert health.rescued_share == pytest.approx(float(torch.cat([read.rescued for read in reads]).float().mean()))
    assert 0 < health.rescued_share < 1


def test_twins_by_distance_lie_close_for_their_spread_and_direction_is_nothing() -> None:
    memory = MemoryModule(5, 2, similarity="euclidean", shrinkage=0.0)
    with torch.no_grad():
        memory.items.copy_(torch.tensor([[1.0, 1.0], [2.0, 2.0], [2.0, 2.05], [-1.0, -1.0], [-2.0, 0.0]]))
    assert memory.twins() == [(1, 2)]
    with torch.no_grad():
        memory.items.add_(100.0)  # every direction is the same now, and no distance has changed
    assert memory.twins() == [(1, 2)]


def test_the_twin_count_is_of_the_items_in_any_pair() -> None:
    memory = MemoryModule(5, 2)
    with torch.no_grad():
        memory.items.copy_(torch.tensor([[1.0, 0.0], [2.0, 0.001], [0.0, 1.0], [1.0, 0.002], [-1.0, 0.0]]))
    assert memory.twins() == [(0, 1), (0, 3), (1, 3)]
    assert memory.twin_count() == 3
