"""The one error function that trains, scores and explains every model here, and the two terms of the loss."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

__all__ = ["Reduction", "squared_error", "total_loss"]

Reduction = Literal["sum", "mean"]


def squared_error(x: Tensor, reconstruction: Tensor) -> Tensor:
    """(x - x^)^2, element by element, in float32 or better: the error map, of the shape of x."""
    x = x.float() if x.dtype.itemsize < 4 else x
    return F.mse_loss(reconstruction.to(x.dtype), x, reduction="none")  # one pass each way, and not three


def total_loss(error_map: Tensor, entropy: Tensor | None, *, alpha: float, reduction: Reduction) -> Tensor:
    """Mean over the batch of (error of a sample + alpha * mean addressing entropy): equation 10 of the paper.

    Args:
        error_map: (B, ...) squared errors.
        entropy: (T,) entropies of all queries of the batch, or None for a model without a memory.
        alpha: the weight of the entropy. What it weighs against depends on `reduction`.
        reduction: "sum" adds the errors of a sample, as the paper writes; "mean" averages them over the
            elements, as the released code does, so that the same alpha weighs up to 1e6 times more.
    """
    per_sample = error_map.flatten(1)
    loss = (per_sample.sum(dim=1) if reduction == "sum" else per_sample.mean(dim=1)).mean()
    return loss if entropy is None or alpha == 0 else loss + alpha * entropy.mean()
