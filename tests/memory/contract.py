"""What every memory must do: `check_memory`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from memae.autoencoder import Autoencoder
from memae.memory.base import Editable, Fillable, MemoryRead, widening
from memae.memory.usage import duplicate_pairs, use_counts

GROUPS, POSITIONS = 6, 5


def check_memory(make: Callable[[], Any], item_dim: int) -> None:
    """Fails where a memory breaks the contract of `memae.memory.base`.

    Args:
        make: gives a memory of random items, another one at each call.
        item_dim: C of these.
    """
    torch.manual_seed(0)
    queries = torch.randn(GROUPS, POSITIONS, item_dim)
    memory = make()
    assert isinstance(memory, nn.Module)
    assert memory.item_dim == item_dim
    check_read(memory.eval(), queries)
    check_gradients(memory, queries)
    check_state(make, queries)
    check_observe(make(), queries)
    check_items(make(), queries)
    check_export(make().eval(), item_dim)
    for wrong in (queries[0], queries[:, :, :-1]):
        with pytest.raises(ValueError, match=rf"takes queries \(G, T, {item_dim}\)"):
            memory.read(wrong)


def check_read(memory: Any, queries: Tensor) -> None:
    """Values, nearest items, distances and shares fit together, and a group is read for itself."""
    read, groups = memory.read(queries), queries.shape[:2]
    assert read.queries.shape == queries.shape
    assert read.values.shape == (*groups, memory.out_dim)
    assert memory.out_dim == widening(memory) * memory.item_dim
    assert read.items.shape[-2:] == (memory.num_items, memory.item_dim)
    assert read.nearest.shape == read.distance.shape == groups
    assert 0 <= int(read.nearest.min()) <= int(read.nearest.max()) < memory.num_items
    assert torch.isfinite(read.distance).all()
    assert_close(read.shares.sum(dim=2), torch.ones(groups))
    assert (read.shares >= 0).all()
    assert (read.weights is None) == (read.entropy is None)
    if read.entropy is not None:
        assert_close(read.entropy, torch.special.entr(read.weights).sum(dim=2))
    if memory.certifiable:
        assert_close(read.values, read.shares @ read.items)
    assert use_counts(read)[-2] == groups.numel()
    again = memory.read(read.queries)  # an engine asks again with the queries of a read
    assert_close(again.values, read.values)
    alone = torch.cat([memory.read(one[None]).values for one in queries])
    assert_close(alone, read.values)


def check_gradients(memory: Any, queries: Tensor) -> None:
    """Distance and values give the queries a gradient; the terms are scalars of different names with a weight."""
    queries = queries.clone().requires_grad_()
    read = memory.train().read(queries)
    for found in (read.distance, read.values):
        (gradient,) = torch.autograd.grad(found.square().sum(), queries, retain_graph=True)
        assert torch.isfinite(gradient).all()
        assert (gradient != 0).any()
    terms = memory.loss_terms(read)
    assert len({term.name for term in terms}) == len(terms)
    for term in terms:
        assert term.value.shape == ()
        assert term.weight >= 0
        (gradient,) = torch.autograd.grad(term.value, queries, retain_graph=True)
        assert torch.isfinite(gradient).all()


def check_state(make: Callable[[], Any], queries: Tensor) -> None:
    """All that a read depends on is in the `state_dict`, also after it has learnt; the mode changes no items."""
    memory, other = make(), make().eval()
    memory.observe(memory.train().read(queries))
    before = state(memory)
    memory.train().eval()
    assert same(before, memory.state_dict())
    other.load_state_dict(memory.state_dict())
    for found, wanted in zip(parts(other.read(queries)), parts(memory.read(queries)), strict=True):
        assert torch.equal(found, wanted)
    assert same(before, memory.state_dict())


def check_observe(memory: Any, queries: Tensor) -> None:
    """It says how many items changed, learns from trusted groups only, and a read stays what it was."""
    read = memory.train().read(queries)
    before, wanted = state(memory), [part.clone() for part in parts(memory.read(queries))]
    assert memory.observe(read, torch.zeros(GROUPS, dtype=torch.bool)) == 0
    assert memory.observe(read, torch.zeros(GROUPS, POSITIONS, dtype=torch.bool)) == 0
    assert before.get("items") is None or torch.equal(before["items"], memory.items)
    changed = memory.observe(read)
    for found, part in zip(parts(read), wanted, strict=True):
        assert torch.equal(found, part)
    assert (changed > 0) == memory.learns_by_observing
    if not memory.learns_by_observing:
        assert same(before, memory.state_dict())
        return
    moved = int((before["items"] != memory.items).any(dim=1).sum())
    assert 0 < moved <= changed  # one that a rule or a stream has changed twice counts twice


def check_items(memory: Any, queries: Tensor) -> None:
    """Items can be started and edited, unless a memory makes them of its input."""
    if not isinstance(memory, Fillable):
        assert not isinstance(memory, Editable)
        assert duplicate_pairs(memory) == []
        return
    check_stored_items(memory, queries)


def check_stored_items(memory: Any, queries: Tensor) -> None:
    """Encodings become its items, and further ones stand behind them."""
    rows = queries.flatten(0, 1)
    memory.initialise(rows)
    pattern = torch.cosine_similarity(memory.items, rows[: memory.num_items])
    assert_close(pattern, torch.ones(memory.num_items))
    assert memory.directional or torch.equal(memory.items, rows[: memory.num_items])
    for wrong in (rows[: memory.num_items - 1], rows[:, :-1]):
        with pytest.raises(ValueError, match="cannot start from encodings"):
            memory.initialise(wrong)
    count, before = memory.num_items, memory.items.detach().clone()
    memory.replace(torch.tensor([1]), rows[-1:])
    assert (before != memory.items).any(dim=1).nonzero().flatten().tolist() == [1]
    memory.extend(rows[-2:])
    assert memory.num_items == count + 2
    assert memory.read(queries).items.shape == (count + 2, memory.item_dim)
    memory.observe(memory.train().read(queries))


def check_export(memory: Any, item_dim: int) -> None:
    """A network with this memory becomes a graph that gives the same."""
    decoder = nn.Conv1d(memory.out_dim, 2, 1)
    net = Autoencoder(nn.Conv1d(2, item_dim, 1), memory, decoder).eval()
    x = torch.randn(3, 2, POSITIONS)
    with torch.no_grad():
        program = torch.export.export(Rebuilds(net), (x,)).module()
        assert_close(program(x), net(x).x)


class Rebuilds(nn.Module):
    """The reconstruction alone, as the engines convert it."""

    def __init__(self, net: Autoencoder) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        rebuilt: Tensor = self.net(x).x
        return rebuilt


def parts(read: MemoryRead) -> tuple[Tensor, ...]:
    """What a read gives, as tensors."""
    return read.values, read.nearest, read.distance, read.shares


def state(memory: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in memory.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
