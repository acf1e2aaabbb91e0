"""Regions of an anomaly map above a threshold, and boxes around them, of images and of video."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from memae.types import Box, Region

__all__ = ["draw_boxes", "find_regions"]

MAX_REGIONS = 10  # in one picture: a person looks at a few
EDGE = (24, 24, 24)
LINE = (0, 235, 255)  # no colour of the map, and rare in pictures


def find_regions(anomaly_map: np.ndarray, threshold: float, height: int, width: int) -> tuple[Region, ...]:
    """The connected places of a map above the threshold, strongest first; at most 10.

    Places that touch at a corner are connected. A place of a single element counts: it may stand for 8 x 8 px.

    Args:
        anomaly_map: (h, w) of the whole picture; NaN is never above the threshold.
        threshold: in the units of the map.
        height: of the picture, px.
        width: of the picture, px.
    """
    labels, count = ndimage.label(anomaly_map > threshold, structure=np.ones((3, 3)))
    if not count:
        return ()
    numbers = np.arange(1, count + 1)
    peaks, sizes = ndimage.maximum(anomaly_map, labels, numbers), np.bincount(labels.ravel())[1:]
    places, place_px = ndimage.find_objects(labels), height * width / labels.size
    return tuple(
        Region(
            _scaled(places[i], labels.shape, height, width), max(1, round(sizes[i] * place_px)), float(peaks[i])
        )
        for i in np.argsort(-peaks, kind="stable")[:MAX_REGIONS]
    )


def draw_boxes(picture: Image.Image, boxes: Sequence[Box], zoom: float = 1.0) -> None:
    """Lines around the boxes, not on them, with a dark edge that shows on a bright background; in place.

    Args:
        picture: RGB.
        boxes: in px of the picture before it was enlarged.
        zoom: how many times it was.
    """
    draw = ImageDraw.Draw(picture)
    line = max(2, picture.width // 400)
    for box in boxes:
        left, top, right, bottom = (round(side * zoom) for side in box)
        for around, width, colour in ((line + 1, 1, EDGE), (line, line, LINE)):
            corners = (
                max(left - around, 0),
                max(top - around, 0),
                min(right - 1 + around, picture.width - 1),
                min(bottom - 1 + around, picture.height - 1),
            )
            draw.rectangle(corners, outline=colour, width=width)


def _scaled(place: tuple[slice, slice], shape: tuple[int, int], height: int, width: int) -> Box:
    """The px that a rectangle of places covers, those in part included."""
    (rows, columns), (h, w) = place, shape
    return Box(
        columns.start * width // w,
        rows.start * height // h,
        -(-columns.stop * width // w),
        -(-rows.stop * height // h),
    )
