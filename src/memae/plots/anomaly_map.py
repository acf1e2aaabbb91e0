"""Anomaly maps drawn over pictures, of images and of video.

The colours mean the same everywhere: none below half the threshold, so that normal places stay as they are, then from
violet over red, about the threshold, to yellow at twice the threshold and above.
"""

from __future__ import annotations

import math
from functools import cache

import matplotlib
import numpy as np
from PIL import Image

__all__ = ["CLEAR", "STRONGEST", "draw_anomaly_map", "map_colours"]

CLEAR, STRONGEST = 0.5, 2.0  # of the threshold: up to here no colour, from here on the last one
DARKEST = 0.3  # of the colour map: what lies below would look like a shadow
OPACITY = 0.8  # of the last colour


def draw_anomaly_map(picture: Image.Image, anomaly_map: np.ndarray, threshold: float) -> None:
    """Lays the colours of an anomaly map (h, w) over the whole of an RGB picture, in place; NaN has none."""
    levels = _levels(anomaly_map, threshold)
    if not levels.any():
        return
    resized = Image.fromarray(levels).resize(picture.size, Image.Resampling.BILINEAR)
    colours = resized.copy()
    colours.putpalette(map_colours().tobytes())
    picture.paste(colours.convert("RGB"), mask=resized.point(_opacities()))


def _levels(anomaly_map: np.ndarray, threshold: float) -> np.ndarray:
    """(h, w) uint8: 0 up to half the threshold, 255 from twice the threshold on."""
    values = np.where(np.isnan(anomaly_map), -np.inf, anomaly_map)
    if threshold <= 0:
        return np.where(values > threshold, 255, 0).astype(np.uint8)
    multiples = np.minimum(values, STRONGEST * threshold) / threshold
    return np.asarray(np.round(255 * np.clip((multiples - CLEAR) / (STRONGEST - CLEAR), 0, 1)), dtype=np.uint8)


@cache
def map_colours() -> np.ndarray:
    """(256, 3) uint8: the colour of each level, from `CLEAR` to `STRONGEST`."""
    colours = matplotlib.colormaps["inferno"](np.linspace(DARKEST, 1, 256))[:, :3]
    return np.asarray(np.round(255 * colours), dtype=np.uint8)


@cache
def _opacities() -> list[int]:
    """Of each of the 256 levels, 0 to 255: small errors let the picture through."""
    return [round(255 * OPACITY * math.sqrt(level / 255)) for level in range(256)]
