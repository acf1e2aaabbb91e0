"""Results for a person: a table of words and figures, without any layout."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from memae.metrics.intervals import Estimate

__all__ = ["ResultTable", "rows_of", "value_and_interval"]

TOO_FEW = "none: too few"


class ResultTable(NamedTuple):
    """A result to be printed: words and figures, without any layout."""

    title: str
    columns: tuple[str, ...]
    """Names; the first column holds words, the others hold figures."""
    rows: Sequence[tuple[str, ...]]
    caption: str | None = None
    below: Sequence[ResultTable] = ()
    """Further tables of the same result, to be printed below it."""


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


def value_and_interval(estimate: Estimate | None, digits: int = 3) -> str:
    """Both in one cell: 0.912 (0.874 to 0.951)."""
    value, interval = _cells(estimate, digits)
    return value if estimate is None or math.isnan(estimate.low) else f"{value} ({interval})"


def _cells(estimate: Estimate | None, digits: int) -> tuple[str, str]:
    if estimate is None:
        return "-", "-"
    value, low, high = (f"{number:.{digits}f}" for number in (estimate.value, estimate.low, estimate.high))
    return value, TOO_FEW if math.isnan(estimate.low) else f"{low} to {high}"
