"""The schema of a table, learnt from its training rows: all at once, or chunk by chunk.

A chunk is summed up in a few numbers a column, and two summaries make one, so that a table that does not fit into
memory gives the schema of one that does, but for rounding.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from memae.errors import DataError
from memae.stages import Advance
from memae.table.cells import FEW, MAX_CATEGORIES, WordsAmongNumbers
from memae.table.schema import (
    MISSING,
    Column,
    ColumnKind,
    NumberScale,
    TablePreprocess,
    category_texts,
    column_kind,
    finite_numbers,
    signed_log,
)
from memae.table.source import check_names_differ
from memae.types import Table

__all__ = [
    "TableSummary",
    "check_varied",
    "fit_table",
    "hints",
    "survey",
]


@dataclass(frozen=True)
class _Numbers:
    """A number column, as it is scaled: in logarithms where the scale is "log"."""

    count: int
    mean: float
    deviation: float
    low: float
    high: float
    few: frozenset[int] | None
    """The different values of whole numbers; None once there are many."""

    @classmethod
    def of(cls, table: Table, name: str, log: bool) -> _Numbers:
        values = finite_numbers(table, name)
        absent = np.isnan(values)
        values = values[~absent] if absent.any() else values
        if not len(values):
            return cls(0, 0.0, 0.0, np.inf, -np.inf, frozenset())
        values = signed_log(values) if log else values
        with np.errstate(over="ignore", invalid="ignore"):
            mean, deviation = float(values.mean()), float(values.std())
        few = None
        if pa.types.is_integer(table.columns.schema.field(name).type):
            different = pc.unique(table.columns[name]).drop_null()
            few = frozenset(different.to_pylist()) if len(different) <= FEW else None
        return cls(len(values), mean, deviation, float(values.min()), float(values.max()), few)

    def merged(self, other: _Numbers) -> _Numbers:
        """Of both together (Chan, Golub and LeVeque 1979)."""
        if not (self.count and other.count):
            return self if self.count else other
        count = self.count + other.count
        step, share = other.mean - self.mean, other.count / count
        with np.errstate(over="ignore", invalid="ignore"):
            within = (1 - share) * np.square(self.deviation) + share * np.square(other.deviation)
            between = share * (1 - share) * np.square(step)
        few = None if self.few is None or other.few is None else self.few | other.few
        return _Numbers(
            count,
            self.mean + share * step,
            float(np.sqrt(within + between)),
            min(self.low, other.low),
            max(self.high, other.high),
            few if few is not None and len(few) <= FEW else None,
        )


@dataclass
class TableSummary:
    """What the schema is made of: training rows are added chunk by chunk."""

    scale: NumberScale
    categorical: Sequence[str] = ()
    rows: int = 0
    _kinds: dict[str, ColumnKind] = field(default_factory=dict)
    _numbers: dict[str, _Numbers] = field(default_factory=dict)
    _texts: dict[str, set[str]] = field(default_factory=dict)
    _text_rows: dict[str, int] = field(default_factory=dict)
    """Rows that the texts were taken from: no more, once there are too many of them."""

    def add(self, table: Table, done: Advance | None = None) -> None:
        """Takes more rows in; `done` is told of each column.

        Raises:
            DataError: no column, names given twice, a column without a rule, a categorical one that is not there.
        """
        if not self._kinds:
            self._kinds = self._kinds_of(table)
        self.rows += len(table)
        for name, kind in self._kinds.items():
            if kind == "number":
                found = _Numbers.of(table, name, self.scale == "log")
                known = self._numbers.get(name)
                self._numbers[name] = known.merged(found) if known else found
            elif len(known_texts := self._texts.setdefault(name, set())) <= MAX_CATEGORIES:
                known_texts.update(pc.unique(category_texts(table, name, kind)).to_pylist())
                self._text_rows[name] = self.rows
            if done:
                done(1, name)

    def preprocess(
        self, origin: str, dropped: Sequence[str] = (), missing: Mapping[str, float] | None = None
    ) -> TablePreprocess:
        """The schema.

        Raises:
            DataError: a column without any value, of free text, or of numbers that are too large.
        """
        shares = missing or {}
        columns = [
            self._number_column(name, origin, shares.get(name, 0.0))
            if kind == "number"
            else self._text_column(name, kind, origin, shares.get(name, 0.0))
            for name, kind in self._kinds.items()
        ]
        return TablePreprocess(columns=tuple(columns), dropped=tuple(dropped))

    def _kinds_of(self, table: Table) -> dict[str, ColumnKind]:
        check_names_differ(table.origin, table.columns.column_names)
        names = table.columns.column_names
        if not names:
            raise DataError(f"{table.origin}: no columns are left to learn from; drop fewer")
        for name in self.categorical:
            if name not in names:
                shown = ", ".join(map(repr, names[:10])) + (", ..." if len(names) > 10 else "")
                raise DataError(f"{table.origin}: no column {name!r} to take as categories; it has {shown}")
        kinds: dict[str, ColumnKind] = {}
        for name, arrow_type in zip(names, table.columns.schema.types, strict=True):
            kind = column_kind(arrow_type)
            if kind is None:
                raise DataError(_without_rule(table.origin, name, arrow_type))
            if name in self.categorical and kind != "boolean":
                kind = "category"
            kinds[name] = kind
        return kinds

    def _number_column(self, name: str, origin: str, missing: float) -> Column:
        found = self._numbers[name]
        if not found.count:
            raise DataError(_empty(origin, name, self.rows))
        centre, spread = found.mean, found.deviation
        if self.scale == "minmax":
            with np.errstate(over="ignore"):
                centre, spread = found.low, float(np.float64(found.high) - found.low)
        if not np.isfinite(spread):
            largest = max(abs(found.low), abs(found.high))
            raise DataError(
                f"{origin}: column {name!r} holds numbers up to {largest:.3g}, too large to scale; mend them (do they "
                f"stand for a missing value?) or leave it out with `drop={[name]!r}`"
            )
        # a constant column, or one that only rounds: its own size is the natural unit of a change
        constant = spread <= 1e-9 * max(1.0, abs(centre))
        if constant:
            spread = max(1.0, abs(centre))
        return Column(
            name=name,
            kind="number",
            centre=centre,
            spread=spread,
            log=self.scale == "log",
            missing=missing,
            constant=constant,
            reach=max(abs(found.low - centre), abs(found.high - centre)) / spread,
            distinct=len(found.few or ()),
        )

    def _text_column(self, name: str, kind: ColumnKind, origin: str, missing: float) -> Column:
        texts = self._texts[name]
        if texts <= {MISSING}:
            raise DataError(_empty(origin, name, self.rows))
        if len(texts) > MAX_CATEGORIES:
            raise DataError(
                f"{origin}: column {name!r} has {len(texts):,} different texts in {self._text_rows[name]:,} rows, so "
                "it is a name, a date or free text and no category; turn it into numbers or a few categories, or leave "
                f"it out with `drop={[name]!r}`"
            )
        return Column(name=name, kind=kind, categories=tuple(sorted(texts)), missing=missing)


def fit_table(
    table: Table,
    scale: NumberScale,
    *,
    dropped: Sequence[str] = (),
    categorical: Sequence[str] = (),
    missing: Mapping[str, float] | None = None,
    done: Advance | None = None,
) -> TablePreprocess:
    """The schema of training rows.

    Args:
        table: the rows.
        scale: of the numbers.
        dropped: columns that were left out before, and may be there or not from now on.
        categorical: columns of numbers that are names of kinds, such as codes and ports.
        missing: share of rows without a value, for columns that have such rows, among all that was given to fit: held
            out rows may lack what no training row lacks. None takes them from `table`.
        done: told of each column.

    Raises:
        DataError: no column left, a column of dates or free text, or one without any value.
    """
    summary = TableSummary(scale, categorical)
    summary.add(table, done)
    return summary.preprocess(table.origin, dropped, survey([table]) if missing is None else missing)


def hints(preprocess: TablePreprocess) -> list[str]:
    """What the owner of the data may want to change about the schema."""
    codes = [column.name for column in preprocess.columns if column.distinct > 2]
    if not codes:
        return []
    shown = ", ".join(codes[:5]) + (f" and {len(codes) - 5} more" if len(codes) > 5 else "")
    return [
        f"few different whole numbers in {shown}; where they are names of kinds and no amounts, say "
        f"`categorical={codes[:1]!r}`"
    ]


def survey(tables: Iterable[Table], categorical: Sequence[str] = ()) -> dict[str, float]:
    """What must be known of all rows, held out ones too: by column the share without a value, where it is not 0.

    Infinity is no value.

    Raises:
        DataError: a column of texts that is not `categorical` holds a word among numbers.
    """
    counts: dict[str, int] = {}
    texts: dict[str, WordsAmongNumbers] = {}
    rows, origin = 0, ""
    for table in tables:
        check_names_differ(table.origin, table.columns.column_names)
        rows, origin = rows + len(table), table.origin
        for name, column in zip(table.columns.column_names, table.columns.columns, strict=True):
            counts[name] = counts.get(name, 0) + _missing(column)
            plain = column_kind(column.type) == "category" and not pa.types.is_dictionary(column.type)
            if plain and name not in categorical:
                texts.setdefault(name, WordsAmongNumbers()).add(category_texts(table, name))
    for name, words in texts.items():
        if (word := words.first) is not None:
            raise DataError(
                f"{origin}: column {name!r} holds {word!r} among numbers; mend the cell, leave such rows of a CSV file "
                f"out with `skip_bad=True`, or, if these are names, say `categorical={[name]!r}`"
            )
    return {name: count / rows for name, count in counts.items() if count}


def _missing(column: pa.ChunkedArray) -> int:
    if pa.types.is_floating(column.type):
        column = column.cast(pa.float64()) if pa.types.is_float16(column.type) else column  # has no such kernel
        return len(column) - int(pc.sum(pc.is_finite(column)).as_py() or 0)
    if column_kind(column.type) == "category":
        return int(column.null_count + (pc.sum(pc.equal(column.cast(pa.string()), MISSING)).as_py() or 0))
    return int(column.null_count)


def _without_rule(origin: str, name: str, arrow_type: pa.DataType) -> str:
    if pa.types.is_null(arrow_type):
        return (
            f"{origin}: column {name!r} is empty: there is nothing to learn; leave it out with `drop={[name]!r}`"
        )
    cure = "turn it into numbers or categories"
    if pa.types.is_temporal(arrow_type):
        cure = "turn it into numbers, such as the hour, the weekday or the seconds since the row before"
    return (
        f"{origin}: column {name!r} holds {arrow_type}, which has no meaning to the model; {cure}, or leave it out "
        f"with `drop={[name]!r}`"
    )


def _empty(origin: str, name: str, rows: int) -> str:
    return (
        f"{origin}: column {name!r} is empty in all {rows:,} training rows: there is nothing to learn; leave it out "
        f"with `drop={[name]!r}`"
    )


def check_varied(preprocess: TablePreprocess, origin: str) -> None:
    """Refuses rows that are all alike.

    Raises:
        DataError: no column held two values in training.
    """
    if all(map(_says_nothing, preprocess.columns)):
        raise DataError(
            f"{origin}: every training row is the same; a model of constant rows has nothing to learn. Check the file, "
            "or drop fewer columns"
        )


def _says_nothing(column: Column) -> bool:
    """Whether it held one and the same value in all rows, and never none."""
    return (column.constant and not column.missing) if column.kind == "number" else len(column.categories) == 1
