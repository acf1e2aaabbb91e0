"""Made-up anomalies: held-out normal images with a part of another one in the wrong place."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from memae.image.tiles import OwnSizeImages
from memae.modality import Artifact

__all__ = ["made_up"]

SIDE_SHARE = 0.4  # of the sides of an image, that the part has


def made_up(artifact: Artifact, calibration: Any, generator: np.random.Generator) -> Tensor | None:
    """(S, C, H, W) encoded; see `memae.modality.Modality.made_up`. None for images that are cut into tiles."""
    if isinstance(calibration, OwnSizeImages) or len(calibration) < 2:
        return None
    x: Tensor = calibration[torch.arange(len(calibration))].clone()
    others = x.roll(int(generator.integers(1, len(x))), dims=0)
    height, width = (max(1, round(SIDE_SHARE * side)) for side in x.shape[2:])

    def corner() -> tuple[int, int]:
        return int(generator.integers(x.shape[2] - height + 1)), int(generator.integers(x.shape[3] - width + 1))

    for image, other in zip(x, others, strict=True):
        (row, column), (from_row, from_column) = corner(), corner()
        part = other[:, from_row : from_row + height, from_column : from_column + width]
        image[:, row : row + height, column : column + width] = part
    return x
