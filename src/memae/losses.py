"""The one error function that trains, scores and explains every model here, and the loss of a training."""

from __future__ import annotations

from collections.abc import Iterable

import torch.nn.functional as F
from torch import Tensor

from memae.config import Reduction
from memae.memory.base import LossTerm

__all__ = ["Reduction", "squared_error", "total_loss"]


def squared_error(x: Tensor, reconstruction: Tensor) -> Tensor:
    """(x - x^)^2, element by element, in float32 or better: the error map, of the shape of x."""
    x = x.float() if x.dtype.itemsize < 4 else x
    return F.mse_loss(reconstruction.to(x.dtype), x, reduction="none")  # one pass each way, and not three


def total_loss(error_map: Tensor, terms: Iterable[LossTerm] = (), *, reduction: Reduction) -> Tensor:
    """Error of a sample, mean over the batch, plus weight x value of each term: equation 10 of the paper for MemAE.

    Args:
        error_map: (B, ...) squared errors.
        terms: what a memory adds; see `memae.memory.base.Memory.loss_terms`.
        reduction: "sum" adds the errors of a sample, as the paper writes; "mean" averages them over the
            elements, as the released code does, so that a term of the same weight counts up to 1e6 times more.
    """
    per_sample = error_map.flatten(1)
    loss = (per_sample.sum(dim=1) if reduction == "sum" else per_sample.mean(dim=1)).mean()
    for term in terms:
        loss = loss + term.weight * term.value
    return loss
