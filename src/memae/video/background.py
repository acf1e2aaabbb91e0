"""Background memory: how each place of a fixed camera looks when nothing stands there that should not.

A network of frame differences cannot see what stands still. This memory can: it holds a few prototypes of every cell
of the frame (8 x 8 px) and the usual variation of every pixel, both from what stands still in normal video
(`memae.video.standing`). For a view v, its nearest prototypes p cell by cell, and its change c within some seconds,

    map = sqrt(max(0, D - CHANGE_WEIGHT max(0, C - median of C)))

    D, C = means over a patch of (v - p)^2 / variance, and of c^2 / variance

so what differs from the prototypes counts as far as it does not move, noise aside. No label and no gradient enters.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.ndimage import uniform_filter
from torch import Tensor

from memae.engine import one_thread
from memae.errors import DataError
from memae.video.frames import Frames
from memae.video.scoring import patch_errors
from memae.video.standing import PERSISTENCE_S, SAMPLES, Standing, StandingView, log_contrast

__all__ = ["Background", "StillScorer"]

CHANGE_WEIGHT = 5.0  # of what changes within some seconds: it moves, though slowly
PROTOTYPES = 4  # of a cell
CELL_PX = 8
LEAST_SUPPORT = 0.03  # of the normal views that a prototype stands for: fewer are chance
MOST_VIEWS = 300  # of normal video that the memory is fitted to
REFERENCE_FRAMES = 64
ROUNDS = 4  # of k-means
MOST_UNREST = 2.0  # at most this much of what the whole frame shows is taken for noise or light
NAMES = ("background.reference", "background.prototypes", "background.variance")
PERSISTENCE = "background.persistence_s"


@dataclass(frozen=True)
class Background:
    """The fitted memory of one camera."""

    reference: np.ndarray
    """(H, W) float16 log contrast of the usual view, which a shaken camera is moved back onto."""
    prototypes: np.ndarray
    """(K, H, W) float16 log contrast; the prototypes of each cell are independent of those of other cells."""
    variance: np.ndarray
    """(H, W) float32 mean squared distance of normal views from their nearest prototypes, and its mean over all px."""
    persistence_s: float = PERSISTENCE_S
    """How long a view looks back: what stands for more than half of it stands still."""

    @classmethod
    def fit(cls, videos: Sequence[Frames]) -> Background | None:
        """The memory behind normal videos, or segments of them; None if each of them has fewer than a few frames.

        A view looks back by `PERSISTENCE_S`, or by half of the longest video if that is less.

        Args:
            videos: frames at the size of the network; at most a few thousand of them are read, evenly spaced.
        """
        longest_s = max(
            (frames.keys[-1].time_s - frames.keys[0].time_s for frames in videos if len(frames)), default=0
        )
        if longest_s <= 0:
            return None
        persistence_s = min(PERSISTENCE_S, longest_s / 2)
        reference = _reference(videos)
        views = _views(videos, reference.astype(np.float32), persistence_s)
        if not len(views):
            return None
        size = views.shape[1:]
        cells = _cells(views)
        prototypes, residual = _prototypes(cells)
        variance = np.square(_frames(residual, size)).mean(axis=0)
        # few views say little of one pixel, and where nobody walked in training somebody may
        variance = (uniform_filter(variance, 3) + variance.mean() + 1e-6).astype(np.float32)
        return cls(reference, _frames(prototypes, size).astype(np.float16), variance, persistence_s)

    def errors(self, view: np.ndarray) -> np.ndarray:
        """(H, W) float32 squared distances from the nearest prototypes, in units of the variance."""
        prototypes, variance = self._in_cells
        squared = (prototypes - _cells(view)) ** 2 / variance
        nearest = squared.sum(axis=-1).argmin(axis=0)
        chosen = squared[nearest, np.arange(len(nearest))]
        return _frames(chosen, view.shape).astype(np.float32)

    @cached_property
    def _in_cells(self) -> tuple[np.ndarray, np.ndarray]:
        """(K, C, D) prototypes and (C, D) variance."""
        return _cells(self.prototypes.astype(np.float32)), _cells(self.variance)

    def tensors(self) -> dict[str, Tensor]:
        """The arrays of the memory, by their names in a model file."""
        arrays = self.reference, self.prototypes, self.variance
        found = {name: torch.from_numpy(array) for name, array in zip(NAMES, arrays, strict=True)}
        return {**found, PERSISTENCE: torch.tensor([self.persistence_s], dtype=torch.float64)}

    @classmethod
    def load(cls, tensors: Mapping[str, Tensor]) -> Background | None:
        """Reads the memory from the tensors of a model file; None if it has none.

        Raises:
            KeyError: a part is missing.
            ValueError: a part of another shape or type, or a variance or persistence that is not above 0.
        """
        if not any(name in tensors for name in NAMES):
            return None
        arrays = reference, prototypes, variance = [tensors[name].numpy() for name in NAMES]
        persistence = tensors.get(PERSISTENCE, torch.tensor([PERSISTENCE_S]))  # not in models of before
        if persistence.shape != (1,) or not 0 < float(persistence) < math.inf:
            raise ValueError(f"{PERSISTENCE!r} is not one time above 0")
        found = cls(reference, prototypes, variance, float(persistence))
        size = reference.shape
        shapes = (size, (len(prototypes), *size), size)
        for name, array, shape in zip(NAMES, arrays, shapes, strict=True):
            if len(size) != 2 or array.shape != shape or array.dtype.kind != "f" or not array.size:
                raise ValueError(f"{name!r} is of shape {array.shape} and type {array.dtype}")
        if not (found.variance > 0).all():
            raise ValueError(f"{NAMES[2]!r} is not above 0")
        return found


class StillScorer:
    """Gives each frame of a video a map of what stands still and should not, from the past alone.

    The map changes `SAMPLES` times in the persistence of the background; until half of that was seen it is 0.

    Args:
        background: of the camera.
        place_px: side of the patches of the map, px; they lie half of that apart.
        watched: (H, W) bool: False leaves a pixel out; None takes all.
    """

    def __init__(self, background: Background, place_px: int, watched: np.ndarray | None = None) -> None:
        self._background, self._place_px = background, place_px
        self._view = StandingView(background.reference.astype(np.float32), background.persistence_s)
        self._size = background.reference.shape
        self._video: str | None = None
        self._watched = np.ones(self._size, dtype=np.float32) if watched is None else watched.astype(np.float32)
        self._shares = self._patch_means(self._watched)
        self._patches = self._shares >= 0.5
        self._map = self._nothing = np.zeros_like(self._shares)

    def push(self, pixels: np.ndarray, time_s: float, video: str = "") -> np.ndarray:
        """The map (h, w) float32 of the next frame (H, W) uint8; not to be written to.

        Args:
            pixels: of the frame.
            time_s: presentation time; frames come in its order.
            video: another name than before begins anew.

        Raises:
            DataError: a frame of another size than those of the training.
        """
        if pixels.shape != self._size:
            raise DataError(
                f"a frame of {pixels.shape[1]} x {pixels.shape[0]} px, and the background was learnt on frames of "
                f"{self._size[1]} x {self._size[0]} px (width x height); resize it"
            )
        if video != self._video:
            self._video, self._map = video, self._nothing
            self._view.reset()
        if self._view.push(pixels, time_s):
            standing = self._view.standing()
            self._map = self._nothing if standing is None else self._distances(standing)
        return self._map

    def each(self, frames: Frames) -> Iterator[np.ndarray]:
        """The map of each of consecutive frames."""
        for pixels, key in zip(frames.pixels, frames.keys, strict=True):
            yield self.push(pixels, key.time_s, key.video)

    def maps(self, frames: Frames) -> np.ndarray:
        """(S, h, w) maps of consecutive frames."""
        return np.stack(list(self.each(frames)))

    def _distances(self, standing: Standing) -> np.ndarray:
        """The map of what stands still; what raises the whole frame, such as noise, is divided out."""
        apart = self._watched_means(self._background.errors(standing.view))
        change = self._watched_means(standing.change / self._background.variance)
        moving = (change - np.median(change[self._patches])).clip(min=0)
        found: np.ndarray = np.sqrt((apart - np.float32(CHANGE_WEIGHT) * moving).clip(min=0)) * self._patches
        found /= np.clip(np.sqrt(np.median(apart[self._patches])), 1.0, MOST_UNREST)
        return found

    def _watched_means(self, values: np.ndarray) -> np.ndarray:
        """Means over the watched pixels of each patch."""
        means: np.ndarray = self._patch_means(values * self._watched) / np.maximum(self._shares, 0.5)
        return means

    def _patch_means(self, values: np.ndarray) -> np.ndarray:
        """(h, w) of (H, W)."""
        with one_thread():  # the others would spin for longer than this takes
            found: np.ndarray = patch_errors(torch.from_numpy(values)[None, None], self._place_px)[0, 0].numpy()
        return found


def _reference(videos: Sequence[Frames]) -> np.ndarray:
    """The median log contrast of some frames, evenly spaced."""
    every = [(video, number) for video, frames in enumerate(videos) for number in range(len(frames))]
    chosen = [every[at] for at in np.linspace(0, len(every) - 1, min(REFERENCE_FRAMES, len(every))).astype(int)]
    looks = [log_contrast(videos[video].pixels[number]) for video, number in chosen]
    median: np.ndarray = np.median(looks, axis=0).astype(np.float16)
    return median


def _views(videos: Sequence[Frames], reference: np.ndarray, persistence_s: float) -> np.ndarray:
    """(N, H, W) float32: what stands still in windows of `persistence_s`, half of that or more apart."""
    seconds = sum(frames.keys[-1].time_s - frames.keys[0].time_s for frames in videos if len(frames))
    hop_s = max(persistence_s / 2, seconds / MOST_VIEWS)
    view, found = StandingView(reference, persistence_s), []
    for frames in videos:
        times = np.array([key.time_s for key in frames.keys])
        start_s = times[0] if len(times) else 0.0
        while len(times) and start_s + persistence_s / 2 <= times[-1]:
            view.reset()
            step_s = persistence_s / SAMPLES
            wanted = np.searchsorted(times, start_s + step_s * np.arange(SAMPLES) - 1e-6)
            for number in np.unique(wanted[wanted < len(times)]):
                view.push(frames.pixels[number], times[number])
            if standing := view.standing():
                found.append(standing.view)
            start_s += hop_s
    return np.stack(found) if found else np.empty((0, *reference.shape), np.float32)


def _prototypes(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Prototypes (K, C, D) of views (N, C, D) in cells, and the views minus their nearest ones (N, C, D).

    K-means in every cell at once. It starts at the median and at supported views far from it, and a prototype of few
    views falls back to the first.
    """
    each, support = np.arange(cells.shape[1]), max(2, LEAST_SUPPORT * len(cells))
    prototypes = [np.median(cells, axis=0)]
    least = _squared(cells, prototypes[0])
    while len(prototypes) < PROTOTYPES:
        far = np.argsort(least, axis=0)[max(0, len(cells) - round(support))]
        prototypes.append(cells[far, each])
        least = np.minimum(least, _squared(cells, prototypes[-1]))
    for _ in range(ROUNDS):
        nearest = _nearest(cells, prototypes)
        for number in range(PROTOTYPES):
            own = nearest == number
            count = own.sum(axis=0)[:, None]
            mean = np.einsum("ncd,nc->cd", cells, own.astype(np.float32)) / np.maximum(count, 1)
            rest = mean if number == 0 else prototypes[0]
            prototypes[number] = np.where(count >= (1 if number == 0 else support), mean, rest)
    found = np.stack(prototypes)
    return found, cells - found[_nearest(cells, prototypes), each]


def _nearest(cells: np.ndarray, prototypes: Sequence[np.ndarray]) -> np.ndarray:
    """(N, C) the number of the nearest prototype."""
    nearest: np.ndarray = np.stack([_squared(cells, prototype) for prototype in prototypes]).argmin(axis=0)
    return nearest


def _squared(cells: np.ndarray, prototype: np.ndarray) -> np.ndarray:
    """(N, C) squared distances."""
    squared: np.ndarray = np.square(cells - prototype).sum(axis=-1)
    return squared


def _cells(views: np.ndarray) -> np.ndarray:
    """(..., H, W) in cells (..., C, D); what a cell at the edge lacks repeats the edge."""
    *rest, height, width = views.shape
    rows, columns = -(-height // CELL_PX), -(-width // CELL_PX)
    margin = [(0, 0)] * len(rest) + [(0, rows * CELL_PX - height), (0, columns * CELL_PX - width)]
    padded = np.pad(views, margin, mode="edge") if any(more for _, more in margin) else views
    split = padded.reshape(*rest, rows, CELL_PX, columns, CELL_PX).swapaxes(-3, -2)
    cells: np.ndarray = split.reshape(*rest, rows * columns, CELL_PX * CELL_PX)
    return cells


def _frames(cells: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Undoes `_cells`."""
    rest, (height, width) = cells.shape[:-2], size
    rows, columns = -(-height // CELL_PX), -(-width // CELL_PX)
    split = cells.reshape(*rest, rows, columns, CELL_PX, CELL_PX).swapaxes(-3, -2)
    whole: np.ndarray = split.reshape(*rest, rows * CELL_PX, columns * CELL_PX)[..., :height, :width]
    return whole
