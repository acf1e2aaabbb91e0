"""MNAD's memory: a few unit vectors that a rule moves, and each query handed on beside what it read.

H. Park, J. Noh, B. Ham, "Learning Memory-guided Normality for Anomaly Detection", CVPR 2020, arXiv 2003.13228.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from memae.memory.base import LossTerm, MemoryRead, MemorySettings, register
from memae.memory.items import StoredItems
from memae.memory.processes import greatest, total

__all__ = ["MNAD", "MNADSettings", "Variant"]

Variant = Literal["paper", "released"]


class MNAD(StoredItems):
    """For a query q and items m_i of length 1, i = 1..N, with p1 and p2 the nearest and the second nearest item:

        w     = softmax_i(m_i . q / temperature),   value = (q, sum_i w_i m_i)
        m_i  <- normalised m_i + S_i,   S_i = sum_{q in U_i} v_i q,   v_i = exp(m_i . q - max m_i . q)
        loss  = compactness_weight |q - p1| + separateness_weight [|q - p1| - |q - p2| + 1]_+

    U_i are the queries nearest to m_i; an item without any stays. The rule runs after each step of a training. No
    gradient reaches the items. As the rule adds all queries of a batch to a vector of length 1, the old item hardly
    counts. With `decay` d it keeps a share: m_i <- normalised d c_i m_i + (1 - d) S_i, an exponential average, in which
    the mass c_i of an item (`counts`) follows c_i <- d c_i + (1 - d) sum v_i.

    | | "paper" | "released" |
    |---|---|---|
    | penalties | sums over the queries of a sample | means over all queries |
    | compactness | norms | squares, the mean over the channels too |
    | gradient of the read | through the weights | only through the query beside it |
    | max in the rule | over U_i | over all queries |
    """

    counts: Tensor
    certifiable, learns_by_observing, directional = False, True, True
    kept_share: float | None = None
    """Of the old item in a new one, the mean over the items that the last `observe` moved."""

    def __init__(
        self,
        num_items: int,
        item_dim: int,
        *,
        variant: Variant = "paper",
        temperature: float = 1.0,
        compactness_weight: float = 0.01,
        separateness_weight: float = 0.01,
        decay: float | None = None,
    ) -> None:
        if num_items < 2 or temperature <= 0:
            raise ValueError(f"num_items is at least 2, temperature above 0; got {num_items} and {temperature}")
        super().__init__(F.normalize(torch.rand(num_items, item_dim), dim=1))  # as in the released code
        self.add_number("counts", torch.float32)
        self.variant, self.temperature, self.decay = variant, temperature, decay
        self.compactness_weight, self.separateness_weight = compactness_weight, separateness_weight

    @property
    def out_dim(self) -> int:
        """2 C: the query and what it read."""
        return 2 * self.item_dim

    def read(self, queries: Tensor) -> MemoryRead:
        """Answers queries (G, T, C); see `memae.memory.base.Memory`."""
        self.check_queries(queries)
        q, items = F.normalize(queries, dim=2), self.items.to(queries.dtype)
        weights = torch.softmax(q @ items.T / self.temperature, dim=2)
        weights = weights if self.variant == "paper" else weights.detach()

        def nearest() -> tuple[Tensor, Tensor]:
            place = weights.argmax(dim=2)
            return place, torch.linalg.vector_norm(q - items[place], dim=2)

        values, entropy = torch.cat([q, weights @ items], dim=2), torch.special.entr(weights).sum(dim=2)
        return MemoryRead(q, values, items, nearest, weights, entropy)

    def loss_terms(self, read: MemoryRead) -> tuple[LossTerm, ...]:
        """Compactness and separateness."""
        assert read.weights is not None, "a read of this memory has weights"
        places = read.weights.topk(2, dim=2).indices.unbind(dim=2)
        near, next_near = (torch.linalg.vector_norm(read.queries - read.items[place], dim=2) for place in places)
        apart = F.relu(near - next_near + 1)
        if self.variant == "paper":
            compact, separate = near.sum(dim=1).mean(), apart.sum(dim=1).mean()
        else:
            compact, separate = near.square().mean() / self.item_dim, apart.mean()
        return (
            LossTerm("compactness", self.compactness_weight, compact),
            LossTerm("separateness", self.separateness_weight, separate),
        )

    @torch.no_grad()
    def observe(self, read: MemoryRead, trusted: Tensor | None = None) -> int:
        """Applies the rule; returns how many items were nearest to a query. See `Memory.observe`."""
        q = (read.queries if trusted is None else read.queries[trusted]).reshape(-1, self.item_dim).to(self.items)
        products = q @ self.items.T
        own = F.one_hot(products.argmax(dim=1), self.num_items).bool()  # (T, N)
        over = products.masked_fill(~own, -torch.inf) if self.variant == "paper" else products
        none = products.new_full((1, self.num_items), -torch.inf)  # another process may have queries
        weights = (products - greatest(torch.cat([over, none]).amax(dim=0))).exp().where(own, 0.0)
        sums, masses = total(weights.T @ q), total(weights.sum(dim=0))
        seen, before = masses > 0, torch.ones_like(masses)
        if self.decay is not None:
            counts = self.counts.where(self.counts > 0, masses)  # a new item weighs as much as what it meets first
            before, sums = self.decay * counts, (1 - self.decay) * sums
            self.counts = (before + (1 - self.decay) * masses).where(seen, self.counts)
        moved = before[:, None] * self.items + sums
        self.items = F.normalize(moved, dim=1).where(seen[:, None], self.items)  # a read keeps the old ones
        self.kept_share = float((before / torch.linalg.vector_norm(moved, dim=1))[seen].mean())
        return int(seen.sum())

    def as_items(self, rows: Tensor) -> Tensor:
        """Rows of length 1."""
        return F.normalize(rows, dim=1)


class MNADSettings(MemorySettings):
    """The memory of MNAD: items of length 1 that a rule moves."""

    num_items: int | None = Field(10, ge=2, description="N; unset: the network's own number")
    variant: Variant = Field(
        "paper", description="'paper' or 'released', which differ in the penalties and the rule"
    )
    temperature: float = Field(1.0, gt=0, description="divides the products of the read")
    compactness_weight: float = Field(0.01, ge=0, description="of the distance to the nearest item")
    separateness_weight: float = Field(0.01, ge=0, description="of the second nearest item being as near")
    decay: float | None = Field(
        None, ge=0, le=1, description="share of an old item that a step keeps; unset: the rule"
    )

    def build(self, num_items: int, item_dim: int) -> MNAD:
        """A fresh `MNAD`."""
        return MNAD(num_items, item_dim, **self.numbers)


PRESETS = {
    f"mnad-{name}": {"memory": {"kind": "mnad", "variant": name}, "train": {"reduction": reduction}}
    for name, reduction in (("paper", "sum"), ("released", "mean"))
}
register("mnad", MNADSettings, PRESETS)
