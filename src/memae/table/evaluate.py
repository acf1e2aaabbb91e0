"""Compares scores of rows with labels in a column."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from memae.errors import DataError
from memae.metrics import SampleMeter, read_labels
from memae.modality import Judged
from memae.modality.groups import groups_of_values
from memae.progress import Progress

__all__ = ["evaluate"]


def evaluate(detector: Any, source: Any, options: Mapping[str, Any], progress: Progress | None) -> Judged:
    """See `memae.modality.Modality.evaluate`; options: those, and `skip_bad`, `drop`."""
    column, skip_bad = options.get("label_column"), bool(options.get("skip_bad"))
    labels = read_labels(source, column, options.get("normal") or (), skip_bad=skip_bad)
    group = options.get("group")
    groups = None if group is None else _groups(source, group, len(labels.known))
    samples = source.without([*((column,) if column else ()), *options.get("drop", ())])
    return SampleMeter(labels, source.origin, groups).judge(
        detector, samples, skip_bad=skip_bad, progress=progress
    )


def _groups(source: Any, group: Any, rows: int) -> np.ndarray:
    """(S,) the number of the group of each row, from the name of a column or one value for each row."""
    if not isinstance(group, str):
        return groups_of_values(group, rows, source.origin)
    texts, numbers = np.unique(source.labels(group), return_inverse=True)
    missing = texts[numbers] == ""
    if missing.any():
        raise DataError(
            f"{source.origin}: the group column {group!r} has no value in {int(missing.sum()):,} rows, the first of "
            f"them row {int(missing.argmax())}; fill it in, or remove these rows"
        )
    return numbers
