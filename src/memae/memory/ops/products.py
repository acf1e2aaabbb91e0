"""Matrix products in float32 on a CPU, by the faster of the two libraries that torch has there.

`torch.mm` asks MKL, which takes the widest registers of its maker's processors alone. oneDNN, which convolutions go
through, takes those of every processor, but needs ten microseconds to begin. `python -m benchmarks training` measures
the rate of both.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

__all__ = ["affine", "onednn_linear", "product"]

LARGE = 1 << 20  # multiply-adds from which oneDNN's start pays
NARROW = 16  # MKL multiplies matrices of fewer columns faster from the other side


def product(left: Tensor, right: Tensor, *, out: Tensor | None = None) -> Tensor:
    """left (A, B) @ right (B, C), which autograd does not see.

    oneDNN takes the right one as it lies, and first copies a left one that is transposed: let that be the smaller.

    Args:
        left: the one.
        right: the other.
        out: (A, C) where the result may be put.
    """
    if (made := _by_onednn(left, right)) is not None:
        return made
    if out is not None:
        return torch.mm(left, right, out=out)
    return (right.T @ left.T).T if right.shape[1] < NARROW else left @ right


def affine(left: Tensor, right: Tensor, added: Tensor, *, times: float = 1, out: Tensor | None = None) -> Tensor:
    """times (left (A, B) @ right (B, C) + added), which autograd does not see; as `product`.

    Args:
        left: the one.
        right: the other.
        added: what (A, C) can be broadcast from.
        times: a factor.
        out: (A, C) where the result is put; it may be `added` itself.
    """
    if (made := _by_onednn(left, right)) is not None:
        return torch.add(added if times == 1 else added * times, made, alpha=times, out=out)
    return torch.addmm(added, left, right, beta=times, alpha=times, out=out)


def _by_onednn(left: Tensor, right: Tensor) -> Tensor | None:
    if left.numel() * right.shape[1] < LARGE or left.dtype != torch.float32 or not left.is_cpu:
        return None
    linear = onednn_linear()
    try:
        return linear(left, right.T, None, "none", [], "") if linear else None
    except RuntimeError:  # where memory runs out it says no more than that it cannot; the other says what is wrong
        return None


@cache
def onednn_linear() -> Callable[..., Tensor] | None:
    """oneDNN's x @ weight.T + bias, called as (x, weight, bias, "none", [], ""); None where torch has none."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return None
    left, right = torch.arange(4.0).view(2, 2).T, torch.arange(6.0).view(2, 3)
    try:  # no public name of torch: it may go, or change
        found: Callable[..., Tensor] = torch.ops.mkldnn._linear_pointwise.default
        with torch.no_grad():
            made = found(left, right.T, None, "none", [], "")
    except (AttributeError, RuntimeError, TypeError):
        return None
    return found if torch.equal(made, left @ right) else None
