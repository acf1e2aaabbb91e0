"""What the owner of a table should know about its columns: what a model should not learn, and what it reads oddly."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from memae.table.cells import FEW
from memae.table.readings import WrittenNumbers
from memae.table.schema import HEAVY, Column, TablePreprocess

__all__ = ["Order", "column_notes", "written_notes"]

NAMED = 5  # columns that a note names
LEAST_SECONDS, MOST_SECONDS = 9.4e8, 4.2e9  # since 1970, from 1999 to 2103
UNITS_PER_SECOND = (1, 1e3, 1e6, 1e9)
_NUMBER_OF_ROW = re.compile(r"(unnamed: ?\d+|index|row|row ?number|level_0|)", re.IGNORECASE)
_ID = re.compile(r"(.*[\s_.-])?(id|Id|ID|uuid|UUID|guid|GUID)|.*[a-z](Id|ID)")
_TIME = re.compile(r"(.*[\s_.-])?(ts|time|date|timestamp|datetime|epoch|seconds?)([\s_.-].*)?", re.IGNORECASE)
_LABEL = re.compile(
    r"(label|class|target|outcome|anomaly|is_?anomaly|outlier|attack|attack_?(type|cat|class)|fraud|is_?fraud)",
    re.IGNORECASE,
)


@dataclass
class Order:
    """How the numbers of a column lie, and whether they rise from row to row, as those of rows and times do."""

    low: float = math.inf
    high: float = -math.inf
    count: int = 0
    falls: bool = False
    ties: bool = False

    _last: float = math.nan

    def add(self, values: np.ndarray) -> None:
        """Takes more rows (S,) in, which come after those before; NaN is no number."""
        values = values[np.isfinite(values)]
        if not len(values):
            return
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
        if not self.falls:
            with np.errstate(over="ignore"):
                steps = np.diff(values, prepend=values[0] if math.isnan(self._last) else self._last)
            steps = steps[1:] if math.isnan(self._last) else steps
            self.falls, self.ties = bool((steps < 0).any()), self.ties or bool((steps == 0).any())
        self.count, self._last = self.count + len(values), float(values[-1])

    @property
    def numbers_rows(self) -> bool:
        """Whether they rise by one from row to row."""
        return self.rises and self.high - self.low == self.count - 1

    @property
    def rises(self) -> bool:
        """Whether each is above the one before."""
        return self.count > FEW and not (self.falls or self.ties)

    def tells_time(self, name: str) -> bool:
        """Whether they are times since 1970: by their size, and by their order or the name of the column."""
        if not (self.count > FEW and (not self.falls or _TIME.fullmatch(name))):
            return False
        return any(
            LEAST_SECONDS * unit <= self.low < self.high <= MOST_SECONDS * unit for unit in UNITS_PER_SECOND
        )


def column_notes(preprocess: TablePreprocess, orders: Mapping[str, Order], rows: int) -> list[str]:
    """A note for each kind of trouble that columns look like; a column is named for the first kind only.

    Args:
        preprocess: the fitted schema.
        orders: of the columns of numbers, in the order of the rows.
        rows: how many there are.
    """
    left, notes = list(preprocess.columns), []
    for looks, said in _kinds(orders, rows):
        if found := [column for column in left if looks(column)]:
            left = [column for column in left if column not in found]
            notes.append(f"{_shown([column.name for column in found])} {said(found)}")
    return notes


def written_notes(columns: Mapping[str, WrittenNumbers]) -> list[str]:
    """A note on each column of text that is read as numbers."""
    return [
        f"column {name!r} holds numbers such as {found.example!r}, and is read so"
        for name, found in columns.items()
    ]


def _kinds(
    orders: Mapping[str, Order], rows: int
) -> list[tuple[Callable[[Column], object], Callable[[Sequence[Column]], str]]]:
    """What a column may look like, and what is then said behind the names of all that do."""

    def order(column: Column) -> Order:
        return orders.get(column.name, Order())

    return [
        (
            lambda column: order(column).tells_time(column.name),
            lambda found: (
                "looks like a time since 1970: every later row lies beyond what the model learnt; turn it into the "
                f"hour or the weekday, or leave it out with {_drop(found)}"
            ),
        ),
        (
            lambda column: (
                _NUMBER_OF_ROW.fullmatch(column.name)
                or order(column).numbers_rows
                or _ID.fullmatch(column.name)
                or len(column.categories) > max(FEW, rows / 2)
            ),
            lambda found: (
                "looks like a name or a number of the row, by which every new row differs; leave it out with "
                f"{_drop(found)}"
            ),
        ),
        (
            lambda column: _LABEL.fullmatch(column.name),
            lambda found: (
                "looks like a label, which a model must not learn from; train on normal rows alone, and leave it out "
                f"with {_drop(found)}"
            ),
        ),
        (
            lambda column: column.distinct > 2,
            lambda found: (
                "holds few different whole numbers; where they are names of kinds and no amounts, say "
                f"`categorical={[column.name for column in found[:1]]!r}`"
            ),
        ),
        (
            lambda column: column.reach > HEAVY and not column.log,
            lambda found: (
                f"has a heavy tail, up to {max(column.reach for column in found):,.0f} deviations from the mean, and "
                "such rows outweigh all others; where they are normal, set table.number_scale to 'log'"
            ),
        ),
    ]


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return (
        f"column{'s' * (len(names) > 1)} {', '.join(map(repr, names[:NAMED]))}{more}{', each,' * (len(names) > 1)}"
    )


def _drop(found: Sequence[Column]) -> str:
    return f"`drop={[column.name for column in found[:NAMED]]!r}`"
