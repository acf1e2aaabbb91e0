"""A threshold chosen on labelled samples, and what it does on samples that did not choose it.

The samples are dealt into folds. The threshold of the other folds decides on each fold, and these decisions are
compared with the labels: that is the estimate. The threshold to use is that of all samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from memae.errors import ConfigError, DataError
from memae.metrics.samples import Evaluation, evaluate

__all__ = ["ChosenThreshold", "choose_threshold"]

FOLDS = 5


@dataclass(frozen=True)
class ChosenThreshold:
    """A threshold that labels chose."""

    at: float
    """Scores above it are anomalies."""
    measured: Evaluation
    """Of the decisions on each fold by the threshold of the others; `wanted_false_alarm_rate` is what was measured."""


def choose_threshold(
    labels: np.ndarray,
    scores: np.ndarray,
    *,
    recall: float | None = None,
    groups: np.ndarray | None = None,
    seed: int = 0,
) -> ChosenThreshold:
    """The highest threshold with a recall, or the one with the best F1.

    Args:
        labels: (S,) bool, True = anomaly.
        scores: (S,) higher = more anomalous.
        recall: wanted share of the anomalies that are flagged, above 0 and at most 1; None: the best F1.
        groups: (S,) the number of the group of each sample, which no fold divides; None: each is its own.
        seed: of the folds and of the intervals.

    Raises:
        ConfigError: a recall that is no share.
        DataError: too few anomalies or normal samples, or groups of them, for the folds.
    """
    if recall is not None and not 0 < recall <= 1:
        raise ConfigError(f"`recall={recall:g}` is no share; give one above 0 and up to 1")
    group = np.arange(len(scores)) if groups is None else np.unique(groups, return_inverse=True)[1]
    fold = _folds(labels, group, seed)
    flags = np.zeros(len(scores), dtype=bool)
    for number in range(FOLDS):
        here = fold == number
        flags[here] = scores[here] > _threshold(labels[~here], scores[~here], recall)
    rate = float(flags[~labels].mean())
    measured = evaluate(labels, scores, flags, wanted_false_alarm_rate=rate, groups=groups, seed=seed)
    return ChosenThreshold(_threshold(labels, scores, recall), measured)


def _threshold(labels: np.ndarray, scores: np.ndarray, recall: float | None) -> float:
    if recall is not None:
        anomalies = np.sort(scores[labels])[::-1]
        return float(np.nextafter(anomalies[math.ceil(recall * len(anomalies)) - 1], -np.inf))
    order = np.argsort(scores, kind="stable")[::-1]
    ranked, hits = scores[order], np.cumsum(labels[order])
    last = np.append(ranked[1:] < ranked[:-1], True)  # of equal scores all are flagged or none
    f1 = np.where(last, 2 * hits / (np.arange(1, len(ranked) + 1) + labels.sum()), -1.0)
    best = int(f1.argmax())
    below = ranked[best + 1] if best + 1 < len(ranked) else np.nextafter(ranked[best], -np.inf)
    return float((ranked[best] + below) / 2 if below < (ranked[best] + below) / 2 < ranked[best] else below)


def _folds(labels: np.ndarray, group: np.ndarray, seed: int) -> np.ndarray:
    """(S,) the number of the fold of each sample: groups with anomalies and those without are spread over all."""
    generator, count = np.random.default_rng(seed), int(group.max(initial=-1)) + 1
    anomalous = np.bincount(group, weights=labels, minlength=count) > 0
    normal = np.bincount(group, weights=~labels, minlength=count) > 0
    for those, what in ((anomalous, "anomalies"), (normal, "normal samples")):
        if those.sum() < 2 * FOLDS:
            raise DataError(
                f"{int(those.sum()):,} {what} or groups of them are too few to choose a threshold and to measure it on "
                f"others; give at least {2 * FOLDS} of each"
            )
    fold = np.empty(count, dtype=np.int64)
    for part in (np.flatnonzero(anomalous), np.flatnonzero(~anomalous)):
        fold[generator.permutation(part)] = np.arange(len(part)) % FOLDS
    found: np.ndarray = fold[group]
    return found
