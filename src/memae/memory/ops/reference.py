"""The memory read as the paper writes it, term by term: slow, spiky near lambda, and the oracle of the tests."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["exportable_read", "literal_read"]


def literal_read(
    query: Tensor,
    items: Tensor,
    *,
    similarity: str = "cosine",
    temperature: float = 1.0,
    shrinkage: float = 1.0,
    eps: float = 1e-12,
) -> tuple[Tensor, Tensor, Tensor]:
    """Value (T, C), weights (T, N) and entropy (T,) by equations 3 to 8 of Gong et al. 2019.

    A row in which nothing survives reads zero here, with all weights zero: the degeneracy that `read_memory`
    cures by keeping the best item. `eps` is the released code's.
    """
    logits = query @ items.T
    if similarity == "euclidean":  # ours, not the paper's
        spread = (items - items.mean(dim=0)).detach().square().sum(dim=1).mean()
        logits = -(query[:, None] - items).square().sum(dim=2) / spread
    if similarity == "cosine":
        logits = logits / (query.norm(dim=1, keepdim=True) * items.norm(dim=1))
    weights = torch.softmax(logits / temperature, dim=1)
    threshold = shrinkage / items.shape[0]
    if shrinkage > 0:
        margin = weights - threshold
        weights = F.relu(margin) * weights / (margin.abs() + eps)
        weights = weights / weights.sum(dim=1, keepdim=True).clamp_min(eps)
    entropy = torch.special.entr(weights).sum(dim=1)
    return weights @ items, weights, entropy


def exportable_read(
    query: Tensor, items: Tensor, threshold: float, temperature: float, cosine: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What `memae.memory.ops.blocked.sparse_read` gives, without gradient, in operators that every runtime has.

    No value is divided by a difference near zero, and a row of which nothing survives keeps the first of its greatest
    weights: exporters drop a factor such as 1 - 1e-6 in silence.
    """
    if cosine:
        query, items_asked = F.normalize(query, dim=1), F.normalize(items, dim=1)
    else:
        items_asked = items
    weights = torch.softmax(query @ items_asked.T / temperature, dim=1)
    greatest = weights.amax(dim=1, keepdim=True)
    place = torch.arange(len(items), device=items.device)
    first = torch.where(weights >= greatest, place, len(items)).amin(dim=1, keepdim=True)
    weights = torch.where((weights > threshold) | (place == first), weights, 0.0)
    weights = weights / weights.sum(dim=1, keepdim=True)
    return weights @ items, weights, torch.special.entr(weights).sum(dim=1), greatest[:, 0] <= threshold
