"""Which samples are anomalous, from a column of labels. Labels enter here and in `evaluate` files, nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from memae.errors import ConfigError, DataError
from memae.types import Source

__all__ = ["Labels", "anomaly_labels", "read_labels"]


class Labels(NamedTuple):
    """What is known about the samples of a source, in their order."""

    anomalous: np.ndarray
    """(S,) bool, True = anomaly."""
    known: np.ndarray
    """(S,) bool, True where a sample has a label."""
    kinds: np.ndarray | None = None
    """(S,) text, the label of each sample; None where labels say no more than normal or not."""


def read_labels(
    source: Source, label_column: str | None, normal: Sequence[str], *, skip_bad: bool = False
) -> Labels:
    """The labels of a source; an empty text is a missing label, unless "" means normal.

    Args:
        source: of the samples.
        label_column: what the labels are called there.
        normal: the values that mean normal.
        skip_bad: a missing label is marked as unknown; it is an error else.

    Raises:
        ConfigError: no column, or no normal value.
        DataError: a missing label, a normal value that never occurs, or labels of one class only.
    """
    if label_column is None or not normal:
        raise ConfigError(
            "say which labels: `label_column='NAME'` and `normal=['VALUE']` (or `labels`, for masks)"
        )
    values = source.labels(label_column)
    known = (values != "") | ("" in normal)
    if not (known.all() or skip_bad):
        row, count = int(np.argmin(known)), int((~known).sum())
        raise DataError(
            f"{source.origin}: no label in {label_column!r} at row {row} ({count:,} such in all); fill them, or leave "
            "such rows out with `skip_bad=True`"
        )
    anomalous = np.zeros(len(values), dtype=bool)
    anomalous[known] = anomaly_labels(values[known], normal, source.origin)
    plain, codes = np.unique(values, return_inverse=True)
    return Labels(anomalous, known, np.array([_canonical(value) for value in plain])[codes])


def anomaly_labels(labels: np.ndarray, normal: Sequence[str], origin: str) -> np.ndarray:
    """(S,) bool, True = anomaly, from text labels and the values that mean normal; "1" equals "1.0".

    Raises:
        DataError: a normal value that never occurs, or labels that are all normal or all anomalous.
    """
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


def _canonical(label: str) -> str:
    try:
        number = float(label)
    except ValueError:
        return str(label)
    return str(int(number)) if number.is_integer() else repr(number)
