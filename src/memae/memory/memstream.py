"""MemStream's memory: encodings of normal samples that a stream replaces, the oldest first.

S. Bhatia, A. Jain, S. Srivastava, K. Kawaguchi, B. Hooi, "MemStream: Memory-Based Streaming Anomaly Detection", WWW
2022, arXiv 2106.03837.
"""

from __future__ import annotations

from math import inf
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from memae.config import Initialisation
from memae.memory.base import LossTerm, MemoryRead, MemorySettings, register
from memae.memory.items import StoredItems
from memae.memory.ops.city_block import city_block

__all__ = ["MemStream", "MemStreamSettings"]

ROUNDING = 1e-6  # of the mean L1 norm of the items: a query as near as this is an item already


class MemStream(StoredItems):
    """For a query q, d_(1) <= ... <= d_(K) its L1 distances to the K nearest items:

        distance = sum_j gamma^(j-1) d_(j) / sum_j gamma^(j-1);   value = q
        learns   : if distance <= beta, q takes the place of the oldest item

    K is `neighbours`; a gamma of 0 leaves the nearest item alone. The distance is the score; the decoder serves the
    training of the encoder only. A query that equals an item is not inserted, as it brings nothing. Encodings and their
    scale stay as they were trained. Without `beta`, `calibrate` sets it to a quantile; before that nothing is inserted.
    """

    beta: Tensor
    ages: Tensor
    inserted: Tensor
    certifiable, learns_by_observing, directional = False, True, False

    def __init__(
        self,
        num_items: int,
        item_dim: int,
        *,
        beta: float | None = None,
        beta_quantile: float = 0.9,
        neighbours: int = 1,
        gamma: float = 0.0,
    ) -> None:
        if not (1 <= neighbours <= num_items and 0 <= gamma <= 1):
            raise ValueError(f"neighbours lie in [1, {num_items}], gamma in [0, 1]; got {neighbours} and {gamma}")
        super().__init__(torch.randn(num_items, item_dim))
        self.register_buffer("beta", torch.tensor(-1.0 if beta is None else beta))
        self.register_buffer("inserted", torch.zeros((), dtype=torch.long))
        self.add_number("ages", torch.long)
        self.neighbours, self.gamma, self.quantile = neighbours, gamma, beta_quantile if beta is None else None

    def read(self, queries: Tensor) -> MemoryRead:
        """Answers queries (G, T, C); see `memae.memory.base.Memory`."""
        self.check_queries(queries)
        items = self.items.to(queries.dtype)

        def nearest() -> tuple[Tensor, Tensor]:
            apart = city_block(queries.flatten(0, 1), items).view(*queries.shape[:2], -1)
            return apart.argmin(dim=2), self._distance(apart)

        return MemoryRead(queries, queries, items, nearest)

    def _distance(self, apart: Tensor) -> Tensor:
        """(...) the distance of queries that lie so far (..., N) from the items."""
        if self.neighbours == 1:
            return apart.amin(dim=-1)
        shares = apart.new_tensor([self.gamma**place for place in range(self.neighbours)])
        nearest: Tensor = apart.topk(self.neighbours, dim=-1, largest=False).values
        return (nearest * shares).sum(dim=-1) / shares.sum()

    def loss_terms(self, read: MemoryRead) -> tuple[LossTerm, ...]:
        """None."""
        return ()

    def observe(self, read: MemoryRead, trusted: Tensor | None = None) -> int:
        """Offers the queries of a read in order; returns how many were inserted. See `Memory.observe`."""
        before = int(self.inserted)
        self.follow(read.queries, trusted)
        return int(self.inserted) - before

    @torch.no_grad()
    def follow(self, queries: Tensor, trusted: Tensor | None = None, limit: float = inf) -> Tensor:
        """See `Streaming.follow`. Twice as many groups are looked at ahead each time that none of them is learnt."""
        (groups, count), queries = queries.shape[:2], queries.to(self.items)
        free = torch.ones(groups, count) if trusted is None else trusted.view(groups, -1).expand(groups, count)
        free, items, ages = (
            free.bool().to(queries.device),
            self.items.clone(),
            self.ages.clone(),
        )  # reads keep theirs
        apart = torch.cdist(queries.flatten(0, 1), items, p=1).view(groups, count, -1)
        least = ROUNDING * float(items.abs().sum(dim=1).mean())
        scores, start, ahead = apart.new_empty(groups), 0, 1
        while start < groups:
            seen = slice(start, start + ahead)
            near = self._distance(apart[seen])
            scores[seen] = near.mean(dim=1)
            offered = free[seen] & (scores[seen, None] <= limit) & self._learns(near, apart[seen], least)
            if not offered.any():
                start, ahead = start + ahead, 2 * ahead
                continue
            start += int(offered.any(dim=1).int().argmax())
            for query, allowed, row in zip(queries[start], free[start], apart[start], strict=True):
                if allowed and self._learns(self._distance(row), row, least):
                    self.inserted += 1
                    if (place := self.replaced(ages)) is None:
                        continue
                    items[place], ages[place] = query, -start - 1
                    apart[start:, :, place] = torch.cdist(queries[start:], query[None], p=1)[..., 0]
            start, ahead = start + 1, 1
        self.items, self.ages = items, ages + groups
        return scores

    def replaced(self, ages: Tensor) -> int | None:
        """The place of the item that a learnt query takes, the oldest; a subclass may turn the query away by None."""
        return int(ages.argmax())

    def _learns(self, distance: Tensor, apart: Tensor, least: float) -> Tensor:
        return (distance <= self.beta) & (apart.amin(dim=-1) > least)

    def calibrate(self, normal: Tensor) -> None:
        """Sets beta from the distances (n,) of held-out normal samples, unless it was given."""
        if self.quantile is not None:
            self.beta.copy_(torch.quantile(normal.double(), self.quantile))


class MemStreamSettings(MemorySettings):
    """The memory of MemStream: it is filled after the training, and a stream replaces its items."""

    initialisation: Initialisation = Field("data", description="'data' or 'kmeans'")
    trained: Literal[False] = Field(False, description="the network trains without it")
    score: Literal["distance"] = Field("distance", description="values are queries, and tell no anomaly")
    beta: float | None = Field(None, ge=0, description="distance up to which a query is learnt; unset: a quantile")
    beta_quantile: float = Field(0.9, gt=0, lt=1, description="of held-out normal scores, where `beta` is unset")
    neighbours: int = Field(1, ge=1, description="K, the items that the distance is a mean over")
    gamma: float = Field(
        0.0, ge=0, le=1, description="weight of a neighbour, as a share of that of the one before"
    )

    def build(self, num_items: int, item_dim: int) -> MemStream:
        """A fresh `MemStream`."""
        return MemStream(num_items, item_dim, **self.numbers | {"neighbours": min(self.neighbours, num_items)})


PRESETS = {"memstream": {"memory": {"kind": "memstream"}, "train": {"noise": 1e-3}}}
register("memstream", MemStreamSettings, PRESETS)
