"""Maps of images: means over patches, and the smoothing of residuals and of error maps."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["anomaly_map", "has_gaps", "map_maximum", "patch_means", "smoothed", "smoothed_map"]

# Standard deviation of the Gaussian that smooths an error map to an anomaly map, as a share of the longer side.
SMOOTHING = 1 / 64
BLOCK_LINES = 64  # of a map that are smoothed in one product


def patch_means(errors: np.ndarray, patch_px: int) -> np.ndarray:
    """(h, w): the means of an error map (H, W) over patches, at their ends over the px that are left."""
    if patch_px == 1:
        return errors
    means: np.ndarray = F.avg_pool2d(torch.from_numpy(errors)[None], patch_px, ceil_mode=True)[0].numpy()
    return means


def anomaly_map(errors: np.ndarray, seen: int | None = None) -> np.ndarray:
    """Anomaly maps: error maps (..., h, w) smoothed by a Gaussian of 1/64 of the longer side, so that regions count.

    Args:
        errors: the maps, px by px or patch by patch; beyond their edges lies their mirror image. NaN, where there is no
            image, counts for nothing and stays.
        seen: the longer side of what the network sees at once, in numbers of the map; None where it sees all of it.
    """
    return smoothed_map(torch.from_numpy(errors.astype(np.float32, copy=False)), seen).numpy()


def smoothed_map(errors: Tensor, seen: int | None = None) -> Tensor:
    """`anomaly_map` of a tensor (..., h, w), on its device."""
    sigma = SMOOTHING * (seen or max(errors.shape[-2:]))
    nowhere = errors.isnan()
    if not has_gaps(nowhere):
        return _smoothed(errors, sigma)
    there = _smoothed((~nowhere).float(), sigma)
    return (_smoothed(errors.nan_to_num(0.0), sigma) / there).masked_fill(nowhere, torch.nan)


def has_gaps(nowhere: Tensor) -> bool:
    """Whether there is no image anywhere; an exported graph takes whole images, and cannot look."""
    return not torch.compiler.is_compiling() and bool(nowhere.any())


def _smoothed(maps: Tensor, sigma: float) -> Tensor:
    return _smooth_columns(_smooth_columns(maps, sigma).mT, sigma).mT


def _smooth_columns(maps: Tensor, sigma: float) -> Tensor:
    """(..., h, w) smoothed along h: products with a band of the Gaussian, a block of lines at a time."""
    size = maps.shape[-2]
    bands = (_gaussian_band(size, sigma, start) for start in range(0, size, BLOCK_LINES))
    return torch.cat(
        [weights.to(maps) @ maps[..., first : first + weights.shape[1], :] for first, weights in bands], dim=-2
    )


@lru_cache(maxsize=256)
def _gaussian_band(size: int, sigma: float, start: int) -> tuple[int, Tensor]:
    """What the lines of a block, from line `start` of `size` on, are made of: the first line, and float32 weights
    (block, lines) of those from there on. The Gaussian reaches 4 sigma; beyond the ends lies the mirror image."""
    reach = int(4 * sigma + 0.5)
    away = torch.arange(-reach, reach + 1)
    weights = torch.exp(away.double() ** 2 / (-2 * sigma**2))
    lines = torch.arange(start, min(start + BLOCK_LINES, size))[:, None] + away
    lines %= 2 * size
    lines = torch.minimum(lines, 2 * size - 1 - lines)
    first, last = int(lines.min()), int(lines.max())
    band = torch.zeros(len(lines), last + 1 - first, dtype=torch.float64)
    band.scatter_add_(1, lines - first, (weights / weights.sum()).expand(lines.shape))
    return first, band.float()


def map_maximum(errors: np.ndarray) -> np.ndarray:
    """(...) float64: the maximum of the anomaly map of each error map (..., h, w)."""
    return np.asarray(np.fmax.reduce(anomaly_map(errors), axis=(-2, -1)), dtype=np.float64)


def smoothed(x: Tensor, rebuilt: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """Two batches of images (B, C, H, W), both smoothed by a Gaussian of `sigma` px.

    Their difference is the smoothed residual: a stroke that lies a px beside its copy leaves a positive and a
    negative line, which cancel out; a stroke that should not be there leaves one line, which stays.
    """
    down, across = (_gaussian(size, sigma).to(rebuilt) for size in rebuilt.shape[2:])
    return down @ x.to(rebuilt) @ across.T, down @ rebuilt @ across.T


def _gaussian(size: int, sigma: float) -> Tensor:
    """(size, size): row i weighs the px of a line around px i; the weights add up to 1 at the edges, too."""
    place = torch.arange(size, dtype=torch.float64)
    weights = torch.exp(-((place[:, None] - place) ** 2) / (2 * sigma**2))
    return weights / weights.sum(dim=1, keepdim=True)
