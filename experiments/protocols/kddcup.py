"""KDDCUP99, 10 per cent (section 4.3): random halves of 494,021 rows, as the paper has it and as one should."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from experiments.protocols.metrics import above, top
from experiments.protocols.split import Metrics, Split
from memae import datasets

__all__ = ["attacks", "features", "judge", "judge_attacks", "paper", "tuning"]

FLAGGED = 0.2  # the share of the test rows that the paper's protocol flags
QUANTILE = 0.95  # of the scores of the training rows: the threshold that takes nothing from the test


@lru_cache(maxsize=1)
def features() -> tuple[np.ndarray, np.ndarray]:
    """The 120 features of section 4.3: 34 numbers as they are, seven categories one-hot over the whole file.

    A category of one value (is_host_login) is left out, which makes 34 + 86 = 120. Returns (S, 120) float32 and
    labels (S,) bool, True = the class "normal".
    """
    rows, labels = datasets.kddcup99()
    parts = []
    for name in rows.column_names:
        column = rows[name]
        if name not in datasets.KDD_CATEGORIES:
            parts.append(column.to_numpy()[:, None])
            continue
        values = pc.unique(column)
        if len(values) > 1:
            codes = pc.index_in(column, pa.array(sorted(values.to_pylist()))).to_numpy()
            parts.append(np.eye(len(values), dtype=np.float32)[codes])
    found = np.concatenate(parts, axis=1, dtype=np.float32)
    assert found.shape[1] == 120, found.shape
    return found, labels == "normal"


def paper(seed: int) -> Split:
    """Section 4.3: the class "normal" is the anomaly; a random half, fit on its attack rows, test on the other half."""
    _, normal = features()
    return _halves(anomalous=normal, seed=seed, protocol="paper")


def attacks(seed: int) -> Split:
    """The other way round: fit on the normal traffic of the first half; the attacks are the anomaly."""
    _, normal = features()
    return _halves(anomalous=~normal, seed=seed, protocol="full")


def tuning(seed: int) -> Split:
    """For tuning settings: the paper's rule within the first half alone, so that no test row is ever seen."""
    rows, anomalous = features()
    half, _ = np.array_split(np.random.default_rng(seed).permutation(len(rows)), 2)
    first, second = np.array_split(half, 2)
    judged = {"tuning": np.arange(len(second))}
    return Split(rows[first[~anomalous[first]]], rows[second], anomalous[second], judged)


def judge(split: Split, scores: np.ndarray, fit_scores: Callable[[], np.ndarray]) -> Metrics:
    """Section 4.3 flags the top 20 per cent of the test; the variants are those of `_variants`."""
    flagged = round(FLAGGED * len(scores))
    return {"paper": top(split.labels, scores, flagged), **_variants(split, scores, fit_scores)}


def judge_attacks(split: Split, scores: np.ndarray, fit_scores: Callable[[], np.ndarray]) -> Metrics:
    """Attacks as the anomaly: "full" flags so many rows as there are attacks; the variants are those of `_variants`."""
    return {
        "full": top(split.labels, scores, int(split.labels.sum())),
        **_variants(split, scores, fit_scores),
    }


def _variants(split: Split, scores: np.ndarray, fit_scores: Callable[[], np.ndarray]) -> Metrics:
    """What section 4.3 leaves open.

    "distinct" flags, among the rows that equal no training row, each taken once, so many as there are anomalies.
    "training threshold" flags what scores above 95 per cent of the training rows; nothing in it comes from the test.
    """
    rows = split.judged["distinct"]
    labels = split.labels[rows]
    return {
        "distinct": top(labels, scores[rows], int(labels.sum())),
        "training threshold": above(split.labels, scores, float(np.quantile(fit_scores(), QUANTILE))),
    }


def _halves(anomalous: np.ndarray, seed: int, protocol: str) -> Split:
    rows, _ = features()
    first, second = np.array_split(np.random.default_rng(seed).permutation(len(rows)), 2)
    fitted = first[~anomalous[first]]
    everything = np.arange(len(second))
    judged = {protocol: everything, "distinct": _distinct(fitted, second), "training threshold": everything}
    return Split(rows[fitted], rows[second], anomalous[second], judged)


def _distinct(fitted: np.ndarray, tested: np.ndarray) -> np.ndarray:
    """The places in `tested` of the rows that equal no fitted row, the first of each kind, in order."""
    kinds = _kinds()
    unseen = np.flatnonzero(~np.isin(kinds[tested], kinds[fitted]))
    _, first = np.unique(kinds[tested[unseen]], return_index=True)
    return unseen[np.sort(first)]


@lru_cache(maxsize=1)
def _kinds() -> np.ndarray:
    """(S,) a number for each row of `features`, the same for equal rows."""
    rows = np.ascontiguousarray(features()[0])
    as_bytes = rows.view(np.dtype((np.void, rows.itemsize * rows.shape[1]))).ravel()
    _, kinds = np.unique(as_bytes, return_inverse=True)
    return kinds
