"""How good the scores and the decision are, where labels exist. Labels enter the library here and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from memae.errors import DataError
from memae.stages import Watcher, stage

if TYPE_CHECKING:  # `import memae` loads this file, and the command line must show its help without numpy
    import numpy as np

__all__ = ["Estimate", "Evaluation", "anomaly_labels", "auroc", "evaluate"]

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % bootstrap interval over the samples."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Evaluation:
    """Scores and flags held against labels."""

    samples: int
    anomalies: int
    auroc: Estimate
    """Area under the ROC curve: .5 is chance, whatever the share of anomalies."""
    aupr: Estimate
    """Average precision: chance is the share of anomalies."""
    precision: Estimate
    recall: Estimate
    f1: Estimate
    """At the model's own threshold, like precision and recall."""
    false_alarm_rate: Estimate
    """Measured share of the normal samples that were flagged."""
    wanted_false_alarm_rate: float


def auroc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve for bool labels (S,), True = anomaly, and scores (S,)."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels, scores))


def anomaly_labels(labels: np.ndarray, normal: Sequence[str], origin: str) -> np.ndarray:
    """(S,) bool, True = anomaly, from text labels and the values that mean normal; "1" equals "1.0".

    Raises:
        DataError: a normal value that never occurs, or labels that are all normal or all anomalous.
    """
    import numpy as np

    plain = np.array([_canonical(label) for label in np.unique(labels)])
    codes = np.unique(labels, return_inverse=True)[1]
    for value in normal:
        if _canonical(value) not in plain:
            seen = ", ".join(plain[:10]) + (", ..." if len(plain) > 10 else "")
            raise DataError(f"{origin}: no sample is labelled {value!r}; the labels are {seen}")
    anomalous = ~np.isin(plain, [_canonical(value) for value in normal])[codes]
    if anomalous.all() or not anomalous.any():
        raise DataError(f"{origin}: every sample is labelled normal; an evaluation needs anomalies too")
    return np.asarray(anomalous)


def evaluate(
    labels: np.ndarray,
    scores: np.ndarray,
    flags: np.ndarray,
    *,
    wanted_false_alarm_rate: float,
    seed: int = 0,
    watcher: Watcher | None = None,
) -> Evaluation:
    """Ranking and decision figures with 95 % bootstrap intervals.

    Args:
        labels: (S,) bool, True = anomaly.
        scores: (S,) higher = more anomalous.
        flags: (S,) bool, the model's verdicts.
        wanted_false_alarm_rate: what the model's threshold was set for.
        seed: of the bootstrap: 1,000 resamples, 200 from 20,000 samples on.
        watcher: told of each resample.

    Raises:
        DataError: lengths that differ, or labels of one class only.
    """
    import numpy as np

    labels, scores, flags = np.asarray(labels, bool), np.asarray(scores), np.asarray(flags, bool)
    if not len(labels) == len(scores) == len(flags):
        raise DataError(
            f"{len(labels)} labels, {len(scores)} scores and {len(flags)} flags do not belong together; give one "
            "of each a sample"
        )
    if labels.all() or not labels.any():
        raise DataError("labels: all the same; an evaluation needs normal samples and anomalies")
    order = np.argsort(scores, kind="stable")[::-1]  # sorted once, so that each resample is a cheap weighting
    labels, scores, flags = labels[order], scores[order], flags[order]
    place = np.cumsum(np.diff(scores, prepend=scores[0]) != 0)  # equal scores share a place in the ranking
    figures: dict[str, Callable[[np.ndarray], float]] = {
        "auroc": lambda w: _area(*_by_place(place, labels, w)),
        "aupr": lambda w: _average_precision(*_by_place(place, labels, w)),
        "precision": lambda w: _share(w[labels & flags].sum(), w[flags].sum()),
        "recall": lambda w: _share(w[labels & flags].sum(), w[labels].sum()),
        "f1": lambda w: _share(2 * w[labels & flags].sum(), w[labels].sum() + w[flags].sum()),
        "false_alarm_rate": lambda w: _share(w[~labels & flags].sum(), w[~labels].sum()),
    }
    generator = np.random.default_rng(seed)
    samples = len(labels)
    drawn: dict[str, list[float]] = {name: [] for name in figures}
    rounds = 1000 if samples < 20_000 else 200
    with stage(watcher, "bootstrap", "resamples", rounds) as done:
        for _ in range(rounds):
            weights = np.bincount(generator.integers(samples, size=samples), minlength=samples)
            if weights[labels].any() and weights[~labels].any():  # one class alone has no ranking
                for name, figure in figures.items():
                    drawn[name].append(figure(weights))
            done(1)
    everyone = np.ones(samples)
    tail = (1 - LEVEL) / 2
    estimates = {
        name: Estimate(figure(everyone), *np.quantile(drawn[name], [tail, 1 - tail]).tolist())
        for name, figure in figures.items()
    }
    return Evaluation(
        samples=samples,
        anomalies=int(labels.sum()),
        wanted_false_alarm_rate=wanted_false_alarm_rate,
        **estimates,
    )


def _by_place(place: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights of the anomalies and of the normal samples at each place of the ranking, highest score first."""
    import numpy as np

    return np.bincount(place, weights * labels), np.bincount(place, weights * ~labels)


def _area(anomalous: np.ndarray, normal: np.ndarray) -> float:
    above = anomalous.cumsum() - anomalous / 2  # a tie counts half
    return _share((normal * above).sum(), anomalous.sum() * normal.sum())


def _average_precision(anomalous: np.ndarray, normal: np.ndarray) -> float:
    found = anomalous.cumsum()
    precision = found / (found + normal.cumsum()).clip(min=1)
    return _share((anomalous * precision).sum(), anomalous.sum())


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else 0.0


def _canonical(label: str) -> str:
    try:
        number = float(label)
    except ValueError:
        return str(label)
    return str(int(number)) if number.is_integer() else repr(number)
