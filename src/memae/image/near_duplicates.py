"""Finds held-out images that look nearly like one of the training, such as two photographs of one part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from memae.image.arrays import Images
from memae.image.tiles import OwnSizeImages
from memae.modality.near_duplicates import NearDuplicates
from memae.progress import Progress, stage
from memae.training.split import Splits

__all__ = ["near_duplicate_note"]

SIDE_PX = 32  # of the thumbnails
# Least cosine of two thumbnails less the mean thumbnail. Measured: in a random split of magnetic tiles, photographed
# several times, 30 % of the images reach it; split by tile none; of MNIST's digits 0.7 %, of its ones alone 0.3 %, of
# CIFAR-10 0.2 %.
ALIKE = 0.975
COMPARED = 500  # held-out images, which are enough to see a share of a twentieth
SEEN = 50_000  # images of the training at most
READ_PIXELS = 1 << 29  # of all these images at most
PART_PIXELS = 1 << 24  # read at a time

_Images: TypeAlias = Images | OwnSizeImages


def near_duplicate_note(
    images: _Images, splits: Splits, progress: Progress | None, *, grouped: bool
) -> str | None:
    """What to tell the user of near-duplicates across the split; None where there are few."""
    parts = splits.folds[0] if splits.folds else splits.whole
    pixels = _pixels(images)
    held_out = _some(parts.calibration, min(COMPARED, max(1, READ_PIXELS // 4 // pixels)))
    seen = _some(parts.train, min(SEEN, max(1, READ_PIXELS // pixels)))
    if not len(held_out):
        return None
    with stage(progress, "looking for near-duplicates", "images", len(held_out) + len(seen)) as done:
        known = _thumbnails(images, seen)
        done(len(seen))
        new = _thumbnails(images, held_out)
        done(len(held_out))
    mean = known.mean(dim=0)
    likeness, nearest = (F.normalize(new - mean) @ F.normalize(known - mean).T).max(dim=1)
    pairs = [
        (images.keys[held_out[row]], images.keys[seen[nearest[row]]])
        for row in torch.nonzero(likeness >= ALIKE).flatten().tolist()
    ]
    cure = "say with `group` which images show the same thing, or keep one of each"
    return NearDuplicates(pairs, len(held_out)).note("images", "nearly equal", cure, grouped=grouped)


def _pixels(images: _Images) -> int:
    """Of one image, about."""
    return int(np.prod(images.pixels.shape[1:]) if isinstance(images, Images) else images.images[0].size)


def _some(rows: Tensor, most: int) -> np.ndarray:
    """At most so many of the rows (B,), which are in a random order."""
    found: np.ndarray = rows[:most].numpy()
    return found


def _thumbnails(images: _Images, rows: np.ndarray) -> Tensor:
    """(B, px) float32, grey, of the images of an index, each less its own mean."""
    parts: Sequence[np.ndarray]
    if isinstance(images, Images):
        size = max(1, PART_PIXELS // _pixels(images))
        parts = [images.pixels[rows[start : start + size]] for start in range(0, len(rows), size)]
    else:
        parts = [images.images[row][None] for row in rows]
    thumbnails = torch.cat([_shrunk(part).flatten(1) for part in parts])
    return thumbnails - thumbnails.mean(dim=1, keepdim=True)


def _shrunk(pixels: np.ndarray) -> Tensor:
    """(B, h, w) the grey levels of images (B, C, H, W), of at most 32 px a side."""
    grey = torch.from_numpy(pixels.mean(axis=1, dtype=np.float32))
    height, width = grey.shape[1:]
    return F.adaptive_avg_pool2d(grey, (min(height, SIDE_PX), min(width, SIDE_PX)))
