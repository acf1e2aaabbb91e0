"""The resizing of decoded images as a graph: what Pillow computes, to a level of 255, for images of any size."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["levels", "luma", "resized"]

LUMA = (19595 / 65536, 38470 / 65536, 7471 / 65536)  # of red, green and blue, as Pillow rounds them
RAISED_COSINE = (0.54, 0.46)  # of the Hamming window


def resized(pixels: Tensor, height: int, width: int, *, whole: bool) -> Tensor:
    """Images (B, C, H, W) float32 resized to (B, C, height, width); one of that size stays as it is.

    As for files (`memae.image.decode`), an image that shrinks in both directions is filtered by a Hamming window, any
    other by a triangle; the window is as wide as the pixels of the result. A level may differ from Pillow's by 1: where
    a half is rounded, and where Pillow goes down the columns first because rows are stretched.

    Args:
        pixels: of any size.
        height: of the result, px.
        width: of the result, px.
        whole: levels of 8 bits, which are rounded after each direction, as Pillow does.
    """
    rows, columns = (_places(size, pixels) for size in pixels.shape[2:])
    shrinks = (rows[-1] >= height - 1) & (columns[-1] >= width - 1)
    across = pixels @ _weights(columns, width, shrinks).T
    down = _weights(rows, height, shrinks) @ (levels(across) if whole else across)
    return levels(down) if whole else down


def levels(pixels: Tensor) -> Tensor:
    """Rounded to whole levels from 0 to 255."""
    return (pixels + 0.5).floor().clamp(0, 255)


def luma(pixels: Tensor) -> Tensor:
    """(B, 1, H, W): the grey levels of colour (B, 3, H, W) in whole levels, as Pillow converts them."""
    red, green, blue = (channel * share for channel, share in zip(pixels.unbind(dim=1), LUMA, strict=True))
    return levels(red + green + blue)[:, None]


def _places(size: int, like: Tensor) -> Tensor:
    return torch.arange(size, dtype=torch.float32, device=like.device)


def _weights(places: Tensor, size: int, shrinks: Tensor) -> Tensor:
    """(size, places): how much each place of a line counts for each of `size` places of the resized line."""
    scale = (places[-1] + 1) / size
    centres = (torch.arange(size, dtype=torch.float32, device=places.device)[:, None] + 0.5) * scale
    away = ((places + 0.5 - centres) / scale.clamp_min(1.0)).abs()
    angle = math.pi * away
    sinc = torch.where(away == 0, 1.0, angle.sin() / torch.where(away == 0, 1.0, angle))
    hamming = sinc * (RAISED_COSINE[0] + RAISED_COSINE[1] * angle.cos())
    weights = torch.where(away < 1, torch.where(shrinks, hamming, 1 - away), 0.0)
    return weights / weights.sum(dim=1, keepdim=True)
