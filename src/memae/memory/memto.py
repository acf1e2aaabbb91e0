"""MEMTO's memory: items that a learnt gate moves towards the queries that attend to them.

J. Song, K. Kim, J. Oh, S. Cho, "MEMTO: Memory-guided Transformer for Multivariate Time Series Anomaly Detection",
NeurIPS 2023, arXiv 2312.02530.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from memae.config import Initialisation
from memae.memory.base import LossTerm, MemoryRead, MemorySettings, register
from memae.memory.items import StoredItems
from memae.memory.processes import greatest, total

__all__ = ["MEMTO", "MEMTOSettings"]


class MEMTO(StoredItems):
    """For the queries q_t of a step, all samples together, and items m_i, i = 1..N; while training, before the read:

        v_it  = softmax_t(m_i . q_t / temperature),   u_i = sum_t v_it q_t
        psi_i = sigmoid(U m_i + W u_i),               m_i <- (1 - psi_i) m_i + psi_i u_i, channel by channel

    and then, or at test time with the items as they are:

        w     = softmax_i(m_i . q / temperature),     value = (q, sum_i w_i m_i)
        loss  = entropy_weight * mean over the queries of -sum_i w_i log w_i

    The read is of the gated items with their gradient, so U and W learn (in the released code no gradient reaches
    them). `observe` keeps the items that a training read has made; a read for a score changes none.

    Args:
        num_items, item_dim: N and C.
        temperature: divides the products of the gate and of the read.
        entropy_weight: of the penalty.

    Raises:
        ValueError: a size below 1, or a temperature of 0 or less.
    """

    certifiable, learns_by_observing, directional = False, True, False

    def __init__(
        self, num_items: int, item_dim: int, *, temperature: float = 0.1, entropy_weight: float = 0.01
    ) -> None:
        if temperature <= 0:
            raise ValueError(f"temperature must be above 0; got {temperature}")
        super().__init__(torch.randn(num_items, item_dim))
        self.of_item = nn.Linear(item_dim, item_dim, bias=False)  # U
        self.of_queries = nn.Linear(item_dim, item_dim, bias=False)  # W
        self.temperature, self.entropy_weight = temperature, entropy_weight

    @property
    def out_dim(self) -> int:
        """2 C: the query and what it read."""
        return 2 * self.item_dim

    def read(self, queries: Tensor) -> MemoryRead:
        """Answers queries (G, T, C); see `memae.memory.base.Memory`."""
        self.check_queries(queries)
        items = self.items.to(queries.dtype)
        if self.training:
            items = self.gated(items, queries.flatten(0, 1))
        log_weights = torch.log_softmax(queries @ items.T / self.temperature, dim=2)
        weights = log_weights.exp()

        def nearest() -> tuple[Tensor, Tensor]:
            apart = torch.cdist(queries, items.expand(len(queries), -1, -1))
            place = apart.argmin(dim=2)
            return place, (queries - items[place]).square().sum(dim=2)

        values = torch.cat([queries, weights @ items], dim=2)
        entropy = -(weights * log_weights).sum(dim=2)  # `entr` has no gradient where a weight is zero
        return MemoryRead(queries, values, items, nearest, weights, entropy)

    def gated(self, items: Tensor, queries: Tensor) -> Tensor:
        """(N, C) the items after one step of the gate on queries (T, C) of this process, and those of all others."""
        logits = queries @ items.T / self.temperature  # (T, N)
        mass = (logits - greatest(logits.detach().amax(dim=0))).exp()
        sums = total(torch.cat([mass.T @ queries, mass.sum(dim=0)[:, None]], dim=1))
        seen = sums[:, :-1] / sums[:, -1:]
        psi = torch.sigmoid(self.of_item(items) + self.of_queries(seen))
        return (1 - psi) * items + psi * seen

    def loss_terms(self, read: MemoryRead) -> tuple[LossTerm, ...]:
        """The mean entropy of the weights."""
        assert read.entropy is not None, "a read of this memory has weights"
        return (LossTerm("entropy", self.entropy_weight, read.entropy.mean()),)

    @torch.no_grad()
    def observe(self, read: MemoryRead, trusted: Tensor | None = None) -> int:
        """Keeps the items that a training read has made, or makes them anew of the trusted queries."""
        if not (read.items.requires_grad if trusted is None else trusted.any()):
            return 0
        items = read.items if trusted is None else self.gated(self.items, read.queries[trusted].flatten(0, -2))
        before, self.items = self.items, items.detach().to(self.items.dtype)
        return int((before != self.items).any(dim=1).sum())


class MEMTOSettings(MemorySettings):
    """The memory of MEMTO: items that a learnt gate moves."""

    num_items: int | None = Field(10, ge=1, description="N; unset: the network's own number")
    initialisation: Initialisation = Field("kmeans", description="as for 'memae'")
    warmup_epochs: int = Field(5, ge=0, description="epochs as a plain autoencoder before the memory starts")
    temperature: float = Field(0.1, gt=0, description="divides the products of the gate and of the read")
    entropy_weight: float = Field(0.01, ge=0, description="of the entropy of the weights")

    def build(self, num_items: int, item_dim: int) -> MEMTO:
        """A fresh `MEMTO`."""
        return MEMTO(num_items, item_dim, **self.numbers)


register("memto", MEMTOSettings, {"memto": {"memory": {"kind": "memto"}, "train": {"reduction": "mean"}}})
