"""MemAE's memory: N learnt items, and a sparse mixture of them in place of each encoding (Gong et al., ICCV 2019)."""

from __future__ import annotations

import math
from functools import partial

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from memae.errors import ConfigError
from memae.memory.base import LossTerm, MemoryRead, MemorySettings, register
from memae.memory.items import StoredItems
from memae.memory.ops import Similarity, read_memory

__all__ = ["MemAE", "MemAESettings"]


class MemAE(StoredItems):
    """The memory of the paper, equations 3 to 8 and the second term of equation 10.

    For a query z and items m_i, i = 1..N:

        w_i  = softmax_i(d(z, m_i) / temperature),   d the cosine, or see `memae.read_memory`
        w^_i = w_i where w_i > shrinkage / N, else 0; then divided by their sum
        z^   = sum_i w^_i m_i
        loss = entropy_weight * mean over the queries of -sum_i w^_i log w^_i

    The items are a parameter: gradients alone change them, and they are fixed at test time, so an anomaly is rebuilt
    from normal items. A value lies in the convex hull of the items. A query that no item is close enough to reads the
    nearest one (`MemoryRead.fallback`).

    Args:
        num_items: N.
        item_dim: C.
        similarity, temperature, shrinkage: as `memae.read_memory`.
        entropy_weight: alpha of the paper.

    Raises:
        ValueError: a size below 1, or a number out of range.

    >>> memory = MemAE(num_items=10, item_dim=4)
    >>> memory.read(torch.zeros(2, 64, 4)).values.shape
    torch.Size([2, 64, 4])
    """

    items: nn.Parameter
    certifiable, learns_by_observing = True, False

    def __init__(
        self,
        num_items: int,
        item_dim: int,
        *,
        similarity: Similarity = "cosine",
        temperature: float = 1.0,
        shrinkage: float = 1.0,
        entropy_weight: float = 2e-4,
    ) -> None:
        if num_items < 1 or item_dim < 1:
            raise ValueError(f"num_items and item_dim must be at least 1; got {num_items} and {item_dim}")
        if temperature <= 0:
            raise ValueError(f"temperature must be above 0; got {temperature}")
        if not 0 <= shrinkage < num_items:
            raise ValueError(f"shrinkage is a multiple of 1/N and must lie in [0, {num_items}); got {shrinkage}")
        bound = 1 / math.sqrt(item_dim)  # as in the released code
        super().__init__(nn.Parameter(torch.empty(num_items, item_dim).uniform_(-bound, bound)))
        self.similarity, self.temperature, self.shrinkage = similarity, temperature, shrinkage
        self.entropy_weight = entropy_weight

    @property
    def directional(self) -> bool:
        """Whether the length of an item does not matter; true but for distances."""
        return self.similarity != "euclidean"

    def read(self, queries: Tensor) -> MemoryRead:
        """Answers queries (G, T, C); see `memae.memory.base.Memory`."""
        self.check_queries(queries)
        groups = queries.shape[:2]
        found = read_memory(
            queries.flatten(0, 1),
            self.items,
            similarity=self.similarity,
            temperature=self.temperature,
            shrinkage=self.shrinkage,
        )
        value, weights, entropy, fallback = (part.view(*groups, *part.shape[1:]) for part in found)
        return MemoryRead(
            queries, value, self.items, partial(self._nearest, queries, weights), weights, entropy, fallback
        )

    def _nearest(self, queries: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """The item of the greatest weight and 1 - cosine, or for "dot" minus the product, or the squared distance."""
        nearest = weights.argmax(dim=2)
        items = self.items[nearest].to(queries.dtype)
        if self.similarity == "cosine":
            return nearest, 1 - F.cosine_similarity(queries, items, dim=2, eps=1e-12)
        if self.similarity == "dot":
            return nearest, -(queries * items).sum(dim=2)
        return nearest, (queries - items).square().sum(dim=2)

    def loss_terms(self, read: MemoryRead) -> tuple[LossTerm, ...]:
        """The mean entropy of the weights; nothing where its weight is 0."""
        if not self.entropy_weight or read.entropy is None:
            return ()
        return (LossTerm("entropy", self.entropy_weight, read.entropy.mean()),)

    def observe(self, read: MemoryRead, trusted: Tensor | None = None) -> int:
        """Does nothing: these items learn by gradient."""
        return 0

    def extra_repr(self) -> str:
        """The settings, for print(model)."""
        return (
            f"{self.num_items} x {self.item_dim}, similarity={self.similarity}, temperature={self.temperature:g}, "
            f"shrinkage={self.shrinkage:g}/N, entropy_weight={self.entropy_weight:g}"
        )


class MemAESettings(MemorySettings):
    """The memory between encoder and decoder, with the numbers of MemAE."""

    similarity: Similarity = Field(
        "cosine",
        description="'cosine' (paper), 'dot' (released code), or 'euclidean': the negative squared distance, in units "
        "of the items' own variance",
    )
    temperature: float = Field(1.0, gt=0, description="divides the similarity")
    shrinkage: float = Field(1.0, ge=0, description="lambda as a multiple of 1/N; 0: not sparse")
    entropy_weight: float = Field(2e-4, ge=0, description="alpha of the paper; see train.reduction")

    def build(self, num_items: int, item_dim: int) -> MemAE:
        """A fresh `MemAE`."""
        if self.shrinkage >= num_items:
            raise ConfigError(
                f"memory.shrinkage = {self.shrinkage:g} is a multiple of 1/N and must stay below "
                f"memory.num_items = {num_items}; lower the one or raise the other"
            )
        return MemAE(num_items, item_dim, **self.numbers)


register("memae", MemAESettings)
