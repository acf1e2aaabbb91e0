"""The memory read as a function: one door, `read_memory`, before a reference and a fast implementation.

`reference.py` writes the paper's formulas down word for word, which is the oracle of the tests, and the graph that is
exported to other runtimes; `blocked.py` is what runs. All give the same.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from memae.deprecated import warn_renamed
from memae.memory.ops.blocked import sparse_read
from memae.memory.ops.reference import exportable_read

__all__ = ["Similarity", "SparseRead", "read_memory"]

SMALLEST = 1e-12  # variance of the items that is divided by

Similarity = Literal["cosine", "dot", "euclidean"]


class SparseRead(NamedTuple):
    """What one read of the memory gives, for T queries, N items of dimension C."""

    value: Tensor
    """The mixture of items that replaces each query, of the query's own shape."""
    weights: Tensor
    """(T, N) addressing weights: each row is >= 0 and sums to 1; zero for an item that was dropped."""
    entropy: Tensor
    """(T,) addressing entropy of each row in nats, E(w) = sum_i -w_i log w_i."""
    fallback: Tensor
    """(T,) bool: no item passed the shrinkage, so the nearest one was kept."""

    @property
    def rescued(self) -> Tensor:
        """The old name of `fallback`, until 0.2.0."""
        warn_renamed("rescued", "fallback")
        return self.fallback


def read_memory(
    query: Tensor,
    items: Tensor,
    *,
    similarity: Similarity = "cosine",
    temperature: float = 1.0,
    shrinkage: float = 1.0,
) -> SparseRead:
    """Rebuilds each query from the few items that resemble it (equations 3 to 8 of Gong et al. 2019).

    Weights are w = softmax(d(query, item) / temperature); those at or below lambda = shrinkage / N are dropped
    and the rest renormalised. This equals a softmax over the kept items and is computed as one, without a division
    by a difference near zero and with exact zeros for dropped items. If no weight exceeds lambda, the nearest item
    is kept (argmax fallback). Half precision becomes float32 for the whole read, also inside autocast.

    Args:
        query: (T, C).
        items: (N, C).
        similarity: "cosine", "dot" for the plain inner product of the released code, or "euclidean" for
            ``-|q - m|^2 / v``, with v the mean of ``|m - mean of all m|^2`` over the items, so that the scale of the
            encoder does not matter. It alone tells near from far in one direction.
        temperature: divides the similarity. Cosine at 1 cannot be sparse (all logits lie in [-1, 1]).
        shrinkage: lambda as a multiple of 1/N; 0 keeps every item.

    Raises:
        ValueError: shapes that do not fit, temperature <= 0, or shrinkage outside [0, N).

    >>> q = torch.tensor([[2.0, 0.0]])
    >>> read_memory(q, torch.eye(2), temperature=0.1).weights
    tensor([[1., 0.]])
    """
    if query.ndim != 2 or items.ndim != 2 or query.shape[1] != items.shape[1]:
        raise ValueError(
            f"read_memory takes queries (T, C) and items (N, C) of one C; got {tuple(query.shape)} and "
            f"{tuple(items.shape)}"
        )
    num_items = items.shape[0]
    if temperature <= 0:
        raise ValueError(f"temperature must be above 0; got {temperature}")
    if not 0 <= shrinkage < num_items:
        raise ValueError(
            f"shrinkage is a multiple of 1/N and must lie in [0, N) = [0, {num_items}); got {shrinkage}"
        )
    with torch.autocast(query.device.type, enabled=False):
        if query.dtype in (torch.float16, torch.bfloat16):
            query = query.float()
        items = items.to(query.dtype)
        if similarity == "euclidean":
            return _euclidean_read(query, items, shrinkage / num_items, temperature)
        return _read(query, items, shrinkage / num_items, temperature, similarity == "cosine")


def _read(query: Tensor, items: Tensor, threshold: float, temperature: float, cosine: bool) -> SparseRead:
    read = exportable_read if torch.compiler.is_compiling() else sparse_read
    return SparseRead(*read(query, items, threshold, temperature, cosine))


def _euclidean_read(query: Tensor, items: Tensor, threshold: float, temperature: float) -> SparseRead:
    """-|q - m|^2 is 2 (q m - |m|^2 / 2), a dot product of longer vectors, less |q|^2, which no softmax sees."""
    variance = (
        items.detach().var(dim=0, correction=0).sum().clamp_min(SMALLEST)
    )  # a unit: nothing learns through it
    query = torch.cat([query, query.new_ones(query.shape[0], 1)], dim=1) * (2 / variance)
    longer = torch.cat([items, items.square().sum(dim=1, keepdim=True) / -2], dim=1)
    read = _read(query, longer, threshold, temperature, False)
    return read._replace(value=read.value[:, :-1])
