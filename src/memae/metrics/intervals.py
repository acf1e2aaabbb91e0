"""The bootstrap: figures with 95 % percentile intervals, over samples, groups of samples or whole videos."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

__all__ = ["FEWEST_GROUPS", "RESAMPLES", "Estimate", "Figures", "bootstrap"]

LEVEL = 0.95
RESAMPLES = 1000
FEWEST_GROUPS = 5  # with fewer, the resamples are too few different ones for an interval
CHUNK_CELLS = 1 << 20  # float64 cells of one temporary array: 8 MiB


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % bootstrap interval.

    The ends are NaN where fewer than `FEWEST_GROUPS` groups stand behind the figure, or no resample defines it.
    """

    value: float
    low: float
    high: float
    groups: int
    """How many independent samples, groups of samples or videos stand behind the figure."""


Figures: TypeAlias = Callable[[np.ndarray], np.ndarray]
"""From how often each resample holds each group, (R, G), to K figures of each resample, (R, K), or to a single one,
(R,); NaN where one is undefined."""


def bootstrap(
    figures: Figures,
    groups: int,
    *,
    bearing: Sequence[int] | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
    cells: int = 0,
    done: Callable[[int], None] = lambda count: None,
) -> list[Estimate | None]:
    """K figures of all groups with their 95 % percentile intervals; None where a figure is undefined.

    A group is what is independent of the others: a sample, an image, or a whole video. A resample holds as many
    groups as there are, drawn with replacement. One that leaves a figure undefined does not count for it. A figure
    that fewer than `FEWEST_GROUPS` groups bear on has no interval.

    Args:
        figures: of resamples.
        groups: G.
        bearing: (K,) how many groups each figure depends on, such as those with an anomaly for a recall; None is G.
        seed: of the draws; those of a seed are the same for every figure.
        resamples: how many; with 0 the ends of all intervals are NaN.
        cells: numbers that `figures` holds for each resample, where these are more than G.
        done: told how many more resamples are done.
    """
    drawn = []
    with np.errstate(invalid="ignore", divide="ignore"):
        values = figures(np.ones((1, groups))).ravel()
        for part in _draws(groups, resamples, seed, rows=max(1, CHUNK_CELLS // max(groups, cells))):
            drawn.append(figures(part).reshape(len(part), -1))
            done(len(part))
    columns = np.concatenate([np.empty((0, len(values))), *drawn]).T
    behind = [groups] * len(values) if bearing is None else bearing
    return [_estimate(*of_figure) for of_figure in zip(values.tolist(), columns, behind, strict=True)]


def _draws(groups: int, resamples: int, seed: int, rows: int) -> Iterator[np.ndarray]:
    generator = np.random.default_rng(seed)
    for start in range(0, resamples, rows):
        drawn = generator.integers(groups, size=(min(rows, resamples - start), groups))
        yield np.stack([np.bincount(row, minlength=groups) for row in drawn]).astype(np.float64)


def _estimate(value: float, drawn: np.ndarray, groups: int) -> Estimate | None:
    if math.isnan(value):
        return None
    drawn = drawn[~np.isnan(drawn)]
    if not len(drawn) or groups < FEWEST_GROUPS:
        return Estimate(value, math.nan, math.nan, int(groups))
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail]).tolist()
    return Estimate(value, low, high, int(groups))
