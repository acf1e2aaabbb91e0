"""Labels and scores to figures; a label is True for an anomaly, a score is higher for one."""

from __future__ import annotations

import numpy as np

from memae.metrics import auroc

__all__ = ["above", "ranking", "top"]


def ranking(labels: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """Section 4.1: the area under the ROC curve, and the average precision. Both take (T,)."""
    from sklearn.metrics import average_precision_score

    return {"auroc": auroc(labels, scores), "average_precision": float(average_precision_score(labels, scores))}


def top(labels: np.ndarray, scores: np.ndarray, count: int) -> dict[str, float]:
    """Section 4.3: flag the `count` highest of the scores (T,); precision, recall and F1 of that, and the AUROC.

    Exactly `count` rows are flagged, ties broken by the order of the rows, which is random in every split here.
    """
    flagged = np.zeros(len(scores), dtype=bool)
    flagged[np.argsort(-scores, kind="stable")[:count]] = True
    return {**_flagged(labels, flagged), "auroc": auroc(labels, scores)}


def above(labels: np.ndarray, scores: np.ndarray, threshold: float) -> dict[str, float]:
    """Flag the scores (T,) above a threshold; precision, recall, F1, and the share of normal rows that it flags."""
    flagged = scores > threshold
    return {**_flagged(labels, flagged), "false_alarm_rate": float(flagged[~labels].mean())}


def _flagged(labels: np.ndarray, flagged: np.ndarray) -> dict[str, float]:
    from sklearn.metrics import precision_recall_fscore_support

    found = precision_recall_fscore_support(labels, flagged, average="binary", zero_division=0)
    return {name: float(value) for name, value in zip(("precision", "recall", "f1"), found[:3], strict=True)}
