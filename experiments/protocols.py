"""The rules of the paper's experiments, one function a rule; each gives a `Split` and knows no method.

A split's `fit` goes to a method whole: what it holds out of it for validation is its own affair.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from memae.data import known

KDD_FLAGGED = 0.2  # the share of the test rows that the paper's protocol flags


@dataclass(frozen=True)
class Split:
    """A one-class problem: what to fit on, what to test on, and which part of the test each protocol judges."""

    fit: np.ndarray
    """(S, ...) normal samples: images (S, 1, 28, 28) uint8, or encoded rows (S, 120) float32."""
    test: np.ndarray
    """(T, ...) of the same kind."""
    labels: np.ndarray
    """(T,) bool, True = anomaly."""
    judged: Mapping[str, np.ndarray]
    """For each protocol the rows of the test that it judges: one fit serves them all."""


@lru_cache(maxsize=2)
def _mnist(part: str) -> tuple[np.ndarray, np.ndarray]:
    return known.mnist(part)


def mnist(normal: int, seed: int) -> Split:
    """One class of MNIST is normal; fit on its training images.

    Protocol "full" judges the whole official test split, the common variant. "paper" is section 4.1: all normal
    test images and, drawn by the seed, so many others that 30 per cent are anomalies.
    """
    train, train_labels = _mnist("train")
    test, test_labels = _mnist("test")
    anomalous = test_labels != normal
    usual, strange = np.flatnonzero(~anomalous), np.flatnonzero(anomalous)
    drawn = np.random.default_rng(seed).choice(strange, round(len(usual) * 0.3 / 0.7), replace=False)
    judged = {"full": np.arange(len(test)), "paper": np.concatenate([usual, drawn])}
    return Split(train[train_labels == normal], test, anomalous, judged)


def mnist_choose(normal: int, seed: int) -> Split:
    """For choosing settings: the training file alone, a third of the class and 30 per cent others as the test.

    The official test split is never opened.
    """
    pixels, labels = _mnist("train")
    order = np.random.default_rng([seed, normal]).permutation(len(labels))
    usual, strange = order[labels[order] == normal], order[labels[order] != normal]
    cut = len(usual) * 2 // 3
    held_out, drawn = usual[cut:], strange[: round(len(usual[cut:]) * 0.3 / 0.7)]
    index = np.concatenate([held_out, drawn])
    return Split(pixels[usual[:cut]], pixels[index], labels[index] != normal, {"choose": np.arange(len(index))})


@lru_cache(maxsize=1)
def kddcup_features() -> tuple[np.ndarray, np.ndarray]:
    """The 120 features of section 4.3: 34 numbers as they are, seven categories one-hot over the whole file.

    A category of one value (is_host_login) is left out, which makes 34 + 86 = 120. Returns (S, 120) float32 and
    labels (S,) bool, True = the class "normal", which is the anomaly there.
    """
    rows, labels = known.kddcup99()
    parts = []
    for name in rows.column_names:
        column = rows[name]
        if name not in known.KDD_CATEGORIES:
            parts.append(column.to_numpy()[:, None])
            continue
        values = pc.unique(column)
        if len(values) > 1:
            codes = pc.index_in(column, pa.array(sorted(values.to_pylist()))).to_numpy()
            parts.append(np.eye(len(values), dtype=np.float32)[codes])
    features = np.concatenate(parts, axis=1, dtype=np.float32)
    assert features.shape[1] == 120, features.shape
    return features, labels == "normal"


def kddcup(seed: int) -> Split:
    """Section 4.3: a random half; fit on its attack rows, test on the other half."""
    features, anomalous = kddcup_features()
    first, second = np.array_split(np.random.default_rng(seed).permutation(len(features)), 2)
    judged = {"paper": np.arange(len(second))}
    return Split(features[first[~anomalous[first]]], features[second], anomalous[second], judged)


def kddcup_choose(seed: int) -> Split:
    """For choosing settings: the same rule within the first half alone, so that no test row is ever seen."""
    features, anomalous = kddcup_features()
    half, _ = np.array_split(np.random.default_rng(seed).permutation(len(features)), 2)
    first, second = np.array_split(half, 2)
    judged = {"choose": np.arange(len(second))}
    return Split(features[first[~anomalous[first]]], features[second], anomalous[second], judged)


def auroc_metrics(labels: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """Area under the ROC curve."""
    from memae.evaluate import auroc

    return {"auroc": auroc(labels, scores)}


def kddcup_metrics(labels: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """Section 4.3: flag the top 20 per cent of the test scores; precision, recall, F1 of that; and AUROC.

    Exactly 20 per cent are flagged, ties broken by the order of the rows, which is random.
    """
    flagged = np.zeros(len(scores), dtype=bool)
    flagged[np.argsort(-scores, kind="stable")[: round(KDD_FLAGGED * len(scores))]] = True
    hits = int((flagged & labels).sum())
    precision, recall = hits / int(flagged.sum()), hits / int(labels.sum())
    f1 = 2 * precision * recall / max(precision + recall, 1e-12)
    return {"precision": precision, "recall": recall, "f1": f1, **auroc_metrics(labels, scores)}
