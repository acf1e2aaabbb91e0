"""Scores and verdicts of samples compared with labels; how results are given to who prints them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from memae.deprecated import renamed_arguments
from memae.errors import DataError
from memae.metrics.curves import Curves, area_share, average_precision
from memae.metrics.intervals import RESAMPLES, Estimate, bootstrap
from memae.metrics.labels import Labels
from memae.modality.values import Judged
from memae.progress import Progress, stage
from memae.types import Key, Skipped

__all__ = ["Evaluation", "ResultTable", "SampleMeter", "auroc", "evaluate", "figures_of", "rows_of"]

TOO_FEW = "none: too few"
LARGE_SAMPLES, LARGE_RESAMPLES = 20_000, 200  # from so many samples on, fewer resamples give as firm an interval


class ResultTable(NamedTuple):
    """A result to be printed: words and figures, without any layout."""

    title: str
    columns: tuple[str, ...]
    """Names; the first column holds words, the others hold figures."""
    rows: Sequence[tuple[str, ...]]
    caption: str | None = None


@dataclass(frozen=True)
class Evaluation:
    """Scores and verdicts compared with labels."""

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

    def figures(self) -> dict[str, Any]:
        """All fields, ready for JSON."""
        return figures_of(self)

    def table(self) -> ResultTable:
        """A row a figure, with its 95 % interval."""
        names = {
            "auroc": "AUROC",
            "aupr": "AUPR",
            "precision": "precision",
            "recall": "recall",
            "f1": "F1",
            "false_alarm_rate": f"false-alarm rate (wanted {self.wanted_false_alarm_rate:.3g})",
        }
        title = f"{self.samples:,} samples, {self.anomalies:,} anomalies"
        return ResultTable(title, ("figure", "value", "95 % interval"), rows_of(self, names))


def rows_of(
    result: Any, names: Mapping[str, str], digits: int = 4, *, behind: bool = False
) -> list[tuple[str, ...]]:
    """A row for each estimate of a result, by its field: name, value, interval, and `behind` how many groups it is."""
    rows = []
    for field, name in names.items():
        estimate: Estimate | None = getattr(result, field)
        groups = ("-" if estimate is None else f"{estimate.groups:,}",) if behind else ()
        rows.append((name, *_cells(estimate, digits), *groups))
    return rows


def _cells(estimate: Estimate | None, digits: int) -> tuple[str, str]:
    if estimate is None:
        return "-", "-"
    value, low, high = (f"{number:.{digits}f}" for number in (estimate.value, estimate.low, estimate.high))
    return value, TOO_FEW if math.isnan(estimate.low) else f"{low} to {high}"


def figures_of(result: Any) -> dict[str, Any]:
    """The fields of a result dataclass, ready for JSON: NaN, which JSON does not have, becomes None."""
    return {name: _without_nan(value) for name, value in asdict(result).items()}


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(part) for name, part in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def auroc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve for bool labels (S,), True = anomaly, and scores (S,)."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels, scores))


@renamed_arguments(watcher="progress")
def evaluate(
    labels: np.ndarray,
    scores: np.ndarray,
    flags: np.ndarray,
    *,
    wanted_false_alarm_rate: float,
    seed: int = 0,
    progress: Progress | None = None,
) -> Evaluation:
    """Figures of the ranking and of the verdicts, with 95 % bootstrap intervals over samples.

    Args:
        labels: (S,) bool, True = anomaly.
        scores: (S,) higher = more anomalous.
        flags: (S,) bool, the model's verdicts.
        wanted_false_alarm_rate: the rate that the model's threshold was set for.
        seed: of the bootstrap, which takes 1,000 resamples, or 200 from 20,000 samples on.
        progress: a callback for progress events.

    Raises:
        DataError: arrays of different lengths, or labels of one class only.
    """
    labels, scores, flags = np.asarray(labels, bool), np.asarray(scores), np.asarray(flags, bool)
    if not len(labels) == len(scores) == len(flags):
        raise DataError(
            f"{len(labels)} labels, {len(scores)} scores and {len(flags)} flags do not belong together; give one "
            "of each a sample"
        )
    if labels.all() or not labels.any():
        raise DataError("labels: all the same; an evaluation needs normal samples and anomalies")
    samples = len(labels)
    order = np.argsort(scores, kind="stable")[::-1]  # the sums of the curves then read memory in order
    labels, scores, flags = labels[order], scores[order], flags[order]
    curves = Curves(scores, np.stack([~labels, labels]), np.arange(samples), samples)
    columns = np.stack([labels & flags, ~labels & flags], axis=1).astype(float)

    def figures(resamples: np.ndarray) -> np.ndarray:
        false, found = curves(resamples)
        anomalous, normal = found[-1], false[-1]
        hits, false_alarms = (resamples @ columns).T
        precision, recall = _share(hits, hits + false_alarms), hits / anomalous
        f1 = _share(2 * hits, anomalous + hits + false_alarms)
        ranking = area_share(false, found, normal, anomalous), average_precision(false, found)
        all_figures = np.stack([*ranking, precision, recall, f1, false_alarms / normal], axis=1)
        all_figures[(anomalous == 0) | (normal == 0)] = np.nan  # one class alone has no ranking
        return all_figures

    count = RESAMPLES if samples < LARGE_SAMPLES else LARGE_RESAMPLES
    with stage(progress, "bootstrap", "resamples", count) as done:
        estimates = bootstrap(figures, samples, seed=seed, resamples=count, done=done)
    assert all(estimates), "both classes are there"
    names = ("auroc", "aupr", "precision", "recall", "f1", "false_alarm_rate")
    named: dict[str, Any] = dict(zip(names, estimates, strict=True))
    return Evaluation(
        samples=samples,
        anomalies=int(labels.sum()),
        wanted_false_alarm_rate=wanted_false_alarm_rate,
        **named,
    )


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, and 0 where whole is 0."""
    return np.asarray(np.divide(part, whole, out=np.zeros_like(whole), where=whole > 0))


class SampleMeter:
    """Takes the predictions of a source part by part and compares them with its labels.

    Samples without a label do not count, nor do those without a score, which could not be read.

    Args:
        labels: of all samples of the source.
        origin: the source, for messages.
    """

    takes_maps = False
    """Whether it compares anomaly maps, too."""

    def __init__(self, labels: Labels, origin: str) -> None:
        self._labels, self._origin = labels, origin
        self._keys: list[Key] = []
        self._skipped: list[Skipped] = []
        self._scores, self._flags = [np.empty(0)], [np.empty(0, dtype=bool)]

    def add(
        self,
        keys: Sequence[Key],
        scores: np.ndarray,
        flags: np.ndarray,
        skipped: Sequence[Skipped] = (),
        maps: Iterable[tuple[Key, np.ndarray]] = (),
    ) -> None:
        """The next samples in the order of the source.

        Args:
            keys: (n,) of the samples.
            scores: (n,) NaN where a sample was skipped.
            flags: (n,) bool, the verdicts.
            skipped: why samples were skipped.
            maps: anomaly maps (h, w) by key, where these are compared.
        """
        self._keys += keys
        self._scores.append(scores)
        self._flags.append(flags)
        self._skipped += skipped
        for key, errors in maps:
            self.add_map(key, errors)

    def add_map(self, key: Key, errors: np.ndarray) -> None:
        """Takes the anomaly map (h, w) of a sample; only a meter with `takes_maps` compares it."""

    def judge(self, detector: Any, samples: Any, *, skip_bad: bool, progress: Progress | None) -> Judged:
        """What the verdicts of a `memae.Detector` on all samples are worth; raises as its `stream` and `result`."""
        explained = "all" if self.takes_maps else "none"
        # closed, so that its stage ends before an error is said
        with closing(detector.stream(samples, explained=explained, skip_bad=skip_bad, progress=progress)) as parts:
            for part in parts:
                maps = [(found.key, found.anomaly_map) for found in part.explanations]
                self.add(part.keys, part.scores, part.is_anomaly, part.skipped, maps)
        wanted = detector.threshold.false_alarm_rate
        return Judged(self.result(wanted_false_alarm_rate=wanted, progress=progress), self.left_out())

    def left_out(self) -> list[Skipped]:
        """The samples that do not count, and why."""
        named = {bad.key for bad in self._skipped}
        unlabelled = [self._keys[row] for row in np.flatnonzero(~self._labels.known).tolist()]
        return [*self._skipped, *(Skipped(key, "has no label") for key in unlabelled if key not in named)]

    def result(
        self, *, wanted_false_alarm_rate: float, seed: int = 0, progress: Progress | None = None
    ) -> Evaluation:
        """The figures of all samples that were added; the arguments are those of `evaluate`.

        Raises:
            DataError: another number of samples than of labels, or labels of one class only.
        """
        scores, flags = np.concatenate(self._scores), np.concatenate(self._flags)
        anomalous, known = self._labels
        if len(known) != len(scores):
            raise DataError(
                f"{self._origin}: {len(known):,} labels for {len(scores):,} samples; give one label a sample"
            )
        kept = known & np.isfinite(scores)
        return evaluate(
            anomalous[kept],
            scores[kept],
            flags[kept],
            wanted_false_alarm_rate=wanted_false_alarm_rate,
            seed=seed,
            progress=progress,
        )
