"""Pictures within the file, as data URIs, of a size that is enough to look at."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from memae.files.image import as_8_bit
from memae.plots.anomaly_map import draw_anomaly_map
from memae.report.page.markup import Markup, tag
from memae.types import Explanation

__all__ = ["item_picture", "pictures_of", "sample_picture", "still"]

LARGEST_PX = 256
STILL_PX = 480
LOSSLESS_PX = 64  # a PNG of so few px is smaller than a JPEG
JPEG_QUALITY = 80


def pictures_of(
    found: Explanation, original: np.ndarray | None, map_threshold: Callable[[], float]
) -> list[Markup]:
    """The sample, its reconstruction and its anomaly map, as far as there are such.

    Args:
        found: the sample explained.
        original: (H, W, 3) uint8 of it; None takes what the network saw.
        map_threshold: gives what the colours of maps are measured by.
    """
    if found.x is None:
        return []
    seen = Image.fromarray(_looked_at(found.x, found.x) if original is None else original)
    seen.thumbnail((LARGEST_PX, LARGEST_PX))
    shown = [_figure(seen, f"sample {found.key}", "sample")]
    if found.reconstruction is not None:
        rebuilt = Image.fromarray(_looked_at(found.reconstruction, found.x))
        rebuilt.thumbnail((LARGEST_PX, LARGEST_PX))
        shown.append(_figure(rebuilt, f"reconstruction of {found.key}", "reconstruction"))
    if found.anomaly_map is not None:
        drawn = seen.copy() if max(seen.size) > LOSSLESS_PX else seen.resize((4 * seen.width, 4 * seen.height), 0)
        draw_anomaly_map(drawn, found.anomaly_map, map_threshold())
        shown.append(_figure(drawn, f"anomaly map over {found.key}", "anomaly map"))
    return shown


def item_picture(picture: np.ndarray, item: int) -> Markup:
    """A memory item (C, H, W), decoded alone."""
    drawn = Image.fromarray(_looked_at(picture, picture))
    drawn.thumbnail((LOSSLESS_PX, LOSSLESS_PX))
    return tag("img", src=_uri(drawn), alt=f"memory item {item}, decoded alone", class_="item")


def sample_picture(picture: np.ndarray, key: str) -> Markup:
    """A training sample (C, h, w) uint8 that is near to an item."""
    levels = picture[:3] if len(picture) >= 3 else picture[:1].repeat(3, axis=0)
    drawn = Image.fromarray(np.ascontiguousarray(levels.transpose(1, 2, 0)))
    return tag("img", src=_uri(drawn), alt=f"training sample {key}", class_="item")


def still(path: Path, about: str) -> Markup:
    """A picture of a file."""
    with Image.open(path, formats=("PNG", "JPEG")) as opened:
        picture = opened.convert("RGB")
    picture.thumbnail((STILL_PX, STILL_PX))
    return _figure(picture, about, "highest score")


def _looked_at(values: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 of (C, H, W), in the range of `scale`."""
    values = np.clip(values, np.nanmin(scale), np.nanmax(scale))
    # the ends of the scale are added and cut off again, so that a flat picture does not become another
    ends = np.array([np.nanmin(scale), np.nanmax(scale)], dtype=values.dtype)
    levels: np.ndarray = as_8_bit(np.concatenate([values.ravel(), ends]))[:-2].reshape(values.shape)
    levels = levels[:3] if levels.shape[0] >= 3 else levels[:1].repeat(3, axis=0)
    return np.ascontiguousarray(levels.transpose(1, 2, 0))


def _figure(picture: Image.Image, about: str, caption: str) -> Markup:
    image = tag("img", src=_uri(picture), alt=about)
    button = tag("button", image, type="button", class_="zoom", aria_label=f"Enlarge: {about}")
    return tag("figure", button, tag("figcaption", caption))


def _uri(picture: Image.Image) -> str:
    buffer, small = io.BytesIO(), max(picture.size) <= LOSSLESS_PX
    if small:
        picture.save(buffer, format="png", optimize=True)
    else:
        picture.save(buffer, format="jpeg", quality=JPEG_QUALITY)
    return f"data:image/{'png' if small else 'jpeg'};base64,{base64.b64encode(buffer.getvalue()).decode()}"
