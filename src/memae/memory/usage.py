"""How a memory is used: how many queries read each item, which items are dead, and which are duplicates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from memae.memory.base import Fillable, Memory, MemoryRead

__all__ = ["ItemCounts", "MemoryHealth", "duplicate_count", "duplicate_pairs", "memory_health", "use_counts"]

OLD_NAMES = {"items_twin": "items_duplicate", "rescued_share": "fallback_share"}
DUPLICATE_COSINE = 0.99  # two items at least this alike are one prototype
COMPARED_ELEMENTS = 1 << 22  # pairs of items compared at a time
COUNTED_ELEMENTS = 1 << 20  # weights whose signs are taken at a time: a copy of all of them may not fit


@dataclass(frozen=True)
class MemoryHealth:
    """How a memory was used over one epoch."""

    items: int
    items_used: int
    """Items that at least one query read."""
    items_dead: int
    """Items that no query read: where items learn by gradient they get none, and never come back by themselves."""
    items_duplicate: int
    """Items with a duplicate; see `duplicate_pairs`."""
    items_per_query: float
    """Mean number of items in one read."""
    fallback_share: float
    """Share of the queries with argmax fallback: no item was close enough, so the nearest was read."""

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Self:
        """From stored figures, also under the names of before 0.2.0."""
        return cls(**{OLD_NAMES.get(name, name): value for name, value in stored.items()})


class ItemCounts(NamedTuple):
    """How many items a trained memory has and uses; every summary of a model counts them here."""

    items: int
    used: int
    """That at least one query of the training samples read, after the training."""
    dead: int
    """That none did."""
    duplicate: int
    """With a duplicate; see `duplicate_pairs`."""

    @classmethod
    def of(cls, memory: Memory, uses: np.ndarray) -> Self:
        """From a memory and the reads (N,) of its items."""
        used = int((uses > 0).sum())
        return cls(len(uses), used, len(uses) - used, duplicate_count(memory))

    @property
    def line(self) -> str:
        """In words."""
        return (
            f"{self.used:,} of {self.items:,} items used, {self.dead:,} dead, {self.duplicate:,} with a duplicate"
        )


@torch.no_grad()
def use_counts(read: MemoryRead, asked: Tensor | None = None) -> Tensor:
    """(N + 2,) int64 of a read: queries that read each item, all queries, and those that fell back to the nearest item.

    Counts of several reads add up.

    Args:
        read: of queries (G, T, C).
        asked: (G, T) bool, the queries that count; None: all.
    """
    counts = (
        torch.ones(read.queries.shape[:2], dtype=torch.bool, device=read.queries.device)
        if asked is None
        else asked
    )
    shares, counts = read.shares.flatten(0, 1), counts.flatten()
    size = max(1, COUNTED_ELEMENTS // read.items.shape[-2])
    parts = zip(shares.split(size), counts.to(shares).split(size), strict=True)
    # as products, which the library adds faster; exact, as no read has 2^24 queries
    uses = torch.stack([counting @ part.sign() for part, counting in parts]).sum(dim=0).long()
    fallen = uses.new_zeros(()) if read.fallback is None else (read.fallback.flatten() & counts).sum()
    return torch.cat([uses, counts.sum()[None], fallen[None]])


def memory_health(memory: Memory, counts: Tensor) -> MemoryHealth:
    """The health behind the sum of `use_counts` over many reads."""
    uses, (queries, fallen) = counts[:-2], counts[-2:].tolist()
    used = int((uses > 0).sum())
    return MemoryHealth(
        items=len(uses),
        items_used=used,
        items_dead=len(uses) - used,
        items_duplicate=duplicate_count(memory),
        items_per_query=float(uses.sum()) / max(1, queries),
        fallback_share=fallen / max(1, queries),
    )


@torch.no_grad()
def duplicate_pairs(memory: Memory) -> list[tuple[int, int]]:
    """The pairs of items that any query finds alike: two rows for one prototype.

    Where only directions matter their cosine is at least 0.99; else the square of their distance is at most a hundredth
    of the mean square of the distance between two items, which is what that cosine is among random directions. Items
    that are made from the input have no duplicates.
    """
    return [
        (start + row, second)
        for start, alike in _alike(memory)
        for row, second in alike.nonzero().tolist()
        if start + row < second
    ]


@torch.no_grad()
def duplicate_count(memory: Memory) -> int:
    """The items that have a duplicate."""
    return int(sum(alike.any(dim=1).sum() for _, alike in _alike(memory)))


def _alike(memory: Memory) -> Iterator[tuple[int, Tensor]]:
    """(first row, (rows, N) bool) of the table that tells which two different items are alike, block by block."""
    if not isinstance(memory, Fillable):
        return
    items = memory.items.detach().float()
    spread = 2 * items.var(dim=0, correction=0).sum()  # mean squared distance between two items
    directions = F.normalize(items, dim=1)
    rows = max(1, COMPARED_ELEMENTS // len(items))
    for start in range(0, len(items), rows):
        some = slice(start, start + rows)
        if memory.directional:
            alike = directions[some] @ directions.T >= DUPLICATE_COSINE
        else:
            alike = torch.cdist(items[some], items).square() <= (1 - DUPLICATE_COSINE) * spread
        alike[:, some].fill_diagonal_(False)
        yield start, alike
