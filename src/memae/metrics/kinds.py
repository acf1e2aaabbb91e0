"""Recall and AUROC of each kind of anomaly, such as a folder of defects or a name of attacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from memae.metrics.intervals import Estimate, bootstrap
from memae.metrics.tables import ResultTable, value_and_interval
from memae.progress import Progress, stage

__all__ = ["FEW", "SHOWN_KINDS", "KindEvaluation", "evaluate_kinds", "kinds_table"]

FEW = 10  # of a kind, or groups with one: fewer say little, and are marked
SHOWN_KINDS = 20  # in a table; the figures for JSON have all


@dataclass(frozen=True)
class KindEvaluation:
    """One kind of anomaly against all normal samples."""

    name: str
    """Its label."""
    samples: int
    groups: int
    """That hold such a sample; as many as samples where each is its own."""
    few: bool
    """Whether these are fewer than ten."""
    recall: Estimate
    """Share of them that was flagged."""
    auroc: Estimate
    """Of them and the normal samples in one ranking."""


def evaluate_kinds(
    kinds: np.ndarray,
    labels: np.ndarray,
    scores: np.ndarray,
    flags: np.ndarray,
    group: np.ndarray,
    *,
    seed: int,
    resamples: int,
    progress: Progress | None = None,
) -> tuple[KindEvaluation, ...]:
    """The figures of each kind of anomaly, the most frequent first; none if there is only one, which is the total.

    Args:
        kinds: (S,) text, the label of each sample.
        labels: (S,) bool, True = anomaly.
        scores: (S,) higher = more anomalous.
        flags: (S,) bool, the verdicts.
        group: (S,) the number of the group of each sample, from 0 on.
        seed: of the bootstrap over groups.
        resamples: of it.
        progress: a callback for progress events.
    """
    names, samples = np.unique(kinds[labels], return_counts=True)
    if len(names) < 2:
        return ()
    sums = _KindSums(kinds, labels, scores, flags, group)
    normal = len(np.unique(group[~labels]))
    having = [len(np.unique(group[labels & (kinds == name)])) for name in names]
    bearing = [*having, *(min(count, normal) for count in having)]
    with stage(progress, "kinds of anomalies", "resamples", resamples) as done:
        estimates = bootstrap(
            sums,
            int(group.max()) + 1,
            bearing=bearing,
            seed=seed,
            resamples=resamples,
            cells=len(scores),
            done=done,
        )
    assert all(estimates), "each kind has a sample"
    recalls, aurocs = estimates[: len(names)], estimates[len(names) :]
    found = [
        KindEvaluation(str(name), int(count), groups, groups < FEW, recall, auroc)  # type: ignore[arg-type]
        for name, count, groups, recall, auroc in zip(names, samples, having, recalls, aurocs, strict=True)
    ]
    return tuple(sorted(found, key=lambda kind: (-kind.samples, kind.name)))


class _KindSums:
    """Recalls and AUROCs of K kinds, (R, 2K), for how often each resample holds each group, (R, G).

    The AUROC of a kind is the mean share of the normal samples that one of its samples beats, where a tie is one half.
    """

    def __init__(
        self, kinds: np.ndarray, labels: np.ndarray, scores: np.ndarray, flags: np.ndarray, group: np.ndarray
    ) -> None:
        normal = np.flatnonzero(~labels)
        normal = normal[np.argsort(scores[normal], kind="stable")]
        anomalous = np.flatnonzero(labels)
        anomalous = anomalous[np.lexsort((scores[anomalous], kinds[anomalous]))]  # memory is then read in order
        self._starts = np.unique(kinds[anomalous], return_index=True)[1]
        self._normal_group, self._group = group[normal], group[anomalous]
        self._flags = flags[anomalous]
        self._below = np.searchsorted(scores[normal], scores[anomalous], side="left")
        self._up_to = np.searchsorted(scores[normal], scores[anomalous], side="right")

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        normal = np.pad(np.cumsum(weights[:, self._normal_group], axis=1), ((0, 0), (1, 0)))
        anomalous = weights[:, self._group]
        beaten = (normal[:, self._below] + normal[:, self._up_to]) / 2
        count, found, pairs = (
            np.add.reduceat(each, self._starts, axis=1)
            for each in (anomalous, anomalous * self._flags, anomalous * beaten)
        )
        return np.concatenate([found / count, pairs / (count * normal[:, -1:])], axis=1)


def kinds_table(kinds: Sequence[KindEvaluation], further: Sequence[tuple[str, Sequence[str]]] = ()) -> ResultTable:
    """A table with a row for each of the first `SHOWN_KINDS` kinds.

    Args:
        kinds: the most frequent first.
        further: columns: a name, and a cell for each kind.
    """
    shown = kinds[:SHOWN_KINDS]
    rows = [
        (
            kind.name + " *" * kind.few,
            f"{kind.samples:,}",
            value_and_interval(kind.recall),
            value_and_interval(kind.auroc),
            *(cells[place] for _, cells in further),
        )
        for place, kind in enumerate(shown)
    ]
    columns = ("kind", "count", "recall", "AUROC against normal", *(name for name, _ in further))
    notes = []
    if any(kind.few for kind in shown):
        notes.append(f"* fewer than {FEW}: says little.")
    if left := len(kinds) - len(shown):
        notes.append(f"The {left:,} least frequent kinds are left out here; the figures in JSON have all.")
    return ResultTable(f"{len(kinds):,} kinds of anomalies", columns, rows, " ".join(notes) or None)
