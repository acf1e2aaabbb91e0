"""What a memory starts from, and what replaces dead items: encodings as they are, centres, and no exact repeats."""

from __future__ import annotations

import pytest
import sklearn
import torch
from packaging.version import Version
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor

from memae.config import Initialisation
from memae.memory.starting import random_items, starting_items


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def distinct(rows: Tensor) -> int:
    return len(torch.unique(rows, dim=0))


@pytest.mark.parametrize("how", ["data", "kmeans"])
def test_a_start_from_encodings_follows_the_generator_alone(how: Initialisation) -> None:
    encodings = torch.randn(60, 4, generator=source())
    started = []
    for generator in (source(1), source(1), source(2)):
        torch.rand(7)  # the global state does not matter
        before = torch.get_rng_state()
        started.append(starting_items(encodings, 8, how, generator))
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(started[0], started[1])
    assert not torch.equal(started[0], started[2])


def test_a_uniform_start_is_that_of_the_memory() -> None:
    with pytest.raises(ValueError, match="what a memory is made with"):
        starting_items(torch.zeros(9, 4), 3, "uniform", source())


def test_the_data_start_takes_different_encodings() -> None:
    encodings = torch.randn(30, 4, generator=source())
    items = starting_items(encodings, 20, "data", source(1))
    assert {tuple(row) for row in items.tolist()} <= {tuple(row) for row in encodings.tolist()}
    assert distinct(items) == 20


@pytest.mark.parametrize("how", ["data", "kmeans"])
@pytest.mark.parametrize("count", [1, 3])
def test_fewer_encodings_than_items_make_no_exact_repeats(how: Initialisation, count: int) -> None:
    encodings = torch.randn(count, 4, generator=source())
    items = starting_items(encodings, 10, how, source(1))
    assert distinct(items) == 10
    for row in encodings:  # every encoding is there, and nothing strays far
        assert (items == row).all(dim=1).any()
    assert torch.cdist(items, encodings).min(dim=1).values.max() < 0.1


@pytest.mark.parametrize("width", [1, 4])
def test_encodings_that_are_all_alike_make_no_exact_repeats(width: int) -> None:
    encodings = torch.full((50, width), 3.0)
    for some in (encodings, encodings[:1]):
        items = starting_items(some, 10, "data", source(1))
        assert distinct(items) == 10
        assert (items - 3).abs().max() < 0.2
    assert distinct(random_items(encodings, 10, source(1))) == 10


@pytest.mark.parametrize("how", ["data", "kmeans"])
def test_encodings_of_a_few_kinds_make_no_exact_repeats(how: Initialisation) -> None:
    # tables such as KDDCUP hold the same row thousands of times
    encodings = torch.randn(3, 4, generator=source()).repeat(100, 1)
    items = starting_items(encodings, 10, how, source(1))
    assert distinct(items) == 10
    assert torch.cdist(items, encodings[:3]).min(dim=1).values.max() < 0.1


def test_kmeans_finds_the_centres_of_clusters() -> None:
    centres = 10 * torch.eye(4)
    noise = 0.1 * torch.randn(4, 50, 4, generator=source())
    items = starting_items((centres[:, None] + noise).reshape(200, 4), 4, "kmeans", source(1))
    distances = torch.cdist(centres, items)
    assert distances.min(dim=1).values.max() < 0.1
    assert sorted(distances.argmin(dim=1).tolist()) == [0, 1, 2, 3]


@pytest.mark.parametrize(("count", "columns", "clusters"), [(2000, 8, 100), (400, 3, 30), (50, 2, 49), (60, 5, 1)])
def test_the_centres_are_those_of_the_library(count: int, columns: int, clusters: int) -> None:
    if clusters == 49 and Version(sklearn.__version__) < Version("1.9"):
        pytest.skip("older ones end elsewhere where nearly each sample is a centre")
    x = torch.randn(count, columns, generator=source(3))
    seed = int(torch.randint(2**31 - 1, (1,), generator=source(5)))
    expected = MiniBatchKMeans(clusters, random_state=seed, n_init=1, batch_size=max(1024, 3 * clusters))
    found = starting_items(x, clusters, "kmeans", source(5))
    assert torch.equal(found, torch.from_numpy(expected.fit(x.numpy()).cluster_centers_))
