"""Figures of any mixture of videos, and what a bootstrap over whole videos says of them.

Frames of one video are not independent, so videos are drawn, and each comes with all its frames. A figure is counted
once, video by video or pair by pair, and a resample only weighs these counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from memae.metrics import LEVEL, Estimate

__all__ = ["Criterion", "Figure", "Ranking", "VideoBootstrap"]

RESAMPLES = 1000
FEWEST_RESAMPLES = 200
SORTED_CELLS = 1 << 25  # region scores times resamples that are worth sorting through: seconds
CHUNK_CELLS = 1 << 20  # float64 cells of one temporary array: 8 MiB

Figure: TypeAlias = Callable[[np.ndarray], np.ndarray]
"""From how often each resample holds each video, (R, V), to a figure of each, (R,); NaN where it is undefined."""


class VideoBootstrap:
    """Draws as many videos as there are, with replacement, 1,000 times.

    Args:
        videos: how many there are.
        seed: of the draws.
    """

    def __init__(self, videos: int, seed: int) -> None:
        generator = np.random.default_rng(seed)
        self._resamples = generator.multinomial(videos, np.full(videos, 1 / videos), size=RESAMPLES)

    def estimate(self, figure: Figure, bearing: np.ndarray) -> Estimate | None:
        """A figure of all videos with its 95 % percentile interval; None where it is undefined.

        Args:
            figure: what to find.
            bearing: (V,) bool, the videos that bear on it; the ends are NaN where fewer than two do.
        """
        with np.errstate(invalid="ignore", divide="ignore"):
            value = float(figure(np.ones((1, len(bearing))))[0])
            if math.isnan(value):
                return None
            drawn = figure(self._resamples.astype(np.float64)) if bearing.sum() > 1 else np.empty(0)
        drawn = drawn[~np.isnan(drawn)]
        if not len(drawn):
            return Estimate(value, math.nan, math.nan)
        tail = (1 - LEVEL) / 2
        low, high = np.quantile(drawn, [tail, 1 - tail]).tolist()
        return Estimate(value, low, high)


class Ranking:
    """AUROC of any mixture of videos, exactly: the pairs of one video's anomalies and another's normal samples, of
    which the anomaly scores higher, are counted once, and a resample of videos only weighs these V x V counts.

    Args:
        video: (K,) of each entry, from 0 to V - 1.
        place: (K,) in the ranking, ascending; equal places are ties.
        anomalous: (K,) how many anomalous samples an entry stands for.
        normal: (K,) how many normal ones.
        videos: V.
    """

    def __init__(
        self, video: np.ndarray, place: np.ndarray, anomalous: np.ndarray, normal: np.ndarray, videos: int
    ) -> None:
        self._won = np.zeros((videos, videos))
        below = np.zeros((videos, 1))  # normal samples of each video in the places before
        order = np.argsort(place, kind="stable")
        video, place, anomalous, normal = video[order], place[order], anomalous[order], normal[order]
        width = max(1, CHUNK_CELLS // videos)
        for start in range(0, int(place[-1]) + 1 if len(place) else 0, width):
            part = slice(*np.searchsorted(place, [start, start + width]))
            cell = video[part] * width + place[part] - start
            lost = np.bincount(cell, normal[part], videos * width).reshape(videos, width)
            won = np.bincount(cell, anomalous[part], videos * width).reshape(videos, width)
            self._won += won @ (below + np.cumsum(lost, axis=1) - lost / 2).T  # a tie counts half
            below += lost.sum(axis=1, keepdims=True)
        self._anomalous = np.bincount(video, anomalous, videos)
        self._normal = below[:, 0]
        self.both_kinds = (self._anomalous > 0) & (self._normal > 0)

    def micro(self, resamples: np.ndarray) -> np.ndarray:
        """(R,) AUROC of all samples in one ranking, of resamples (R, V)."""
        won = ((resamples @ self._won) * resamples).sum(axis=1)
        area: np.ndarray = won / ((resamples @ self._anomalous) * (resamples @ self._normal))
        return area

    def macro(self, resamples: np.ndarray) -> np.ndarray:
        """(R,) mean of the AUROC within each video that has both kinds, of resamples (R, V)."""
        within = np.where(self.both_kinds, np.diag(self._won) / (self._anomalous * self._normal), 0)
        mean: np.ndarray = (resamples @ within) / (resamples @ self.both_kinds)
        return mean


class Criterion:
    """RBDC or TBDC of any mixture of videos.

    Args:
        false: of each video, the scores of its false positive regions.
        true: of each video, the score at which each true region or track is found; -inf where it never is.
        frames: (V,) that each video adds to the frames of FPR.
    """

    def __init__(self, false: Sequence[np.ndarray], true: Sequence[np.ndarray], frames: np.ndarray) -> None:
        found = [scores[scores > -np.inf] for scores in true]
        scores = np.concatenate([*false, *found])
        order = np.argsort(-scores, kind="stable")
        lengths = [len(of_video) for of_video in (*false, *found)]
        self._video = np.repeat(np.tile(np.arange(len(frames)), 2), lengths)[order]
        self._is_false = np.repeat(np.arange(len(lengths)) < len(frames), lengths)[order]
        self._ends = np.flatnonzero(np.diff(scores[order], append=np.nan))  # of each run of equal scores
        self._frames, self._true = frames, np.array([len(of_video) for of_video in true])

    def area(self, resamples: np.ndarray) -> np.ndarray:
        """(R,), or fewer where the regions are so many that all resamples would take minutes."""
        size = max(1, len(self._video))
        resamples = resamples[: max(FEWEST_RESAMPLES, SORTED_CELLS // size)]
        step = max(1, CHUNK_CELLS // size)
        return np.concatenate([self._area(resamples[i : i + step]) for i in range(0, len(resamples), step)])

    def _area(self, resamples: np.ndarray) -> np.ndarray:
        weights = resamples[:, self._video]
        rates = self._so_far(weights * self._is_false) / (resamples @ self._frames)[:, None]
        found = self._so_far(weights * ~self._is_false) / (resamples @ self._true)[:, None]
        return _area_to_one(rates, found)

    def _so_far(self, weights: np.ndarray) -> np.ndarray:
        """(R, P + 1) sums down to each distinct score; the first is above all scores, and 0."""
        return np.pad(np.cumsum(weights, axis=1)[:, self._ends], ((0, 0), (1, 0)))


def _area_to_one(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(R,) area below the curves through (R, P) points from x = 0 to 1; x starts at 0 and never falls."""
    left, right, low, high = x[:, :-1], x[:, 1:], y[:, :-1], y[:, 1:]
    crosses = (left < 1) & (right > 1)
    high = np.where(crosses, low + (high - low) * (1 - left) / (right - left), high)
    below = ((right.clip(max=1) - left.clip(max=1)) * (low + high) / 2).sum(axis=1)
    area: np.ndarray = below + (1 - x[:, -1].clip(max=1)) * y[:, -1]
    return area
