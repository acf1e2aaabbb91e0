"""Scores and verdicts of samples compared with labels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from memae.deprecated import renamed_arguments
from memae.errors import DataError
from memae.metrics.curves import Curves, area_share, average_precision
from memae.metrics.intervals import RESAMPLES, Estimate, bootstrap
from memae.metrics.kinds import KindEvaluation, evaluate_kinds, kinds_table
from memae.metrics.labels import Labels
from memae.metrics.ranking import Ranking
from memae.metrics.rates import RateEvaluation, evaluate_rates, rates_table, thresholds_of
from memae.metrics.tables import ResultTable, rows_of
from memae.modality.values import Judged
from memae.progress import Progress, stage
from memae.types import Key, Skipped

__all__ = ["Evaluation", "SampleMeter", "auroc", "evaluate", "figures_of"]

LARGE_SAMPLES, LARGE_RESAMPLES = 20_000, 200  # from so many samples on, fewer resamples give as firm an interval


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
    groups: int | None = field(default=None, kw_only=True)
    """Of samples, if the intervals are over groups; None: over samples."""
    kinds: tuple[KindEvaluation, ...] = field(default=(), kw_only=True)
    """Each kind of anomaly, the most frequent first; empty where there is only one, or nothing tells them apart."""
    rates: tuple[RateEvaluation, ...] = field(default=(), kw_only=True)
    """The thresholds of several wanted false-alarm rates; empty where none were asked for."""

    def figures(self) -> dict[str, Any]:
        """All fields, ready for JSON."""
        return figures_of(self)

    def table(self) -> ResultTable:
        """A row a figure, with its 95 % interval; below it a row for each wanted rate, and for each kind of anomaly."""
        names = {
            "auroc": "AUROC",
            "aupr": "AUPR",
            "false_alarm_rate": f"false-alarm rate (wanted {self.wanted_false_alarm_rate:.3g})",
            "recall": "recall at that threshold",
            "precision": "precision",
            "f1": "F1",
        }
        title = f"{self.samples:,} samples, {self.anomalies:,} anomalies"
        interval = "95 % interval" if self.groups is None else f"95 % over {self.groups:,} groups"
        below = (
            *((rates_table(self.rates),) if self.rates else ()),
            *((self._kinds_table(),) if self.kinds else ()),
        )
        return ResultTable(title, ("figure", "value", interval), rows_of(self, names), below=below)

    def _kinds_table(self) -> ResultTable:
        return kinds_table(self.kinds)


def figures_of(result: Any) -> dict[str, Any]:
    """The fields of a result dataclass, ready for JSON: NaN, which JSON does not have, becomes None."""
    return {name: _without_nan(value) for name, value in asdict(result).items()}


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(part) for name, part in value.items()}
    if isinstance(value, tuple | list):
        return [_without_nan(part) for part in value]
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
    groups: np.ndarray | None = None,
    kinds: np.ndarray | None = None,
    thresholds: Mapping[float, float] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Evaluation:
    """Figures of the ranking and of the verdicts, with 95 % bootstrap intervals over samples, or groups of them.

    Args:
        labels: (S,) bool, True = anomaly.
        scores: (S,) higher = more anomalous.
        flags: (S,) bool, the model's verdicts.
        wanted_false_alarm_rate: the rate that the model's threshold was set for.
        groups: (S,) whole numbers: samples of one group depend on each other, and a resample holds all of them or
            none. None: each sample is its own.
        kinds: (S,) text, what each sample is called; the kinds of anomalies get figures of their own.
        thresholds: further thresholds to compare, by the false-alarm rate that each was set for; None: none.
        seed: of the bootstrap, which takes 1,000 resamples, or 200 from 20,000 samples on.
        progress: a callback for progress events.

    Raises:
        DataError: arrays of different lengths, or labels of one class only.
    """
    labels, scores, flags = np.asarray(labels, bool), np.asarray(scores), np.asarray(flags, bool)
    _check_together(labels, scores, flags, groups, kinds)
    samples = len(labels)
    group = np.arange(samples) if groups is None else np.unique(groups, return_inverse=True)[1]
    order = np.argsort(scores, kind="stable")[::-1]  # the sums of the curves then read memory in order
    labels, scores, flags, group = labels[order], scores[order], flags[order], group[order]
    count = RESAMPLES if samples < LARGE_SAMPLES else LARGE_RESAMPLES
    options: Any = {"seed": seed, "resamples": count, "progress": progress}
    given = None if kinds is None else np.asarray(kinds)[order]
    return Evaluation(
        samples=samples,
        anomalies=int(labels.sum()),
        wanted_false_alarm_rate=wanted_false_alarm_rate,
        groups=None if groups is None else int(group.max()) + 1,
        kinds=() if given is None else evaluate_kinds(given, labels, scores, flags, group, **options),
        rates=evaluate_rates(thresholds or {}, labels, scores, group, seed=seed, resamples=count),
        **_totals(labels, scores, flags, group, **options),
    )


def _check_together(
    labels: np.ndarray,
    scores: np.ndarray,
    flags: np.ndarray,
    groups: np.ndarray | None,
    kinds: np.ndarray | None,
) -> None:
    if not len(labels) == len(scores) == len(flags):
        raise DataError(
            f"{len(labels)} labels, {len(scores)} scores and {len(flags)} flags do not belong together; give one "
            "of each a sample"
        )
    for name, given in (("groups", groups), ("kinds", kinds)):
        if given is not None and len(given) != len(labels):
            raise DataError(f"{name}: {len(given)} values for {len(labels)} samples; give one a sample")
    if labels.all() or not labels.any():
        raise DataError("labels: all the same; an evaluation needs normal samples and anomalies")


def _totals(
    labels: np.ndarray,
    scores: np.ndarray,
    flags: np.ndarray,
    group: np.ndarray,
    *,
    seed: int,
    resamples: int,
    progress: Progress | None,
) -> dict[str, Any]:
    """The figures of all samples, by their names in `Evaluation`; `group` (S,) counts from 0."""
    groups = int(group.max()) + 1
    curves = Curves(scores, np.stack([~labels, labels]), group, groups)
    columns = np.stack([np.bincount(group[flags & kind], minlength=groups) for kind in (labels, ~labels)], axis=1)

    def figures(weights: np.ndarray) -> np.ndarray:
        false, found = curves(weights)
        anomalous, normal = found[-1], false[-1]
        hits, false_alarms = (weights @ columns).T
        precision, recall = _share(hits, hits + false_alarms), hits / anomalous
        f1 = _share(2 * hits, anomalous + hits + false_alarms)
        ranking = area_share(false, found, normal, anomalous), average_precision(false, found)
        all_figures = np.stack([*ranking, precision, recall, f1, false_alarms / normal], axis=1)
        all_figures[(anomalous == 0) | (normal == 0)] = np.nan  # one class alone has no ranking
        return all_figures

    normal, anomalous, flagged = (len(np.unique(group[chosen])) for chosen in (~labels, labels, flags))
    rarer = min(normal, anomalous)
    bearing = [rarer, rarer, flagged, anomalous, anomalous, normal]
    with stage(progress, "bootstrap", "resamples", resamples) as done:
        estimates = bootstrap(
            figures, groups, bearing=bearing, seed=seed, resamples=resamples, cells=curves.thresholds, done=done
        )
    assert all(estimates), "both classes are there"
    names = ("auroc", "aupr", "precision", "recall", "f1", "false_alarm_rate")
    return dict(zip(names, estimates, strict=True))


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, and 0 where whole is 0."""
    return np.asarray(np.divide(part, whole, out=np.zeros_like(whole), where=whole > 0))


class SampleMeter:
    """Takes the predictions of a source part by part and compares them with its labels.

    Samples without a label do not count, nor do those without a score, which could not be read.

    Args:
        labels: of all samples of the source.
        origin: the source, for messages.
        groups: (S,) the number of the group of each sample of the source; None: each is its own.
    """

    takes_maps = False
    """Whether it compares anomaly maps, too."""

    def __init__(self, labels: Labels, origin: str, groups: np.ndarray | None = None) -> None:
        self._labels, self._origin, self._groups = labels, origin, groups
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
        threshold = detector.threshold
        result = self.result(
            wanted_false_alarm_rate=threshold.false_alarm_rate,
            thresholds=thresholds_of(threshold),
            progress=progress,
        )
        notes = [threshold.caveat] if threshold.caveat else []
        return Judged(result, self.left_out(), notes, self.ranking())

    def ranking(self) -> Ranking:
        """The samples that count, with their labels."""
        scores, groups = np.concatenate(self._scores), self._groups
        kept = self._labels.known & np.isfinite(scores)
        keys = [self._keys[row] for row in np.flatnonzero(kept).tolist()]
        return Ranking(keys, scores[kept], self._labels.anomalous[kept], None if groups is None else groups[kept])

    def left_out(self) -> list[Skipped]:
        """The samples that do not count, and why."""
        named = {bad.key for bad in self._skipped}
        unlabelled = [self._keys[row] for row in np.flatnonzero(~self._labels.known).tolist()]
        return [*self._skipped, *(Skipped(key, "has no label") for key in unlabelled if key not in named)]

    def result(
        self,
        *,
        wanted_false_alarm_rate: float,
        thresholds: Mapping[float, float] | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Evaluation:
        """The figures of all samples that were added; the arguments are those of `evaluate`.

        Raises:
            DataError: another number of samples than of labels, or labels of one class only.
        """
        scores, flags = np.concatenate(self._scores), np.concatenate(self._flags)
        anomalous, known, kinds = self._labels
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
            groups=None if self._groups is None else self._groups[kept],
            kinds=None if kinds is None else kinds[kept],
            thresholds=thresholds,
            seed=seed,
            progress=progress,
        )
