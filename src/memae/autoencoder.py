"""Encoder, memory, decoder in one forward pass; and how maps become the queries of a memory and back, once."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from memae.config import Query
from memae.memory.base import Fillable, Memory, MemoryRead, widening

__all__ = ["Autoencoder", "Reconstruction", "Target", "mean_shares"]

Target: TypeAlias = Literal["input", "encoding"]


class Reconstruction(NamedTuple):
    """What a model makes of a batch."""

    x: Tensor
    """The rebuilt batch, of the shape of the target."""
    read: MemoryRead | None
    """How the memory was read, sample by sample; None for a plain autoencoder."""
    positions: tuple[int, ...] = ()
    """The map of positions that the queries of a sample form; () where each sample is one query."""
    target: Tensor | None = None
    """What x is compared with, where that is not the input: the encoding."""

    def against(self, batch: Tensor) -> Tensor:
        """What `x` is compared with, of the batch that it was made from: all of it, unless there is a `target`.

        A prediction has fewer frames than its clips (B, C, T, ...): it is compared with the last ones.
        """
        if self.target is not None:
            return self.target
        return batch if self.x.shape[2:] == batch.shape[2:] else batch[:, :, -self.x.shape[2] :]

    def item_shares(self, rows: Sequence[int] | slice) -> Tensor | None:
        """(P, N) the share of each item in the reads of some samples, together 1; None for a plain autoencoder.

        Of many positions about 64 are taken, which are spread over all.
        """
        if self.read is None:
            return None
        step, asked = apart(self.read.queries), self.asked
        return mean_shares(self.read.shares[rows, ::step], None if asked is None else asked[rows, ::step])

    @property
    def asked(self) -> Tensor | None:
        """(B, T) bool: the queries of places with an image; of others a frozen encoding is zero. None: all."""
        return None if self.target is None else self.target.any(dim=1).flatten(1)


def mean_shares(shares: Tensor, asked: Tensor | None = None) -> Tensor:
    """(G, N): the mean shares (G, T, N) of the items over the queries that were asked, bool (G, T); None: all."""
    if asked is None or bool(asked.all()):
        return shares.mean(dim=1)
    weights = asked.to(shares)
    return torch.einsum("gtn,gt->gn", shares, weights) / weights.sum(dim=1, keepdim=True).clamp_min(1)


def apart(queries: Tensor) -> int:
    """Of queries (G, T, C) every how many-th to take for about 64 of a sample; odd, so as not to walk down a column."""
    return queries.shape[1] // 64 | 1


class Autoencoder(nn.Module):
    """x -> encoder -> memory -> decoder -> x^. With `memory=None` it is the plain autoencoder.

    Args:
        encoder: gives an encoding (B, C) or (B, C, ...), or (encoding, skips); skips bypass the memory.
        memory: its values replace the encoding; see `memae.memory.base.Memory`.
        decoder: takes the values of the memory in the place of the encoding, and the skips where there are any.
        query: "position" (the default) reads the memory once for each position of a map (B, C, ...), "whole" once for
            each sample, with the encoding flattened. The two are the same for (B, C).
        target: what is rebuilt and compared: the "input", or the "encoding" of a frozen encoder.
        corrections: see the attribute.

    >>> import torch
    >>> from memae.memory.memae import MemAE
    >>> net = Autoencoder(nn.Linear(8, 3), MemAE(50, 3), nn.Linear(3, 8))
    >>> net(torch.zeros(4, 8)).x.shape
    torch.Size([4, 8])
    """

    def __init__(
        self,
        encoder: nn.Module,
        memory: Memory | None,
        decoder: nn.Module,
        query: Query | None = None,
        target: Target = "input",
        corrections: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.corrections: Tensor | None
        """(K, ...) of the last K items: what is added to a sample that reads one of them, as the decoder cannot rebuild
        it; see `memae.teach`. None adds nothing."""
        self.register_buffer("corrections", corrections)
        self.encoder, self.memory, self.decoder = encoder, memory, decoder
        # a memory of before 0.2.0 (`memae.MemoryModule`) says itself how it is asked
        own: Query = getattr(memory, "query", "position")
        self.query: Query = query or own
        self.target: Target = target

    def forward(self, x: Tensor) -> Reconstruction:
        """Rebuilds a batch (B, ...).

        Raises:
            ValueError: an encoding that does not fit the items of the memory.
        """
        encoding, skips = self._encode(x)
        target = encoding if self.target == "encoding" else None
        if self.memory is None:
            return Reconstruction(self._decode(encoding, skips), None, target=target)
        values, read = self.read(encoding)
        rebuilt = self._decode(values, skips)
        if self.corrections is not None:
            rebuilt = rebuilt + self._correction(read)
        return Reconstruction(rebuilt, read, self.positions(encoding), target)

    def without_memory(self) -> Autoencoder:
        """The plain autoencoder of the same layers, to be trained before the memory starts.

        A decoder that takes each query beside what it read gets the encoding for both.
        """
        times = widening(self.memory)
        return Autoencoder(self.encoder, None, self.decoder if times == 1 else _Repeated(self.decoder, times))

    def encode(self, x: Tensor) -> Tensor:
        """The encoding (B, C) or (B, C, ...) of a batch."""
        return self._encode(x)[0]

    def read(self, encoding: Tensor) -> tuple[Tensor, MemoryRead]:
        """What the memory puts in the place of an encoding (B, C, ...): a map (B, C', ...), and the read behind it.

        A memory computes in float32 or better, inside autocast too: small weights are zero in half precision.
        """
        assert self.memory is not None, "a plain autoencoder reads nothing"
        queries = self.queries(
            encoding
        )  # shape[0] and not len() below: that would fix the batch of an exported graph
        with torch.autocast(encoding.device.type, enabled=False):
            read = self.memory.read(queries.float() if queries.dtype.itemsize < 4 else queries)
        size, places = read.values.shape[2], encoding.shape[2:]
        if self.query == "whole":
            return read.values.reshape(encoding.shape[0], size // prod(places), *places), read
        return read.values.view(encoding.shape[0], *places, size).movedim(-1, 1), read

    def queries(self, encoding: Tensor) -> Tensor:
        """(B, T, C) the queries of an encoding: T = 1 for whole encodings, else the number of its positions."""
        if encoding.ndim < 2:
            raise ValueError(f"an encoding has a batch and a channel axis; got shape {tuple(encoding.shape)}")
        flat = encoding.flatten(1)[:, None]
        if self.query == "position":
            flat = encoding.movedim(1, -1).reshape(encoding.shape[0], prod(encoding.shape[2:]), encoding.shape[1])
        if self.memory is not None and flat.shape[2] != self.memory.item_dim:
            raise ValueError(
                f"a memory of {self.memory.item_dim}-d items cannot be asked with an encoding of shape "
                f"{tuple(encoding.shape)}, which makes {flat.shape[2]}-d queries ({self.query})"
            )
        return flat

    def positions(self, encoding: Tensor) -> tuple[int, ...]:
        """The map that the queries of one sample form; () where that is a single one."""
        return tuple(encoding.shape[2:]) if self.query == "position" else ()

    def items_alone(self, sample: Sequence[int]) -> Tensor:
        """(N, C', ...) what the decoder gets where one item alone is read for a sample of this shape.

        An item of one position stands at every position, as if every place were of its kind.
        """
        assert isinstance(self.memory, Fillable), "only items that are stored can be decoded alone"
        # a decoder that takes the query beside the item gets the item for both: a query that is the item finds it
        items = self.memory.items.repeat(1, widening(self.memory))
        places = self.encode(torch.zeros(1, *sample, device=items.device)).shape[2:]
        if self.query == "whole":
            return items.view(len(items), -1, *places)
        return items.view(*items.shape, *(1 for _ in places)).expand(-1, -1, *places)

    def _correction(self, read: MemoryRead) -> Tensor:
        """(B, ...): the corrections of the items that each sample reads, by their shares."""
        assert self.corrections is not None, "the caller has looked"
        shares = read.shares[:, 0, -len(self.corrections) :]  # corrections are of samples with a single query
        mixed = shares.to(self.corrections) @ self.corrections.flatten(1)
        return mixed.view(-1, *self.corrections.shape[1:])

    def _encode(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        found = self.encoder(x)
        return (found, ()) if isinstance(found, Tensor) else found

    def _decode(self, values: Tensor, skips: tuple[Tensor, ...]) -> Tensor:
        rebuilt: Tensor = self.decoder(values, skips) if skips else self.decoder(values)
        return rebuilt


class _Repeated(nn.Module):
    """A decoder of wide values that takes an encoding: its channels are repeated."""

    def __init__(self, decoder: nn.Module, times: int) -> None:
        super().__init__()
        self.decoder, self.times = decoder, times

    def forward(self, encoding: Tensor, *skips: tuple[Tensor, ...]) -> Tensor:
        rebuilt: Tensor = self.decoder(torch.cat([encoding] * self.times, dim=1), *skips)
        return rebuilt
