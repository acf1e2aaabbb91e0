"""The curves of a ranking, with pointwise intervals: ROC, and precision over recall."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from memae.metrics.curves import Curves
from memae.metrics.intervals import Estimate, bootstrap
from memae.types import Key

__all__ = ["Band", "Ranking"]

POINTS = 101
RESAMPLES = 200


@dataclass(frozen=True)
class Band:
    """A curve with a 95 % bootstrap interval at each point."""

    x: np.ndarray
    """(P,)"""
    y: np.ndarray
    """(P,)"""
    low: np.ndarray
    """(P,) NaN where there are too few groups for an interval."""
    high: np.ndarray
    """(P,)"""


@dataclass(frozen=True)
class Ranking:
    """The samples that an evaluation counted: those with a label and a score."""

    keys: Sequence[Key]
    scores: np.ndarray
    """(S,) higher = more anomalous."""
    anomalous: np.ndarray
    """(S,) bool."""
    groups: np.ndarray | None = None
    """(S,) the number of the group of each sample; None: each is its own."""

    @property
    def roc(self) -> Band:
        """Recall over the false-alarm rate."""
        return self._bands[0]

    @property
    def precision_recall(self) -> Band:
        """Precision over recall, from the first recall that is above 0."""
        return self._bands[1]

    @cached_property
    def _bands(self) -> tuple[Band, Band]:
        grid = np.linspace(0, 1, POINTS)
        group = (
            np.arange(len(self.scores)) if self.groups is None else np.unique(self.groups, return_inverse=True)[1]
        )
        count = int(group.max()) + 1
        curves = Curves(self.scores, np.stack([~self.anomalous, self.anomalous]), group, count)

        def figures(resamples: np.ndarray) -> np.ndarray:
            false, found = (curve.T for curve in curves(resamples))
            return np.stack([_points(*pair, grid) for pair in zip(false, found, strict=True)])

        found = bootstrap(figures, count, resamples=RESAMPLES, cells=curves.thresholds)
        return _band(grid, found[:POINTS]), _band(grid[1:], found[POINTS:])


def _points(false: np.ndarray, found: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Recall at each false-alarm rate of a grid, then precision at each recall but 0; of a resample (P + 1,)."""
    if not false[-1] or not found[-1]:
        return np.full(2 * len(grid) - 1, np.nan)
    rate, recall = false / false[-1], found / found[-1]
    last = np.append(np.flatnonzero(np.diff(rate)), len(rate) - 1)  # the highest recall at each rate
    precision = found / (found + false).clip(min=1e-12)
    reached = np.searchsorted(recall, grid[1:] - 1e-12).clip(max=len(recall) - 1)
    return np.concatenate([np.interp(grid, rate[last], recall[last]), precision[reached]])


def _band(x: np.ndarray, points: Sequence[Estimate | None]) -> Band:
    rows = [(p.value, p.low, p.high) if p else (np.nan,) * 3 for p in points]
    return Band(x, *np.array(rows).T)
