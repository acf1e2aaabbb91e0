"""True regions of masks and the tracks that they belong to, and how much boxes overlap."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage

__all__ = ["TrueRegions", "overlaps"]

TOUCHING = np.ones((3, 3), dtype=bool)  # by a side or a corner


class _Frame(NamedTuple):
    number: int
    regions: np.ndarray
    """(H, W) the region at each pixel, from 1 on; 0 for none."""
    first: int
    """The id of region 1."""


class TrueRegions:
    """The true regions of one video, given frame by frame.

    Masks with track ids have one region for each positive value. In other masks a region is a connected component,
    and regions of consecutive frames that share a pixel belong to one track.
    """

    def __init__(self, *, has_track_ids: bool) -> None:
        self._has_track_ids = has_track_ids
        self._ids: list[int] = []
        self._links: list[tuple[int, int]] = []
        self._last = _Frame(-2, np.empty((0, 0)), 0)

    def add(self, values: np.ndarray, frame: int) -> np.ndarray:
        """The boxes (K, 4) of the regions of a mask (H, W): left, top, right, bottom; the last two lie outside."""
        if not values.any():
            return np.empty((0, 4))
        if self._has_track_ids:
            ids, numbered = np.unique(np.append(values, 0), return_inverse=True)  # the 0 makes normal pixels 0
            self._ids += ids[1:].tolist()
            return _boxes(numbered[:-1].reshape(values.shape))
        numbered, count = ndimage.label(values, structure=TOUCHING)
        first = len(self._ids)  # the id of this frame's region 1, and one more for each after it
        if frame == self._last.number + 1:
            both = (numbered > 0) & (self._last.regions > 0)
            pairs = {*zip(numbered[both].tolist(), self._last.regions[both].tolist(), strict=True)}
            self._links += [(first + now - 1, self._last.first + before - 1) for now, before in pairs]
        self._ids += range(first, first + count)
        self._last = _Frame(frame, numbered, first)
        return _boxes(numbered)

    def tracks(self) -> np.ndarray:
        """(N,) the track of each region so far, as a number."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        ids = np.array(self._ids, dtype=np.int64)
        if self._has_track_ids or not self._links:
            return ids
        now, before = np.array(self._links, dtype=np.int32).T  # of int64 scipy 1.11 makes nonsense
        links = coo_array((np.ones(len(now)), (now, before)), shape=(len(ids), len(ids)))
        return np.asarray(connected_components(links, directed=False)[1])


def overlaps(true: np.ndarray, detected: np.ndarray) -> np.ndarray:
    """(K, D) intersection over union of boxes (K, 4) and (D, 4)."""
    true, detected = true[:, None], detected[None]
    sides = np.minimum(true[..., 2:], detected[..., 2:]) - np.maximum(true[..., :2], detected[..., :2])
    shared = sides.clip(min=0).prod(axis=-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).prod(axis=-1) for boxes in (true, detected)]
    shares: np.ndarray = shared / (areas[0] + areas[1] - shared)
    return shares


def _boxes(numbered: np.ndarray) -> np.ndarray:
    """(K, 4) left, top, right, bottom of the regions 1 ... K in (H, W)."""
    return np.array(
        [(x.start, y.start, x.stop, y.stop) for y, x in ndimage.find_objects(numbered)], dtype=np.float64
    )
