"""Sums and maxima over the processes of a launch, so that a rule sees the queries of all and items stay the same."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

__all__ = ["greatest", "total"]


def total(part: Tensor) -> Tensor:
    """The sum of a tensor over all processes, in each of them; itself where there is one. A gradient passes through."""
    return _Total.apply(part) if _several() else part  # type: ignore[no-untyped-call]  # torch has no annotation


@torch.no_grad()
def greatest(part: Tensor) -> Tensor:
    """The maximum of a tensor over all processes, element by element, in each of them; without a gradient."""
    if not _several():
        return part
    whole = part.clone()
    dist.all_reduce(whole, dist.ReduceOp.MAX)
    return whole


class _Total(torch.autograd.Function):
    """A sum goes to every process, so the gradient of each part is the sum of what every process sends back."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        whole = part.clone()
        dist.all_reduce(whole)
        return whole

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        whole = gradient.contiguous().clone()
        dist.all_reduce(whole)
        return whole


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
