"""MemAE behind the interface of memories: its numbers, its start, its read and its loss; and items that are edited."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from memae.memory.base import Editable
from memae.memory.memae import MemAE
from memae.memory.ops import Similarity, read_memory


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_settings_reach_the_read() -> None:
    memory = MemAE(9, 4, similarity="dot", temperature=0.7, shrinkage=3.0)
    queries = torch.randn(5, 3, 4, generator=source())
    wanted = read_memory(queries.flatten(0, 1), memory.items, similarity="dot", temperature=0.7, shrinkage=3.0)
    read = memory.read(queries)
    for found, expected in zip((read.values, read.weights, read.entropy, read.fallback), wanted, strict=True):
        assert torch.equal(found.flatten(0, 1), expected)
    assert read.queries is queries
    assert read.items is memory.items
    assert "9 x 4, similarity=dot, temperature=0.7, shrinkage=3/N, entropy_weight=0.0002" in repr(memory)


def test_items_start_within_one_over_root_c() -> None:
    items = MemAE(200, 16).items
    assert items.abs().max() <= 0.25
    assert items.max() > 0.24
    assert items.min() < -0.24


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
def test_sizes_and_settings_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MemAE(**arguments)


def test_a_state_dict_brings_the_items_and_nothing_else() -> None:
    memory, other = MemAE(9, 4), MemAE(9, 4)
    assert list(memory.state_dict()) == ["items"]
    assert not torch.equal(memory.items, other.items)
    other.load_state_dict(memory.state_dict())
    assert torch.equal(memory.items, other.items)


def test_the_loss_is_the_mean_entropy_with_its_weight() -> None:
    memory, queries = MemAE(9, 4, shrinkage=0.0, entropy_weight=0.3), torch.randn(5, 3, 4, generator=source())
    read = memory.read(queries)
    (term,) = memory.loss_terms(read)
    assert term[:2] == ("entropy", 0.3)
    assert_close(term.value, -(read.weights * read.weights.log()).sum(dim=2).mean())
    assert MemAE(9, 4, entropy_weight=0.0).loss_terms(read) == ()


@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean"])
def test_the_nearest_item_and_its_distance_are_those_of_all_items_compared(similarity: Similarity) -> None:
    memory = MemAE(9, 4, similarity=similarity, temperature=0.1)
    queries = torch.randn(5, 3, 4, generator=source(), requires_grad=True)
    read = memory.read(queries)
    apart = queries[:, :, None] - memory.items
    distances = {
        "cosine": 1 - torch.cosine_similarity(queries[:, :, None], memory.items, dim=3),
        "dot": -(queries @ memory.items.T),
        "euclidean": apart.square().sum(dim=3),
    }[similarity]
    assert torch.equal(read.nearest, distances.argmin(dim=2))
    assert_close(read.distance, distances.amin(dim=2))
    (gradient,) = torch.autograd.grad(read.distance.sum(), queries)
    assert (gradient != 0).any(dim=2).all()


@pytest.mark.parametrize("queries", [(5, 4), (2, 3, 5)])
def test_queries_of_another_shape_are_refused(queries: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"takes queries \(G, T, 4\); got shape"):
        MemAE(9, 4).read(torch.zeros(queries))


def test_it_learns_nothing_by_observing() -> None:
    memory = MemAE(9, 4)
    before = memory.items.detach().clone()
    assert memory.observe(memory.read(torch.randn(2, 3, 4))) == 0
    assert torch.equal(memory.items, before)


def test_the_first_encodings_become_the_items() -> None:
    memory, encodings = MemAE(6, 4), torch.randn(9, 4, generator=source())
    memory.initialise(encodings)
    assert torch.equal(memory.items, encodings[:6])
    assert memory.items.requires_grad
    for wrong in (encodings[:5], encodings[:, :3]):
        with pytest.raises(ValueError, match="6 items of 4 numbers cannot start"):
            memory.initialise(wrong)


def test_items_can_be_replaced_and_become_more() -> None:
    memory, new = MemAE(6, 4), torch.randn(2, 4, generator=source())
    before = memory.items.detach().clone()
    assert isinstance(memory, Editable)
    memory.replace(torch.tensor([4, 1]), new)
    assert torch.equal(memory.items[[4, 1]], new)
    assert torch.equal(memory.items[[0, 2, 3, 5]], before[[0, 2, 3, 5]])
    memory.extend(new)
    assert memory.num_items == 8
    assert torch.equal(memory.items[6:], new)
    assert isinstance(memory.items, nn.Parameter)
    assert list(memory.state_dict()) == ["items"]
