"""Curves over all thresholds and the areas below them, of any mixture of groups; histograms of scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["Curves", "ScoreHistogram", "area_share", "average_precision"]

BIN_SHIFT = 15  # of the 32 bits of a float32: sign, exponent and 8 bits of the fraction stay
BINS = 1 << (32 - BIN_SHIFT)
SIGN_BIT = np.uint32(1 << 31)


class Curves:
    """What lies at or above each threshold, of any mixture of groups.

    Args:
        scores: (K,) of entries, each of which may stand for many samples.
        counts: (C, K) what an entry adds to each of C curves, such as its normal and its anomalous samples.
        group: (K,) that an entry belongs to, from 0 on.
        groups: G.
    """

    def __init__(self, scores: np.ndarray, counts: np.ndarray, group: np.ndarray, groups: int) -> None:
        from scipy.sparse import csr_array

        levels, place = np.unique(scores, return_inverse=True)
        self.thresholds = len(levels)
        place = len(levels) - 1 - place  # the highest score first
        self._counts = [
            csr_array((row, (place, group)), shape=(len(levels), groups)) for row in counts.astype(float)
        ]

    @classmethod
    def of_groups(cls, scores: Sequence[np.ndarray], counts: Sequence[np.ndarray]) -> Curves:
        """From the entries of each group: scores (K,) and counts (C, K)."""
        owners = np.repeat(np.arange(len(scores)), [len(of_group) for of_group in scores])
        return cls(np.concatenate(scores), np.concatenate(counts, axis=1), owners, len(scores))

    def __call__(self, resamples: np.ndarray) -> list[np.ndarray]:
        """(P + 1, R) of each curve, for resamples (R, G): sums down to each of P thresholds, after a row of zeros."""
        columns = np.ascontiguousarray(resamples.T)
        return [np.pad(np.cumsum(count @ columns, axis=0), ((1, 0), (0, 0))) for count in self._counts]

    def roc_area(self, resamples: np.ndarray) -> np.ndarray:
        """(R,) area under the ROC curve; the first two curves are the normal and the anomalous samples."""
        false, found = self(resamples)[:2]
        return area_share(false, found, false[-1], found[-1])


def area_share(x: np.ndarray, y: np.ndarray, limit: np.ndarray, top: np.ndarray) -> np.ndarray:
    """(R,) area below curves through the points (P, R) from x = 0 to `limit`, as a share of limit times `top`.

    A curve that passes the limit is cut there, and one that ends before is prolonged at its last height. AUROC is
    this share of the found anomalies over the false alarms, with all normal and all anomalous samples as limit and
    top; AUPRO, RBDC and TBDC have other limits.

    Args:
        x: begins at 0 and never falls.
        y: heights.
        limit: (R,) of x.
        top: (R,) of y.
    """
    left, right, low, high = x[:-1], x[1:], y[:-1], y[1:]
    if (x[-1] > limit).any():
        passes = (left < limit) & (right > limit)
        high = np.where(passes, low + (high - low) * (limit - left) / (right - left), high)
        left, right = left.clip(max=limit), right.clip(max=limit)
    below = ((right - left) * (low + high)).sum(axis=0) / 2
    share: np.ndarray = (below + (limit - x[-1].clip(max=limit)) * y[-1]) / (limit * top)
    return share


def average_precision(false: np.ndarray, found: np.ndarray) -> np.ndarray:
    """(R,) mean precision over the anomalies, from false alarms and found anomalies (P, R) at each threshold."""
    precision = found / (found + false).clip(min=1)
    area: np.ndarray = (np.diff(found, axis=0) * precision[1:]).sum(axis=0) / found[-1]
    return area


class ScoreHistogram:
    """How much of each kind lies at each score, for streams of pixels that are too long to be kept and sorted.

    A bin holds the scores that agree in the upper 17 bits of float32: sign, exponent and 8 bits of the fraction.
    Two scores that differ by more than 0.4 % never share a bin; those that share one count as a tie.

    Args:
        kinds: how many amounts are counted, such as normal and anomalous pixels.
    """

    def __init__(self, kinds: int) -> None:
        self._amounts = np.zeros((kinds, BINS))

    def add(self, scores: np.ndarray, *amounts: np.ndarray) -> None:
        """Scores of any shape, and for each kind how much each of them counts: numbers, or bool, in the same shape."""
        bins = _bins(scores).ravel()
        lowest = bins.min(initial=BINS - 1)  # the scores of one image lie in few of all bins
        for kind, amount in enumerate(amount.ravel() for amount in amounts):
            counted = (bins[amount] - lowest, None) if amount.dtype == bool else (bins - lowest, amount)
            found = np.bincount(*counted)
            self._amounts[kind, lowest : lowest + len(found)] += found

    def entries(self) -> tuple[np.ndarray, np.ndarray]:
        """The bins (K,) that hold something, in the order of their scores, and their amounts (kinds, K)."""
        bins = np.flatnonzero(self._amounts.any(axis=0))
        return bins, self._amounts[:, bins]


def _bins(scores: np.ndarray) -> np.ndarray:
    """From 0 up, the bits of float32 numbers are in the order of their values; below 0 in the opposite one."""
    unsigned_zero = np.asarray(scores, np.float32) + np.float32(0)  # -0.0 + 0.0 has no sign bit
    bits: np.ndarray = unsigned_zero.view(np.uint32)
    return (np.where(bits & SIGN_BIT, ~bits, bits | SIGN_BIT) >> BIN_SHIFT).astype(np.int64)
