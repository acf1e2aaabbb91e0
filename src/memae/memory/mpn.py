"""MPN's memory: prototypes that each sample makes of its own positions (the unit, without its meta-learning).

H. Lv, C. Chen, Z. Cui, C. Xu, Y. Li, J. Yang, "Learning Normal Dynamics in Videos with Meta Prototype Network", CVPR
2021, arXiv 2104.06689.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from memae.config import Query
from memae.errors import ConfigError
from memae.memory.base import LossTerm, MemoryRead, MemorySettings, register

__all__ = ["MPN", "MPNSettings"]


class MPN(nn.Module):
    """The dynamic prototype unit. For the queries q_n of length 1 of one sample, n = 1..T, and A in R^{C x M}:

        a_nm  = softmax_n(q_n A)_m,     p_m = normalised sum_n a_nm q_n
        w_nm  = softmax_m(q_n . p_m),   value = q_n + normalised sum_m w_nm p_m
        loss  = compactness_weight * mean over n and channels of (q_n - its nearest p)^2
              + diversity_weight * 2 / (M (M - 1)) sum_{i<j} [1 - |p_i - p_j|^2]_+

    Everything is differentiable, and only A is stored: the prototypes of a sample are made from that sample, so an
    anomaly that fills it becomes a prototype. Memory use grows with T (M + C).

    Args:
        num_items: M, the prototypes of a sample.
        item_dim: C.
        compactness_weight, diversity_weight: of the penalties.

    Raises:
        ValueError: a size below 1.
    """

    certifiable, learns_by_observing = False, False

    def __init__(
        self, num_items: int, item_dim: int, *, compactness_weight: float = 1.0, diversity_weight: float = 1e-4
    ) -> None:
        super().__init__()
        if num_items < 1 or item_dim < 1:
            raise ValueError(f"num_items and item_dim must be at least 1; got {num_items} and {item_dim}")
        self.attention = nn.Linear(item_dim, num_items, bias=False)
        self.compactness_weight, self.diversity_weight = compactness_weight, diversity_weight

    @property
    def num_items(self) -> int:
        """M."""
        return self.attention.out_features

    @property
    def item_dim(self) -> int:
        """C."""
        return self.attention.in_features

    @property
    def out_dim(self) -> int:
        """C."""
        return self.item_dim

    def read(self, queries: Tensor) -> MemoryRead:
        """Answers queries (G, T, C); see `memae.memory.base.Memory`.

        Raises:
            ConfigError: samples of a single query, of which every prototype would be a copy.
        """
        if queries.ndim != 3 or queries.shape[2] != self.item_dim:
            raise ValueError(f"takes queries (G, T, {self.item_dim}); got shape {tuple(queries.shape)}")
        if queries.shape[1] < 2:
            raise ConfigError(
                "memory.kind = 'mpn' makes its items from the positions of a sample, and here a sample is a single "
                "query, as every row of a table is; take memory.query = 'position' and a network whose encoding is a "
                "map, such as 'image', or another memory.kind"
            )
        q = F.normalize(queries, dim=2)
        attention = torch.softmax(self.attention(q), dim=1)  # (G, T, M)
        items = F.normalize(attention.transpose(1, 2) @ q, dim=2)  # (G, M, C)
        weights = torch.softmax(q @ items.transpose(1, 2), dim=2)

        def nearest() -> tuple[Tensor, Tensor]:
            place = weights.argmax(dim=2)
            return place, (q - _taken(items, place)).square().sum(dim=2)

        values = q + F.normalize(weights @ items, dim=2)
        return MemoryRead(q, values, items, nearest, weights, torch.special.entr(weights).sum(dim=2))

    def loss_terms(self, read: MemoryRead) -> tuple[LossTerm, ...]:
        """Compactness and diversity."""
        compactness = read.distance.mean() / self.item_dim
        alike = F.relu(1 - (2 - 2 * read.items @ read.items.transpose(1, 2))).triu(diagonal=1)
        pairs = max(1, self.num_items * (self.num_items - 1) / 2)
        return (
            LossTerm("compactness", self.compactness_weight, compactness),
            LossTerm("diversity", self.diversity_weight, alike.sum(dim=(1, 2)).mean() / pairs),
        )

    def observe(self, read: MemoryRead, trusted: Tensor | None = None) -> int:
        """Does nothing: these items last for one read."""
        return 0


def _taken(items: Tensor, place: Tensor) -> Tensor:
    """(G, T, C): of the items (G, M, C) of each group those at places (G, T)."""
    return items.gather(1, place[..., None].expand(-1, -1, items.shape[2]))


class MPNSettings(MemorySettings):
    """The memory of MPN: prototypes that each sample makes of its own positions."""

    num_items: int | None = Field(10, ge=1, description="M, the prototypes of a sample")
    query: Query | None = Field("position", description="each 'position': a sample needs several queries")
    initialisation: Literal["uniform"] = Field("uniform", description="there are no items to start from data")
    trained: Literal[True] = Field(True, description="it learns with the network only")
    compactness_weight: float = Field(
        1.0, ge=0, description="of the mean squared distance to the nearest prototype"
    )
    diversity_weight: float = Field(1e-4, ge=0, description="of prototypes that are alike")

    def build(self, num_items: int, item_dim: int) -> MPN:
        """A fresh `MPN`."""
        return MPN(num_items, item_dim, **self.numbers)


register("mpn", MPNSettings, {"mpn": {"memory": {"kind": "mpn"}, "train": {"reduction": "mean"}}})
