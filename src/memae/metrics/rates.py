"""What a model finds at each of several false-alarm rates that somebody may want."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from memae.errors import ConfigError
from memae.metrics.intervals import Estimate, bootstrap
from memae.metrics.tables import ResultTable, value_and_interval

__all__ = ["RateEvaluation", "evaluate_rates", "rates_table", "thresholds_of"]

RATES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)


@dataclass(frozen=True)
class RateEvaluation:
    """The threshold that held-out normal samples give for a wanted rate, compared with labels."""

    wanted_false_alarm_rate: float
    threshold: float
    false_alarm_rate: Estimate
    """Measured share of the normal samples above that threshold."""
    recall: Estimate
    """Share of the anomalies above it."""


def thresholds_of(threshold: Any) -> dict[float, float]:
    """The score for each common rate, and the model's own, that the calibration scores of a model can promise.

    None where each of several categories has a threshold of its own: no single score is that of a rate.

    Args:
        threshold: a `memae.Threshold`.
    """
    found: dict[float, float] = {}
    if threshold.categories is not None:
        return found
    for rate in RATES:
        with suppress(ConfigError):  # too few calibration scores for so low a rate
            found[rate] = threshold.moved(false_alarm_rate=rate).value
    found[threshold.false_alarm_rate] = threshold.value
    return {rate: found[rate] for rate in sorted(found) if np.isfinite(found[rate])}


def evaluate_rates(
    thresholds: Mapping[float, float],
    labels: np.ndarray,
    scores: np.ndarray,
    group: np.ndarray,
    *,
    seed: int,
    resamples: int,
) -> tuple[RateEvaluation, ...]:
    """Each threshold against labels, with 95 % bootstrap intervals over groups.

    Args:
        thresholds: the score by the wanted false-alarm rate.
        labels: (S,) bool, True = anomaly.
        scores: (S,)
        group: (S,) whole numbers from 0 on.
        seed: of the bootstrap.
        resamples: of it.
    """
    if not thresholds:
        return ()
    groups, flags = int(group.max()) + 1, [scores > value for value in thresholds.values()]

    def counts(of: np.ndarray) -> np.ndarray:
        return np.bincount(group[of], minlength=groups).astype(float)

    false, found = (np.stack([counts(flag & of) for flag in flags], axis=1) for of in (~labels, labels))
    normal, anomalous = counts(~labels), counts(labels)

    def figures(weights: np.ndarray) -> np.ndarray:
        rates, recalls = (
            weights @ false / (weights @ normal)[:, None],
            weights @ found / (weights @ anomalous)[:, None],
        )
        return np.concatenate([rates, recalls], axis=1)

    bearing = [int((normal > 0).sum())] * len(flags) + [int((anomalous > 0).sum())] * len(flags)
    estimates = bootstrap(figures, groups, bearing=bearing, seed=seed, resamples=resamples)
    pairs = zip(thresholds.items(), estimates, estimates[len(flags) :], strict=False)
    return tuple(RateEvaluation(rate, value, a, b) for (rate, value), a, b in pairs if a and b)


def rates_table(rates: Sequence[RateEvaluation]) -> ResultTable:
    """A row for each wanted rate."""
    columns = ("wanted rate", "threshold", "false-alarm rate (95 %)", "recall (95 %)")
    rows = [
        (
            f"{rate.wanted_false_alarm_rate:.3g}",
            f"{rate.threshold:.6g}",
            value_and_interval(rate.false_alarm_rate, 4),
            value_and_interval(rate.recall, 4),
        )
        for rate in rates
    ]
    return ResultTable("at other false-alarm rates", columns, rows)
