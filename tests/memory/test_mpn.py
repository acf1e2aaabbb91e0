"""MPN's unit against its formulas: attention, prototypes, the read and its two penalties."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from memae.errors import ConfigError
from memae.memory.base import MemoryRead
from memae.memory.mpn import MPN


def unit(**numbers: Any) -> MPN:
    torch.manual_seed(0)
    made = MPN(3, 4, **numbers)
    torch.nn.init.normal_(made.attention.weight)
    return made


QUERIES = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(1))


def test_the_read_is_that_of_the_formulas() -> None:
    made = unit()
    read = made.read(QUERIES)
    for group, queries in enumerate(QUERIES):
        q = queries / queries.norm(dim=1, keepdim=True)
        attention = torch.softmax(q @ made.attention.weight.T, dim=0)
        assert_close(attention.sum(dim=0), torch.ones(3))  # over the positions
        prototypes = F.normalize(torch.stack([(attention[:, m, None] * q).sum(dim=0) for m in range(3)]), dim=1)
        weights = torch.softmax(q @ prototypes.T, dim=1)
        assert_close(read.items[group], prototypes)
        assert_close(read.values[group], q + F.normalize(weights @ prototypes, dim=1))
        assert_close(read.distance[group], (q[:, None] - prototypes).square().sum(dim=2).amin(dim=1))
        assert torch.equal(read.nearest[group], (q @ prototypes.T).argmax(dim=1))


def test_prototypes_lie_in_the_hull_of_the_queries_before_they_are_normalised() -> None:
    made = unit()
    q = F.normalize(QUERIES, dim=2)
    attention = torch.softmax(made.attention(q), dim=1)
    assert (attention > 0).all()
    hull = attention.transpose(1, 2) @ q
    assert_close(F.normalize(hull, dim=2), made.read(QUERIES).items)
    assert (hull.norm(dim=2) <= 1).all()


def test_positions_that_change_places_change_the_values_alike() -> None:
    made, order = unit(), torch.tensor([3, 0, 5, 1, 4, 2])
    assert_close(made.read(QUERIES[:, order]).values, made.read(QUERIES).values[:, order])
    assert_close(made.read(QUERIES[:, order]).items, made.read(QUERIES).items)


def test_compactness_is_the_mean_square_over_positions_and_channels() -> None:
    made = unit(compactness_weight=0.7)
    read = made.read(QUERIES)
    nearest = torch.stack([items[place] for items, place in zip(read.items, read.nearest, strict=True)])
    (term, _) = made.loss_terms(read)
    assert term[:2] == ("compactness", 0.7)
    assert_close(term.value, (read.queries - nearest).square().mean())


def diversity(items: Tensor) -> float:
    made = MPN(items.shape[0], items.shape[1])
    queries = torch.zeros(1, 1, items.shape[1])
    read = MemoryRead(queries, queries, items[None], lambda: (torch.zeros(1, 1).long(), torch.zeros(1, 1)))
    return float(made.loss_terms(read)[1].value)


def test_diversity_is_nothing_for_orthogonal_and_one_for_equal_prototypes() -> None:
    assert diversity(torch.eye(4)) == 0
    assert diversity(torch.eye(4)[:1].repeat(3, 1)) == pytest.approx(1)
    cosine = 0.8  # |p_1 - p_2|^2 = .4
    two = torch.tensor([[1.0, 0.0, 0.0], [cosine, 0.6, 0.0], [0.0, 0.0, 1.0]])
    assert diversity(two) == pytest.approx(0.6 / 3)
    assert diversity(torch.eye(4)[:1]) == 0


def test_a_gradient_reaches_the_attention_and_the_queries_through_every_part() -> None:
    made, queries = unit(), QUERIES.clone().requires_grad_()
    read = made.read(queries)
    compactness, different = made.loss_terms(read)
    for loss in (read.values.square().sum(dim=2).std(), compactness.value, different.value):
        for gradient in torch.autograd.grad(loss, [made.attention.weight, queries], retain_graph=True):
            assert gradient.abs().max() > 1e-6


def test_nothing_of_a_sample_is_kept() -> None:
    made = unit()
    assert list(made.state_dict()) == ["attention.weight"]
    assert made.observe(made.read(QUERIES)) == 0
    assert not made.learns_by_observing


class Largest(TorchDispatchMode):
    """Remembers the most numbers of any tensor that was made."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has no annotation
        self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        self.numbers = max(self.numbers, found.numel() if isinstance(found, Tensor) else 0)
        return found


def test_memory_use_grows_with_the_positions_times_the_wider_of_items_and_channels() -> None:
    made, queries = MPN(10, 16), torch.randn(1, 4096, 16)
    with Largest() as largest:
        read = made.read(queries)
        sum(term.value for term in made.loss_terms(read)).backward()
    assert largest.numbers == 4096 * 16


@pytest.mark.parametrize("shape", [(3, 1, 4), (1, 1, 4)])
def test_a_sample_of_one_query_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"a single query, as every row of a table is; take memory\.query"):
        unit().read(torch.zeros(shape))


def test_sizes_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1; got 0 and 4"):
        MPN(0, 4)
