"""The autoencoder: how maps of every shape become the queries of a memory and back, skips, and no memory at all."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from memae.autoencoder import Autoencoder
from memae.config import Query
from memae.memory.base import MemoryRead
from memae.memory.memae import MemAE
from memae.memory.mnad import MNAD
from memae.memory.ops import read_memory


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def around(memory: Any, query: Query | None = None) -> Autoencoder:
    return Autoencoder(nn.Identity(), memory, nn.Identity(), query)


@pytest.mark.parametrize("shape", [(6, 4), (2, 4, 3, 5), (2, 4, 2, 3, 2), (3, 4, 7), (0, 4), (0, 4, 3, 5)])
def test_a_position_read_has_the_shape_of_the_encoding_and_one_query_a_place(shape: tuple[int, ...]) -> None:
    model = around(MemAE(9, 4, temperature=0.1))
    made = model(torch.randn(shape, generator=source()))
    places = math.prod(shape[2:])
    assert made.x.shape == shape
    assert made.positions == shape[2:]
    assert made.read.weights.shape == (shape[0], places, 9)
    assert made.read.values.shape == made.read.queries.shape == (shape[0], places, 4)
    assert made.read.entropy.shape == made.read.fallback.shape == (shape[0], places)


@pytest.mark.parametrize("shape", [(2, 4, 3, 5), (2, 4, 2, 3, 2)])
def test_a_place_of_a_position_read_is_the_read_of_its_vector_alone(shape: tuple[int, ...]) -> None:
    model = around(MemAE(9, 4, temperature=0.1))
    encoding = torch.randn(shape, generator=source())
    values, read = model.read(encoding)
    weights = read.weights.view(shape[0], *shape[2:], 9)
    for sample, *place in itertools.product(*(range(n) for n in (shape[0], *shape[2:]))):
        at: Any = (sample, slice(None), *place)
        alone, lone = model.read(encoding[at][None])
        assert_close(values[at], alone[0])
        assert_close(weights[(sample, *place)], lone.weights[0, 0])


def test_a_whole_read_asks_once_for_the_flattened_encoding() -> None:
    memory = MemAE(9, 4 * 3 * 5, temperature=0.1)
    encoding = torch.randn(2, 4, 3, 5, generator=source())
    made = around(memory, "whole")(encoding)
    assert made.x.shape == encoding.shape
    assert made.positions == ()
    assert made.read.weights.shape == (2, 1, 9)
    flat = read_memory(encoding.reshape(2, 60), memory.items, temperature=0.1)
    assert torch.equal(made.x, flat.value.reshape(2, 4, 3, 5))


def test_whole_and_position_are_the_same_for_vectors() -> None:
    memory, encoding = MemAE(9, 4, temperature=0.1), torch.randn(5, 4, generator=source())
    whole, position = (around(memory, query)(encoding) for query in ("whole", "position"))
    assert torch.equal(whole.x, position.x)
    assert torch.equal(whole.read.weights, position.read.weights)


@pytest.mark.parametrize("encoding", [(2, 5), (2, 5, 3, 3)])
def test_an_encoding_of_another_width_is_refused(encoding: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"4-d items .* shape \(2, 5.*5-d queries \(position\)"):
        around(MemAE(9, 4))(torch.zeros(encoding))


def test_a_whole_encoding_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"4-d items .* 36-d queries \(whole\)"):
        around(MemAE(9, 4), "whole")(torch.zeros(2, 4, 3, 3))


def test_an_encoding_without_a_batch_axis_is_refused() -> None:
    with pytest.raises(ValueError, match=r"batch and a channel axis; got shape \(4,\)"):
        around(MemAE(9, 4))(torch.zeros(4))


class Beside(nn.Module):
    """A memory that hands on each query beside the first item: values twice as wide as queries."""

    num_items, certifiable, learns_by_observing = 1, False, False

    def __init__(self, item_dim: int) -> None:
        super().__init__()
        self.item_dim, self.out_dim = item_dim, 2 * item_dim

    def read(self, queries: Tensor) -> MemoryRead:
        item = torch.ones(1, self.item_dim)
        values = torch.cat([queries, item.expand_as(queries)], dim=2)
        return MemoryRead(
            queries, values, item, lambda: (queries.new_zeros(queries.shape[:2]).long(), queries[..., 0])
        )


@pytest.mark.parametrize(("query", "width"), [("position", 4), ("whole", 4 * 3 * 5)])
def test_values_wider_than_queries_become_channels(query: Query, width: int) -> None:
    encoding = torch.randn(2, 4, 3, 5, generator=source())
    made = around(Beside(width), query)(encoding)
    assert made.x.shape == (2, 8, 3, 5)
    assert torch.equal(made.x[:, :4], encoding)
    assert torch.equal(made.x[:, 4:], torch.ones_like(encoding))
    assert torch.equal(made.read.shares, torch.ones(2, 60 // width, 1))


@pytest.mark.parametrize("shape", [(4,), (4, 3, 5), (4, 2, 3, 2)])
@pytest.mark.parametrize("query", ["position", "whole"])
def test_an_item_alone_is_what_a_memory_that_holds_nothing_else_answers(
    shape: tuple[int, ...], query: Query
) -> None:
    width = 4 if query == "position" else math.prod(shape)
    model = around(MemAE(3, width), query)
    alone = model.items_alone(shape)
    assert alone.shape == (3, *shape)
    for item, found in zip(model.memory.items, alone, strict=True):
        model.memory = MemAE(1, width, shrinkage=0)
        model.memory.initialise(item.detach()[None])
        assert_close(model(torch.randn(1, *shape, generator=source())).x[0], found)


class TwiceAsWide(MemAE):
    out_dim = 8


def test_an_item_alone_stands_in_the_place_of_the_query_too() -> None:
    model = around(TwiceAsWide(3, 4))
    assert torch.equal(model.items_alone((4, 2, 5))[1, :, 1, 3], torch.cat(2 * [model.memory.items[1]]))


class WithSkip(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        return x[:, :4], (x[:, 4:],)


class Joined(nn.Module):
    def forward(self, values: Tensor, skips: tuple[Tensor, ...]) -> Tensor:
        return torch.cat([values, *skips], dim=1)


@pytest.mark.parametrize("memory", [True, False])
def test_skips_go_past_the_memory(memory: bool) -> None:
    items = MemAE(9, 4, temperature=0.1) if memory else None
    model, x = Autoencoder(WithSkip(), items, Joined()), torch.randn(5, 6, generator=source())
    made = model(x)
    assert torch.equal(made.x[:, 4:], x[:, 4:])
    assert torch.equal(made.x[:, :4], x[:, :4]) != memory
    assert torch.equal(model.encode(x), x[:, :4])


@pytest.mark.parametrize("query", ["whole", "position"])
def test_without_its_memory_a_wide_decoder_gets_the_encoding_for_query_and_item(query: Query) -> None:
    encoder, decoder = nn.Conv2d(2, 3, 1), nn.Conv2d(6, 2, 1)
    net = Autoencoder(encoder, MNAD(4, 12 if query == "whole" else 3), decoder, query)
    x = torch.randn(5, 2, 2, 2)
    encoding = net.encode(x)
    plain = net.without_memory()
    assert plain.memory is None
    assert torch.equal(plain(x).x, decoder(torch.cat([encoding, encoding], dim=1)))
    values = net.read(encoding)[0]
    assert values.shape == (5, 6, 2, 2)
    length = (
        encoding.flatten(1).norm(dim=1)[:, None, None, None] if query == "whole" else encoding.norm(dim=1)[:, None]
    )
    assert torch.allclose(values[:, :3] * length, encoding, atol=1e-5)  # the query, of length 1
    alike = Autoencoder(encoder, MemAE(4, 3), nn.Conv2d(3, 2, 1))
    assert alike.without_memory().decoder is alike.decoder
