"""Errors as heat over a picture.

Heat has one meaning everywhere: none below half the threshold, so that normal places stay as they are, then from violet
over red, about the threshold, to yellow at twice the threshold and above.
"""

from __future__ import annotations

import math
from functools import cache

import matplotlib
import numpy as np
from PIL import Image

__all__ = ["FULL_HEAT", "NO_HEAT", "draw_heat", "heat_colours"]

NO_HEAT, FULL_HEAT = 0.5, 2.0  # of the threshold
DARKEST = 0.3  # of the colour map: what lies below would look like a shadow
OPACITY = 0.8  # of the strongest heat


def draw_heat(picture: Image.Image, error_map: np.ndarray, threshold: float) -> None:
    """Lays the heat of an error map (h, w) over the whole of an RGB picture, in place; NaN has none."""
    levels = _heat_levels(error_map, threshold)
    if not levels.any():
        return
    heat = Image.fromarray(levels).resize(picture.size, Image.Resampling.BILINEAR)
    colours = heat.copy()
    colours.putpalette(heat_colours().tobytes())
    picture.paste(colours.convert("RGB"), mask=heat.point(_heat_opacity()))


def _heat_levels(error_map: np.ndarray, threshold: float) -> np.ndarray:
    """(h, w) uint8: 0 up to half the threshold, 255 from twice the threshold on."""
    errors = np.where(np.isnan(error_map), -np.inf, error_map)
    if threshold <= 0:
        return np.where(errors > threshold, 255, 0).astype(np.uint8)
    times = np.minimum(errors, FULL_HEAT * threshold) / threshold
    levels = np.clip((times - NO_HEAT) / (FULL_HEAT - NO_HEAT), 0, 1)
    return np.asarray(np.round(255 * levels), dtype=np.uint8)


@cache
def heat_colours() -> np.ndarray:
    """(256, 3) uint8 of each level."""
    colours = matplotlib.colormaps["inferno"](np.linspace(DARKEST, 1, 256))[:, :3]
    return np.asarray(np.round(255 * colours), dtype=np.uint8)


@cache
def _heat_opacity() -> list[int]:
    """Of each of the 256 levels, 0 to 255: faint errors let the picture through."""
    return [round(255 * OPACITY * math.sqrt(level / 255)) for level in range(256)]
