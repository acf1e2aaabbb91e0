"""Masks that exclude parts of a video from every score. Sizes are given as height, width."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, TypeAlias

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from memae.errors import DataError
from memae.files.image import UnreadableError, read_bright

__all__ = ["Mask", "read_mask", "watched_pixels", "watched_polygons"]

SAME_ASPECT = 0.01  # relative difference that resizing to whole px can leave
LOSSY_BLACK = 16  # of 255: what compression makes of black in a JPEG or WebP mask


@dataclass(frozen=True)
class Mask:
    """Which parts of a video are scored."""

    origin: str
    """The file that it came from, for messages."""
    grid: np.ndarray
    """(H, W) bool, at the size that it was drawn at: True where watched."""

    def check_aspect(self, height: int, width: int) -> None:
        """Raises an error if the mask was drawn for a video of another aspect ratio.

        Raises:
            DataError: the aspect ratios differ.
        """
        own_height, own_width = self.grid.shape
        if abs(own_width * height / (own_height * width) - 1) > SAME_ASPECT:
            raise DataError(
                f"{self.origin}: the mask is {own_width} x {own_height} px and the video {width} x {height} "
                "(width x height), of another shape; draw it on a frame of this video"
            )

    def watched(self, height: int, width: int) -> np.ndarray:
        """(height, width) bool at the size of an error map: True where at least half of a patch is watched.

        Raises:
            DataError: at this size no place is left.
        """
        rows, columns = _overlaps(self.grid.shape[0], height), _overlaps(self.grid.shape[1], width)
        watched: np.ndarray = rows @ self.grid @ columns.T >= 0.5 - 1e-9  # a sum of thirds may miss the half
        if not watched.any():
            raise DataError(
                f"{self.origin}: leaves no place to watch on the {width} x {height} places of the error map; "
                "exclude less"
            )
        return watched


def watched_pixels(path: Path, videos: Iterable[tuple[int, int]], height: int, width: int) -> np.ndarray:
    """(height, width) bool at the size of the network: False where the mask in a file leaves a pixel out.

    Args:
        path: of the mask; see `read_mask`.
        videos: (height, width) in px of each video that it is for.
        height: of the frames that the network sees, px.
        width: of them, px.

    Raises:
        DataError: a mask that cannot be read, of another shape than a video, or that leaves nothing.
    """
    mask = read_mask(path)
    for size in set(videos):
        mask.check_aspect(*size)
    return mask.watched(height, width)


def watched_polygons(
    zones: Sequence[Sequence[tuple[float, float]]],
    masks: Sequence[Sequence[tuple[float, float]]],
    height: int,
    width: int,
) -> np.ndarray:
    """(height, width) bool: True within a zone, or anywhere if there are none, and outside all masks.

    Args:
        zones: polygons to watch, in shares of width and height, from 0 to 1.
        masks: polygons to leave out, in the same.
        height: of the result.
        width: of the result.
    """

    def within(polygons: Sequence[Sequence[tuple[float, float]]]) -> np.ndarray:
        found = [_inside([(x * width, y * height) for x, y in polygon], height, width) for polygon in polygons]
        inside: np.ndarray = np.any(found, axis=0) if found else np.zeros((height, width), dtype=bool)
        return inside

    watched: np.ndarray = (within(zones) if zones else np.ones((height, width), dtype=bool)) & ~within(masks)
    return watched


def read_mask(path: Path) -> Mask:
    """The mask in a file: an image in which black is excluded, or JSON with polygons to exclude.

    JSON counts in px of the video: {"width": 640, "height": 360, "exclude": [[[0, 0], [640, 0], [640, 80]]]}.
    Transparent places of an image are watched.

    Raises:
        DataError: a file that cannot be read as either, a polygon of fewer than 3 points, or nothing to watch.
    """
    if not path.exists():
        raise DataError(f"{path}: no such mask; check the path")
    grid = _read_polygons(path) if path.suffix.lower() == ".json" else _read_image(path)
    if not grid.any():
        raise DataError(f"{path}: excludes the whole picture; leave white what is to be watched")
    return Mask(str(path), grid)


def _overlaps(of: int, into: int) -> np.ndarray:
    """(into, of) overlap of two divisions of a length: share of each of `into` equal steps that each of `of` covers."""
    edges = np.arange(into + 1) * (of / into)
    starts, ends = edges[:-1, None], edges[1:, None]
    cells = np.arange(of)
    filled = np.minimum(ends, cells + 1) - np.maximum(starts, cells)
    shares: np.ndarray = np.maximum(filled, 0) / (ends - starts)
    return shares


def _read_image(path: Path) -> np.ndarray:
    try:
        return read_bright(path, lossy_black=LOSSY_BLACK, transparent=True)
    except UnreadableError as error:
        raise DataError(
            f"{path}: cannot read this mask as an image ({error}); give a PNG, or polygons in a .json file"
        ) from None


Coordinate: TypeAlias = Annotated[float, Field(gt=-1e6, lt=1e6, allow_inf_nan=False)]
Side: TypeAlias = Annotated[int, Field(gt=0, lt=1 << 16)]


class _Polygons(BaseModel, strict=True):
    width: Side
    height: Side
    exclude: list[Annotated[list[tuple[Coordinate, Coordinate]], Field(min_length=3)]]


def _read_polygons(path: Path) -> np.ndarray:
    try:
        content = _Polygons.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot read this mask ({error.strerror}); check its permissions") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = "".join(f" {part}" for part in first["loc"])
        wrong = f"{first['msg']}{where and f', at{where}'}"
        if first["type"] == "json_invalid":
            wrong = f"cannot read this mask ({wrong})"
        raise DataError(
            f"{path}: {wrong}; give "
            '{"width": ..., "height": ..., "exclude": '
            "[polygon, ...]}, in px of the video, and 3 or more points [x, y] for each polygon"
        ) from None
    excluded = [_inside(polygon, content.height, content.width) for polygon in content.exclude]
    return ~np.any(excluded, axis=0) if excluded else np.ones((content.height, content.width), dtype=bool)


def _inside(points: list[tuple[float, float]], height: int, width: int) -> np.ndarray:
    """(height, width) bool: True where the centre of a px is inside a polygon, by the even-odd rule.

    Pillow's polygons take in their outline and so half a px more on each side.
    """
    inside = np.zeros((height, width), dtype=bool)
    xs, ys = np.arange(width) + 0.5, np.arange(height) + 0.5
    for (x0, y0), (x1, y1) in pairwise([*points, points[0]]):
        rows = (ys >= min(y0, y1)) & (ys < max(y0, y1))
        crossings = x0 + (ys[rows] - y0) * ((x1 - x0) / (y1 - y0)) if y0 != y1 else np.empty(0)
        inside[rows] ^= xs > crossings[:, None]
    return inside
