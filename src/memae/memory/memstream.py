"""MemStream's memory: encodings of normal samples that a stream replaces, the oldest first.

S. Bhatia, A. Jain, S. Srivastava, K. Kawaguchi, B. Hooi, "MemStream: Memory-Based Streaming Anomaly Detection", WWW
2022, arXiv 2106.03837.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from memae.config import Initialisation
from memae.memory.base import LossTerm, MemoryRead, MemorySettings, register
from memae.memory.items import StoredItems

__all__ = ["MemStream", "MemStreamSettings"]

SAME = 1e-5  # of beta: a distance to an item that is rounding


class MemStream(StoredItems):
    """For a query q, d_(1) <= ... <= d_(K) its L1 distances to the K nearest items:

        distance = sum_j gamma^(j-1) d_(j) / sum_j gamma^(j-1);   value = q
        learns   : if distance <= beta, q takes the place of the oldest item

    The distance is the score; the decoder serves the training of the encoder only. A query that equals an item brings
    nothing and is not inserted. Encodings and their scale stay as they were trained.

    Args:
        num_items, item_dim: N and C.
        beta: None until `calibrate` sets it; before that nothing is inserted.
        beta_quantile: of the distances of held-out normal samples, for `calibrate`.
        neighbours: K.
        gamma: in [0, 1]; 0 is the nearest item alone.
    """

    beta: Tensor
    ages: Tensor
    """(N,) int64: the queries that were offered since each item was inserted."""
    oldest: Tensor
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
        if not (1 <= neighbours <= num_items and 0 <= gamma <= 1 and 0 < beta_quantile < 1):
            raise ValueError(
                f"neighbours lie in [1, {num_items}], gamma in [0, 1] and beta_quantile in (0, 1); got {neighbours}, "
                f"{gamma} and {beta_quantile}"
            )
        super().__init__(torch.randn(num_items, item_dim))
        self.register_buffer("beta", torch.tensor(-1.0 if beta is None else beta))
        self.register_buffer("oldest", torch.zeros((), dtype=torch.long))  # the item that goes next
        self.add_number("ages", torch.long)
        self.beta_quantile, self.neighbours, self.gamma = beta_quantile, neighbours, gamma
        self.beta_is_given = beta is not None

    def read(self, queries: Tensor) -> MemoryRead:
        """Answers queries (G, T, C); see `memae.memory.base.Memory`."""
        self.check_queries(queries)
        items = self.items.to(queries.dtype)

        def nearest() -> tuple[Tensor, Tensor]:
            apart = torch.cdist(queries.flatten(0, 1), items, p=1).view(*queries.shape[:2], -1)
            return apart.argmin(dim=2), self._distance(apart)

        return MemoryRead(queries, queries, items, nearest)

    def _distance(self, apart: Tensor) -> Tensor:
        """(...) the distance of queries that lie so far (..., N) from the items."""
        shares = apart.new_tensor([self.gamma**place for place in range(self.neighbours)])
        found: Tensor = apart.topk(self.neighbours, dim=-1, largest=False).values @ shares
        return found / shares.sum()

    def loss_terms(self, read: MemoryRead) -> tuple[LossTerm, ...]:
        """None."""
        return ()

    def observe(self, read: MemoryRead, trusted: Tensor | None = None) -> int:
        """Offers the queries of a read one by one; returns how many were inserted. See `Memory.observe`."""
        allowed = torch.ones(read.queries.shape[:2], dtype=torch.bool) if trusted is None else trusted
        allowed = allowed if allowed.ndim == 2 else allowed[:, None].expand(read.queries.shape[:2])
        return int(self.follow(read.queries.flatten(0, 1), allowed.flatten())[1].sum())

    @torch.no_grad()
    def follow(self, queries: Tensor, allowed: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Scores each query (T, C) against the memory of its moment, and then offers it.

        Args:
            queries: in the order of the stream.
            allowed: (T,) bool: which may be inserted; None: all.

        Returns:
            (T,) distances, and (T,) bool: which were inserted.
        """
        items, ages = self.items.clone(), self.ages.clone()  # a read keeps the old ones
        queries = queries.to(items)
        apart, beta, oldest = torch.cdist(queries, items, p=1), float(self.beta), int(self.oldest)
        distances, inserted = apart.new_empty(len(queries)), torch.zeros(len(queries), dtype=torch.bool)
        for place, query in enumerate(queries):
            distances[place] = self._distance(apart[place])
            free = allowed is None or bool(allowed[place])
            if free and distances[place] <= beta and apart[place].min() > SAME * beta:
                inserted[place], items[oldest], ages[oldest] = True, query, -place - 1
                apart[place + 1 :, oldest] = (queries[place + 1 :] - query).abs().sum(dim=1)
                oldest = (oldest + 1) % self.num_items
        self.items, self.ages = items, ages + len(queries)
        self.oldest.fill_(oldest)
        return distances, inserted

    def calibrate(self, normal: Tensor) -> None:
        """Sets beta from the distances (n,) of held-out normal samples, unless it was given."""
        if not self.beta_is_given:
            self.beta.copy_(torch.quantile(normal.double(), self.beta_quantile))


class MemStreamSettings(MemorySettings):
    """The memory of MemStream: it is filled after the training, and a stream replaces its items."""

    initialisation: Initialisation = Field("data", description="'data' or 'kmeans'")
    trained: Literal[False] = Field(False, description="the network trains without it")
    score: Literal["distance"] = Field(
        "distance", description="values are queries, so nothing else tells anomalies"
    )
    beta: float | None = Field(None, ge=0, description="distance up to which a query is learnt; unset: a quantile")
    beta_quantile: float = Field(0.9, gt=0, lt=1, description="of held-out normal scores, where `beta` is unset")
    neighbours: int = Field(1, ge=1, description="K, the items that the distance is a mean over")
    gamma: float = Field(
        0.0, ge=0, le=1, description="weight of each next neighbour, as a share of the one before"
    )

    def build(self, num_items: int, item_dim: int) -> MemStream:
        """A fresh `MemStream`."""
        return MemStream(num_items, item_dim, **self.numbers | {"neighbours": min(self.neighbours, num_items)})


register(
    "memstream", MemStreamSettings, {"memstream": {"memory": {"kind": "memstream"}, "train": {"noise": 1e-3}}}
)
