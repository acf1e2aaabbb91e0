"""What every memory offers: the one interface that training, scoring, saving and explanation know.

A memory turns the queries of an encoder (G, T, C) into the values (G, T, D) of a decoder: G groups (samples, frames,
windows) of T queries of width C. How maps become queries and back is the autoencoder's business.

A new memory is one file beside this one with a class that offers `Memory`, a subclass of `MemorySettings` that builds
it, and a call of `register` with the name that `memory.kind` takes.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from math import inf
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from memae.config import MemoryConfig, add_memory_section, memory_sections

__all__ = [
    "Editable",
    "Fillable",
    "LossTerm",
    "Memory",
    "MemoryRead",
    "MemorySettings",
    "Streaming",
    "build_memory",
    "memory_presets",
    "register",
    "widening",
]

_PRESETS: dict[str, Mapping[str, Any]] = {}
"""See `memory_presets`."""


@dataclass(frozen=True, eq=False)
class MemoryRead:
    """The values that a memory gives for queries, and how they were read."""

    queries: Tensor
    """(G, T, C) the queries as they were compared, so after any normalisation of the family."""
    values: Tensor
    """(G, T, D) what the decoder gets."""
    items: Tensor
    """(N, C) the items; (G, N, C) where they are made from the input."""
    find_nearest: Callable[[], tuple[Tensor, Tensor]]
    """Gives `nearest` and `distance`. Training asks for neither, and they would take a tenth of its time."""
    weights: Tensor | None = None
    """(G, T, N) weights of the read, each >= 0, of a query together 1; None where a read has none."""
    entropy: Tensor | None = None
    """(G, T) entropy of the weights in nats, -sum_i w_i log w_i; None where a read has no weights."""
    fallback: Tensor | None = None
    """(G, T) bool: no item was close enough, and the nearest one was read; None where that cannot be."""

    @cached_property
    def shares(self) -> Tensor:
        """(G, T, N) each item's part in the answer to a query: its weight; without weights 1 for the nearest item."""
        if self.weights is not None:
            return self.weights
        return F.one_hot(self.nearest, self.items.shape[-2]).to(self.queries.dtype)

    @cached_property
    def _nearest(self) -> tuple[Tensor, Tensor]:
        # queries of a scorer are asked about outside its inference mode, where they cannot meet a parameter
        with torch.inference_mode() if self.queries.is_inference() else nullcontext():
            return self.find_nearest()

    @property
    def nearest(self) -> Tensor:
        """(G, T) int64 index of the item that is nearest to each query."""
        return self._nearest[0]

    @property
    def distance(self) -> Tensor:
        """(G, T) distance to that item, in the family's own metric; gradient reaches the queries."""
        return self._nearest[1]


class LossTerm(NamedTuple):
    """One term that a memory adds to the loss of the reconstruction."""

    name: str
    """Such as "entropy"."""
    weight: float
    """From the constructor of the memory, so that the trainer knows no family."""
    value: Tensor
    """Scalar, not yet multiplied by the weight."""


class Memory(Protocol):
    """A memory; every one is an `nn.Module` with all of its state in its `state_dict`.

    `train()` and `eval()` never change the items.
    """

    certifiable: bool
    """Whether every value lies in the convex hull of the items: no query and nothing else is added to it."""
    learns_by_observing: bool
    """Whether `observe` does anything; where it does not, nobody keeps a read for it."""

    @property
    def num_items(self) -> int:
        """N."""

    @property
    def item_dim(self) -> int:
        """C."""

    @property
    def out_dim(self) -> int:
        """D: C, or 2 C for a family that hands on each query beside what it read."""

    def read(self, queries: Tensor) -> MemoryRead:
        """Answers queries (G, T, C).

        Raises:
            ValueError: queries of another shape.
        """

    def loss_terms(self, read: MemoryRead) -> tuple[LossTerm, ...]:
        """What a training minimises beside the error of the reconstruction."""

    def observe(self, read: MemoryRead, trusted: Tensor | None = None) -> int:
        """Learns, without gradient, from what was just read; returns the number of items that changed.

        The trainer calls it once a step, after the step of the optimiser. A scorer of batches never calls it.

        Args:
            read: the answer to the queries.
            trusted: bool (G,) or (G, T): the groups or queries to learn from; None: all.
        """


@runtime_checkable
class Fillable(Protocol):
    """A memory with items of its own, which encodings can be written into."""

    @property
    def items(self) -> Tensor:
        """(N, C)."""

    @property
    def directional(self) -> bool:
        """Whether only the direction of an item matters, and not its length: duplicates are then found by cosine."""

    def initialise(self, encodings: Tensor) -> None:
        """Starts from encodings (S, C), S >= N: the first N become the items; the caller chooses and orders them.

        Raises:
            ValueError: fewer than N, or of another width.
        """


@runtime_checkable
class Editable(Fillable, Protocol):
    """A memory whose items can be replaced one by one and become more."""

    def replace(self, indices: Tensor, items: Tensor) -> None:
        """Writes items (K, C) over those at the indices (K,); everything else stays."""

    def extend(self, items: Tensor) -> None:
        """Adds items (K, C) behind those that are there: N grows by K."""

    def remove_last(self, count: int) -> None:
        """Takes so many items away again, those that were added last."""


@runtime_checkable
class Streaming(Fillable, Protocol):
    """A memory that goes on learning from a stream after the training, by its distance."""

    @property
    def ages(self) -> Tensor:
        """(N,) int64: the groups that were offered since each item was inserted."""

    @property
    def inserted(self) -> Tensor:
        """() int64: the queries that ever became items."""

    def calibrate(self, normal: Tensor) -> None:
        """Takes the mean distances (n,) of held-out normal samples, once the model is trained."""

    def follow(self, queries: Tensor, trusted: Tensor | None = None, limit: float = inf) -> Tensor:
        """Scores each group of queries (G, T, C) against the memory of its moment, and learns from it after that.

        Args:
            queries: in the order of the stream.
            trusted: as for `Memory.observe`.
            limit: groups with a greater score are not learnt from.

        Returns:
            (G,) the mean distance of the queries of each group.
        """


def widening(memory: Memory | None) -> int:
    """D / C: how many times as many channels as the encoding has the decoder gets; 1 without a memory."""
    return 1 if memory is None else memory.out_dim // memory.item_dim


class MemorySettings(MemoryConfig):
    """The section [memory] of one family: what is common to all, and the family's own numbers as further fields."""

    @property
    def numbers(self) -> dict[str, Any]:
        """The family's own numbers by name, for the constructor of its memory."""
        return {
            name: getattr(self, name) for name in type(self).model_fields if name not in MemoryConfig.model_fields
        }

    @abstractmethod
    def build(self, num_items: int, item_dim: int) -> Memory:
        """A fresh memory; random items come from torch's global generator.

        Raises:
            ConfigError: numbers that do not go together.
        """


def register(
    kind: str, settings: type[MemorySettings], presets: Mapping[str, Mapping[str, Any]] | None = None
) -> None:
    """Makes a family known: `memory.kind = KIND` in a config is then read as these settings, which build it.

    Args:
        kind: its name.
        settings: its section [memory].
        presets: by name, nested settings that are laid over the preset of a network; they name the kind.
    """
    add_memory_section(kind, settings)
    _PRESETS.update(presets or {})


def memory_presets() -> dict[str, Mapping[str, Any]]:
    """The nested settings of each preset of a memory, by its name such as "mnad-paper"."""
    memory_sections()  # registers the families
    return dict(_PRESETS)


def build_memory(settings: MemoryConfig, num_items: int, item_dim: int) -> Memory:
    """The memory behind a section of a config; see `MemorySettings.build`."""
    assert isinstance(settings, MemorySettings), "every registered section of a memory builds it"
    return settings.build(num_items, item_dim)
