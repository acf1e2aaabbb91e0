"""Differences of frames without what a shaken camera makes of them.

A shift s of the whole frame turns the frame a into b(x) = a(x - s), to first order a - b = s . grad of (a + b) / 2. So
s is a least-squares fit (Lucas and Kanade 1981). Pixels that misfit weigh less, as what moves in the view is no shift
of the camera. A shift counts only if it shows in most of the frame. So the differences of a camera at rest stay as they
are, whoever walks there.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["steady_differences"]

COARSE_PX = 2  # side of the means that shifts are found on: noise and cost fall, and larger shifts are found
STEPS = 3
OUTLIER = 1.5  # mean absolute differences: what differs more weighs less
BLOCK_PX = 8  # coarse px: the side of the blocks that are asked whether a shift shows in them
MOST_BLOCKS = 0.8  # noise and walkers reach 0.7 on the made-up streets and stay below on Ped2; shaking exceeds 0.9
FLAT = 1e-6  # keeps the fit solvable where nothing has a slope


def steady_differences(frames: Tensor) -> Tensor:
    """(B, T - 1, H, W) differences of clips (B, T, H, W) of frames, each to the frame before.

    Where the whole frame has shifted, by a few px at most, the frame before is first moved onto the later one.
    """
    differences, coarse = frames.diff(dim=1), F.avg_pool2d(frames, COARSE_PX)
    first = _fit(coarse[:, :-1].flatten(0, 1), coarse[:, 1:].flatten(0, 1))
    shows = first.shows.view(differences.shape[:2])
    if torch.compiler.is_compiling():  # a graph cannot pick frames: it moves all, and takes what shifted
        few, all_px = ((part[:, :-1].flatten(0, 1), part[:, 1:].flatten(0, 1)) for part in (coarse, frames))
        moved = _steadied(few, all_px, first.shift).view_as(differences)
        return torch.where(shows[:, :, None, None], moved, differences)
    clip, at = shows.nonzero(as_tuple=True)
    if len(clip):
        few, all_px = ((part[clip, at], part[clip, at + 1]) for part in (coarse, frames))
        differences[clip, at] = _steadied(few, all_px, first.shift[first.shows])
    return differences


def _steadied(coarse: tuple[Tensor, Tensor], frames: tuple[Tensor, Tensor], shift: Tensor) -> Tensor:
    """(N, H, W) differences of frames before and after a shift, with a first fit (N, 2) of it, coarse px."""
    for _ in range(STEPS - 1):
        shift = shift + _fit(_moved(coarse[0], shift), coarse[1]).shift
    before, after = frames
    return after - _moved(before, COARSE_PX * shift)


class _Fit(NamedTuple):
    shift: Tensor
    """(N, 2) px to the right and down."""
    shows: Tensor
    """(N,) bool: in most of the frame the shift explains the difference better than the opposite shift."""


def _fit(before: Tensor, after: Tensor) -> _Fit:
    """The shifts of frames (N, H, W), to first order."""
    middle = (before + after) / 2
    slopes = torch.stack(
        [middle[:, 1:-1, 2:] - middle[:, 1:-1, :-2], middle[:, 2:, 1:-1] - middle[:, :-2, 1:-1]], dim=1
    ).div_(2)
    apart = (before - after)[:, None, 1:-1, 1:-1]
    usual = OUTLIER * apart.abs().mean(dim=(2, 3), keepdim=True) + FLAT
    weights = (1 + (apart / usual).square()).reciprocal()
    weighted = (weights * slopes).flatten(2)
    shift = _solved(weighted @ slopes.flatten(2).mT, (weighted @ apart.flatten(2).mT)[:, :, 0])
    shifted = (shift[:, :, None, None] * slopes).sum(dim=1, keepdim=True)
    nearer = (apart + shifted).abs() - (apart - shifted).abs()
    blocks = F.avg_pool2d(nearer, BLOCK_PX, ceil_mode=True, count_include_pad=False)
    return _Fit(shift, (blocks > 0).float().mean(dim=(1, 2, 3)) >= MOST_BLOCKS)


def _solved(matrix: Tensor, right: Tensor) -> Tensor:
    """(N, 2) solutions of symmetric systems of two equations, written out: exporters know no `torch.linalg.solve`."""
    a, b, d = matrix[:, 0, 0] + FLAT, matrix[:, 0, 1], matrix[:, 1, 1] + FLAT
    x = torch.stack([d * right[:, 0] - b * right[:, 1], a * right[:, 1] - b * right[:, 0]], dim=1)
    return x / (a * d - b * b)[:, None]


def _moved(frames: Tensor, shift: Tensor) -> Tensor:
    """Frames (N, H, W) moved by (N, 2) px to the right and down, bilinear; their edges are repeated."""
    count, height, width = frames.shape
    whole = torch.eye(2, device=frames.device).expand(count, 2, 2)
    where = torch.cat([whole, (-2 * shift / shift.new_tensor([width, height]))[:, :, None]], dim=2)
    grid = F.affine_grid(where, [count, 1, height, width], align_corners=False)
    return F.grid_sample(frames[:, None], grid, padding_mode="border", align_corners=False)[:, 0]
