"""Random effects: what a new group of normal samples will score, learnt from few groups.

The logarithm of a score is the level of its group plus a rest (plainly the score, where scores may be negative). The
rests of all groups are taken as they are, each group with the same weight. Levels are taken as normal: that of a new
group is then Student t distributed with G - 1 degrees of freedom around the mean level of the G known groups, with
sqrt(1 + 1 / G) times their standard deviation (the predictive distribution; Geisser, Predictive Inference, 1993). The
p-value of a score is the expected share of samples of a new group that score at least as high.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["RandomEffects"]

NODES = 400  # points of the distribution of levels, each as likely as the others
BISECTIONS = 60


@dataclass(frozen=True)
class RandomEffects:
    """The distribution of the scores of a new group."""

    levels: np.ndarray
    """(NODES,) of a new group, equally likely."""
    rests: np.ndarray
    """(r,) of samples within their groups, ascending."""
    above: np.ndarray
    """(r + 1,) the weighted share of the rests from each place on."""
    logarithmic: bool

    @classmethod
    def fit(cls, scores: np.ndarray, groups: np.ndarray) -> RandomEffects:
        """From scores (n,) and the numbers (n,) of their groups, of which there are at least two."""
        _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
        logarithmic = bool(scores.min() > 0)
        x = np.log(scores) if logarithmic else scores
        means = np.bincount(group, x) / sizes
        rests, size = x - means[group], sizes[group]
        if (several := size > 1).any():  # a single sample has no rest
            rests, size = rests[several], size[several]
        rests = rests * np.sqrt(size / np.maximum(size - 1, 1))  # of n samples around their own mean
        order = np.argsort(rests)
        weights = 1 / size[order]
        above = np.append(np.cumsum(weights[::-1])[::-1] / weights.sum(), 0.0)
        return cls(_predicted(means), rests[order], above, logarithmic)

    def p_values(self, scores: np.ndarray) -> np.ndarray:
        """(S,) expected share of a new group that scores at least as high as each of the scores (S,), and never 0.

        A score beyond all that is known has the share of one sample at one level.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            x = np.log(np.maximum(scores, 0)) if self.logarithmic else scores
        found = np.zeros(len(x))
        for level in self.levels:  # node by node, as all at once would take S x NODES numbers
            found += self.above[np.searchsorted(self.rests, x - level, side="left")]
        return np.clip(found / len(self.levels), 1 / (len(self.levels) * len(self.rests)), 1.0)

    def value(self, level: float) -> float:
        """The score above which the p-value is at most `level`."""
        low, high = self.levels[0] + self.rests[0], self.levels[-1] + self.rests[-1]
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            expected = self.above[np.searchsorted(self.rests, middle - self.levels, side="right")].mean()
            low, high = (middle, high) if expected > level else (low, middle)
        return float(np.exp(high)) if self.logarithmic else float(high)


def _predicted(means: np.ndarray) -> np.ndarray:
    """(NODES,) quantiles of the level of a new group, from the means (G,) of the known ones."""
    from scipy.special import stdtrit  # Student t quantiles; not every command needs them

    groups = len(means)
    spread = means.std(ddof=1) * np.sqrt(1 + 1 / groups)
    quantiles: np.ndarray = means.mean() + spread * stdtrit(groups - 1, (np.arange(NODES) + 0.5) / NODES)
    return quantiles
