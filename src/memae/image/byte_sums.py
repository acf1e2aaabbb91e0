"""Sums over images of 8 bits, exact: long sums of floats are far off."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from memae import native

__all__ = ["byte_sums"]


def byte_sums(pixels: Tensor) -> Tensor:
    """(B, 2) int64: the sum of the pixels of each image (B, ...) uint8, and of their squares."""
    library = native.library()
    if library is None:
        wide = pixels.flatten(1).int()
        return torch.stack([wide.sum(dim=1), wide.square_().sum(dim=1)], dim=1)
    pixels = pixels.contiguous()
    sums = torch.empty(len(pixels), 2, dtype=torch.int64)
    number, pointer = ctypes.c_int64, ctypes.c_void_p
    library.byte_sums(
        pointer(pixels.data_ptr()), number(len(pixels)), number(pixels[0].numel() if len(pixels) else 0),
        pointer(sums.data_ptr()),
    )  # fmt: skip
    return sums
