"""The memory: N items of dimension C, how they are read, started, watched over and brought back to life."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from memae.memory.clustering import kmeans
from memae.memory.ops import MemoryRead, Similarity, read_memory
from memae.stages import Watcher

__all__ = ["Initialisation", "MemoryHealth", "MemoryModule", "Query", "memory_health", "use_counts"]

Query = Literal["whole", "position"]
Initialisation = Literal["uniform", "data", "kmeans"]

TWIN_COSINE = 0.99  # two items at least this alike say the same thing
TWIN_ELEMENTS = 1 << 22  # pairs of items compared at a time
COUNTED_ELEMENTS = 1 << 20  # weights whose signs are taken at a time: a copy of all of them may not fit


@dataclass(frozen=True)
class MemoryHealth:
    """How a memory was used over one epoch."""

    items: int
    items_used: int
    """Items that at least one query read."""
    items_dead: int
    """Items that no query read: they get no gradient and never come back by themselves."""
    items_twin: int
    """Items with another item at a cosine of 0.99 or more."""
    items_per_query: float
    """Mean number of items in one read."""
    rescued_share: float
    """Share of the queries for which nothing passed the shrinkage and the best item was kept."""


class MemoryModule(nn.Module):
    """N stored items of dimension C; replaces an encoding by a sparse mixture of them.

    Equations 3 to 8 of Gong et al. 2019 (see `memae.memory.ops.read_memory`). The items are a parameter and learn by
    gradient; at test time they are fixed, so an anomaly is rebuilt from what is normal.

    Args:
        num_items: N.
        item_dim: C. For whole-encoding queries the product of all dimensions of one encoding.
        query: "position" reads once per position of a (B, C, ...) map, "whole" once per sample, with the
            encoding flattened. The two are the same for (B, C).
        similarity, temperature, shrinkage: as `memae.memory.ops.read_memory`.

    Raises:
        ValueError: a size below 1, or a temperature or shrinkage out of range.

    >>> memory = MemoryModule(num_items=10, item_dim=4)
    >>> memory(torch.zeros(2, 4, 8, 8)).value.shape
    torch.Size([2, 4, 8, 8])
    """

    def __init__(
        self,
        num_items: int,
        item_dim: int,
        *,
        query: Query = "position",
        similarity: Similarity = "cosine",
        temperature: float = 1.0,
        shrinkage: float = 1.0,
    ) -> None:
        super().__init__()
        if num_items < 1 or item_dim < 1:
            raise ValueError(f"num_items and item_dim must be at least 1; got {num_items} and {item_dim}")
        if temperature <= 0:
            raise ValueError(f"temperature must be above 0; got {temperature}")
        if not 0 <= shrinkage < num_items:
            raise ValueError(f"shrinkage is a multiple of 1/N and must lie in [0, {num_items}); got {shrinkage}")
        self.num_items, self.item_dim = num_items, item_dim
        self.query, self.similarity = query, similarity
        self.temperature, self.shrinkage = temperature, shrinkage
        bound = 1 / math.sqrt(item_dim)  # the released code's start
        self.items = nn.Parameter(torch.empty(num_items, item_dim).uniform_(-bound, bound))

    def forward(self, encoding: Tensor) -> MemoryRead:
        """Reads the memory for an encoding (B, C) or (B, C, ...); `value` has the shape of the encoding.

        Raises:
            ValueError: an encoding whose size does not fit `item_dim`.
        """
        queries = self.queries(encoding)
        read = read_memory(
            queries,
            self.items,
            similarity=self.similarity,
            temperature=self.temperature,
            shrinkage=self.shrinkage,
        )
        if self.query == "whole" or encoding.ndim == 2:
            value = read.value.view(encoding.shape)
        else:
            positions = encoding.shape[2:]
            value = read.value.view(encoding.shape[0], *positions, self.item_dim).movedim(-1, 1)
        return read._replace(value=value)

    def queries(self, encoding: Tensor) -> Tensor:
        """The queries (T, C) of an encoding: T = B for whole encodings, B times the positions otherwise."""
        if encoding.ndim < 2:
            raise ValueError(f"an encoding has a batch and a channel axis; got shape {tuple(encoding.shape)}")
        flat = (
            encoding.flatten(1)
            if self.query == "whole"
            else encoding.movedim(1, -1).reshape(-1, encoding.shape[1])
        )
        if flat.shape[1] != self.item_dim:
            raise ValueError(
                f"a memory of {self.item_dim}-d items cannot be asked with an encoding of shape "
                f"{tuple(encoding.shape)}, which makes {flat.shape[1]}-d queries ({self.query})"
            )
        return flat

    @torch.no_grad()
    def initialise(
        self,
        encodings: Tensor,
        how: Initialisation,
        generator: torch.Generator,
        watcher: Watcher | None = None,
    ) -> None:
        """Sets the items from warm encodings: random ones ("data"), k-means centres, or the uniform start.

        Args:
            encodings: (B, C, ...) as the encoder gives them; enough to see the variety of the data.
            how: "uniform" draws U(-1/sqrt C, 1/sqrt C) and uses no encodings.
            generator: the source of all randomness here, on the CPU.
            watcher: who is told how far k-means is.
        """
        if how == "uniform":
            bound = 1 / math.sqrt(self.item_dim)
            self.items.copy_(torch.rand(self.items.shape, generator=generator) * 2 * bound - bound)
            return
        queries = self.queries(encodings).float()
        if how == "kmeans" and len(queries) > self.num_items:
            seed = int(torch.randint(2**31 - 1, (1,), generator=generator))
            self.items.copy_(_apart(kmeans(queries, self.num_items, seed, watcher), generator))
        else:
            self.items.copy_(_sample(queries, self.num_items, generator))

    @torch.no_grad()
    def revive(self, dead: Tensor, encodings: Tensor, generator: torch.Generator) -> None:
        """Replaces the items of the index `dead` (D,) by encodings drawn at random."""
        self.items[dead] = _sample(self.queries(encodings), len(dead), generator).to(self.items)

    @torch.no_grad()
    def twins(self) -> list[tuple[int, int]]:
        """The pairs of items that any query finds alike: two rows for one prototype.

        Their cosine is at least 0.99; by distance, the square of theirs is at most a hundredth of the mean square of
        the distance between two items, which is what that cosine is among random directions.
        """
        return [
            (start + row, second)
            for start, alike in self._alike()
            for row, second in alike.nonzero().tolist()
            if start + row < second
        ]

    @torch.no_grad()
    def twin_count(self) -> int:
        """The items that have a twin."""
        return int(sum(alike.any(dim=1).sum() for _, alike in self._alike()))

    def _alike(self) -> Iterator[tuple[int, Tensor]]:
        """(first row, (rows, N) bool) of the table that tells which two different items are twins, block by block."""
        items = self.items.float()
        usual = 2 * items.var(dim=0, correction=0).sum()
        directions = F.normalize(items, dim=1)
        rows = max(1, TWIN_ELEMENTS // self.num_items)
        for start in range(0, self.num_items, rows):
            some = slice(start, start + rows)
            if self.similarity == "euclidean":
                alike = torch.cdist(items[some], items).square() <= (1 - TWIN_COSINE) * usual
            else:
                alike = directions[some] @ directions.T >= TWIN_COSINE
            alike[:, some].fill_diagonal_(False)
            yield start, alike

    def extra_repr(self) -> str:
        """The settings, for print(model)."""
        return (
            f"{self.num_items} x {self.item_dim}, query={self.query}, similarity={self.similarity}, "
            f"temperature={self.temperature:g}, shrinkage={self.shrinkage:g}/N"
        )


@torch.no_grad()
def use_counts(read: MemoryRead) -> Tensor:
    """(N + 2,) int64: how many queries took each item, how many there were, and how many were rescued; reads add up."""
    parts = torch.split(read.weights, max(1, COUNTED_ELEMENTS // read.weights.shape[1]))
    # as products, which the library adds faster; exact, as no read has 2^24 queries
    uses = torch.stack([part.new_ones(len(part)) @ part.sign() for part in parts]).sum(dim=0)
    return torch.cat([uses, uses.new_tensor([len(read.rescued)]), read.rescued.sum().to(uses)[None]]).long()


def memory_health(memory: MemoryModule, counts: Tensor) -> MemoryHealth:
    """The health behind the sum of `use_counts` over many reads."""
    uses, (queries, rescued) = counts[:-2], counts[-2:].tolist()
    used = int((uses > 0).sum())
    return MemoryHealth(
        items=memory.num_items,
        items_used=used,
        items_dead=memory.num_items - used,
        items_twin=memory.twin_count(),
        items_per_query=float(uses.sum()) / max(1, queries),
        rescued_share=rescued / max(1, queries),
    )


def _sample(queries: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` rows at random, each once while there are enough."""
    order = torch.randperm(len(queries), generator=generator)[:count]
    again = torch.randint(len(queries), (count - len(order),), generator=generator)
    return _apart(queries[torch.cat([order, again]).to(queries.device)], generator)


def _apart(rows: Tensor, generator: torch.Generator) -> Tensor:
    """The rows, each exact repeat of an earlier one slightly moved: both would get the same gradient for ever."""
    _, kind = torch.unique(rows, dim=0, return_inverse=True)
    place = torch.arange(len(rows), device=rows.device)
    first = torch.full_like(place, len(rows)).scatter_reduce(0, kind, place, "amin")
    repeated = first[kind] != place
    noise = torch.randn(int(repeated.sum()), rows.shape[1], generator=generator).to(rows)
    rows[repeated] += 0.01 * rows.square().mean().sqrt() * noise
    return rows
