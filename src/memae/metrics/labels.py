"""Which samples are anomalous, from a column of labels. Labels enter here and in `evaluate` files, nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from memae.errors import ConfigError, DataError
from memae.types import Source

__all__ = ["Labels", "anomaly_labels", "normal_samples", "read_labels"]


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
    anomalous = ~_means_normal(labels, normal, origin)
    if anomalous.all() or not anomalous.any():
        raise DataError(f"{origin}: every sample is labelled normal; an evaluation needs anomalies too")
    return anomalous


def normal_samples(source: Any, label_column: str, normal: Sequence[str]) -> Any:
    """The samples of a labelled source that are normal, to train on; the column of the labels stays.

    Args:
        source: a table.
        label_column: of the labels.
        normal: the values that mean normal; samples without a label do not count, unless "" is one of them.

    Raises:
        ConfigError: no normal value, or no table.
        DataError: no such column, or a normal value that never occurs.
    """
    if not normal:
        raise ConfigError("`label_column`: say which labels are normal, with `normal=['VALUE']`")
    if not hasattr(source, "only"):
        raise ConfigError(
            f"`label_column`: {source.origin} is no table; give fit the folder of the normal samples instead"
        )
    return source.only(_means_normal(source.labels(label_column), normal, source.origin))


def _means_normal(labels: np.ndarray, normal: Sequence[str], origin: str) -> np.ndarray:
    """(S,) bool, from text labels and the values that mean normal.

    Raises:
        DataError: a normal value that never occurs.
    """
    known, codes = np.unique(labels, return_inverse=True)
    plain = np.array([_canonical(label) for label in known])
    for value in normal:
        if _canonical(value) not in plain:
            seen = ", ".join(plain[:10]) + (", ..." if len(plain) > 10 else "")
            raise DataError(f"{origin}: no sample is labelled {value!r}; the labels are {seen}")
    return np.asarray(np.isin(plain, [_canonical(value) for value in normal])[codes])


def _canonical(label: str) -> str:
    try:
        number = float(label)
    except ValueError:
        return str(label)
    return str(int(number)) if number.is_integer() else repr(number)
