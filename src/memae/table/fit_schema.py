"""The schema of a table, learnt from its training rows chunk by chunk.

A chunk is summed up in a few numbers a column, so memory does not grow with the table, and the order and the size of
the chunks change nothing but rounding.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from memae.errors import DataError
from memae.table.cells import FEW, MAX_CATEGORIES, NO_VALUE_WORDS, WordsAmongNumbers
from memae.table.config import NumberScale
from memae.table.notes import Order
from memae.table.readings import Written, WrittenNumbers, parts_of
from memae.table.schema import (
    MISSING,
    Column,
    TablePreprocess,
    category_texts,
    column_kind,
    finite_numbers,
    numbers,
    signed_log,
)
from memae.table.source import Table, check_names_differ, shown

__all__ = ["Survey", "TableSummary", "check_varied", "survey"]

NO_NUMBER = pa.array(NO_VALUE_WORDS)
ROUNDING = 1e-9  # a spread of so small a share of the size of the numbers is none


class _Numbers:
    """Mean, deviation and range, in logarithms where the scale is "log", and the values of few whole numbers."""

    def __init__(self, read: Column, scale: NumberScale) -> None:
        self._read, self._name, self._scale, self._rows = read, read.name, scale, 0
        self._count, self._mean = 0, 0.0
        self._squares = 0.0
        """Sum of the squared deviations from the mean."""
        self._low, self._high = math.inf, -math.inf
        self._different: set[int] | None = set()
        """None once there are many, or of other numbers than whole ones."""

    @property
    def source(self) -> str:
        """The column of the table."""
        return self._read.source

    def add(self, table: Table) -> None:
        """Takes more rows in."""
        self._rows += len(table)
        self._compare(table.columns[self._name])
        values = finite_numbers(table, self._read)
        values = values[~np.isnan(values)]
        if not len(values):
            return
        if self._scale == "log":
            values = signed_log(values)
        with np.errstate(over="ignore", invalid="ignore"):
            count, step = self._count + len(values), values.mean() - self._mean
            self._squares += values.var() * len(values)
            if self._count:  # of both together: Chan, Golub and LeVeque 1979
                self._squares += np.square(step) * self._count * len(values) / count
            self._mean += step * len(values) / count
        self._count = count
        self._low, self._high = min(self._low, values.min()), max(self._high, values.max())

    def _compare(self, column: pa.ChunkedArray) -> None:
        if self._different is None:
            return
        if pa.types.is_integer(column.type):
            self._different.update(pc.unique(column).drop_null()[: FEW + 1].to_pylist())
        if len(self._different) > FEW or not pa.types.is_integer(column.type):
            self._different = None

    def fitted(self, origin: str, missing: float) -> Column:
        """The column of the schema; `missing` is the share of rows without a value."""
        if not self._count:
            raise _unfit(origin, self._name, _empty(self._rows))
        with np.errstate(over="ignore"):
            centre, spread = self._mean, np.sqrt(self._squares / self._count)
            if self._scale == "minmax":
                centre, spread = self._low, self._high - self._low
        if not np.isfinite(spread):
            largest = max(abs(self._low), abs(self._high))
            what = f"holds numbers up to {largest:.3g}, too large to scale"
            raise _unfit(origin, self._name, f"{what}; mend them (do they stand for a missing value?) or")
        # a constant column, or one that only rounds: its own size is the natural unit of a change
        if constant := bool(spread <= ROUNDING * max(1.0, abs(centre))):
            spread = max(1.0, abs(centre))
        return Column(
            name=self._name,
            kind="number",
            written=self._read.written,
            centre=float(centre),
            spread=float(spread),
            log=self._scale == "log",
            missing=missing,
            constant=constant,
            reach=float(max(abs(self._low - centre), abs(self._high - centre)) / spread),
            distinct=len(self._different or ()),
        )


class _Categories:
    """The distinct texts of a column; stops collecting once there are too many."""

    def __init__(self, read: Column) -> None:
        self._read, self._name, self._rows = read, read.name, 0
        self._texts = set[str]()

    @property
    def source(self) -> str:
        """The column of the table."""
        return self._read.source

    def add(self, table: Table) -> None:
        """Takes more rows in."""
        if len(self._texts) <= MAX_CATEGORIES:
            self._rows += len(table)
            self._texts.update(pc.unique(category_texts(table, self._read)).to_pylist())

    def fitted(self, origin: str, missing: float) -> Column:
        """The column of the schema; `missing` is the share of rows without a value."""
        if self._texts <= {MISSING}:
            raise _unfit(origin, self._name, _empty(self._rows))
        if len(self._texts) > MAX_CATEGORIES:
            counted = f"{len(self._texts):,} different texts in {self._rows:,} rows"
            cure = "turn it into numbers or a few categories, or"
            what = f"has {counted}, so it is a name, a date or free text and no category"
            raise _unfit(origin, self._name, f"{what}; {cure}")
        return self._read.model_copy(update={"categories": tuple(sorted(self._texts)), "missing": missing})


class TableSummary:
    """Statistics of the training rows, from which the schema is made.

    Args:
        scale: of the numbers.
        categorical: columns of numbers that name categories, such as codes and ports.
        written: how the numbers of columns of text are written.
        dates: whether times become their hours and weekdays.
    """

    def __init__(
        self,
        scale: NumberScale,
        categorical: Sequence[str] = (),
        written: Mapping[str, Written] = MappingProxyType({}),
        *,
        dates: bool = False,
    ) -> None:
        self._scale, self._categorical, self._written, self._dates = scale, categorical, written, dates
        self._columns: dict[str, _Numbers | _Categories] = {}

    def add(self, table: Table) -> None:
        """Adds training rows.

        Raises:
            DataError: no column, columns of one name, a column without a rule, a categorical one that is not there.
        """
        if not self._columns:
            self._columns = self._begun(table)
        for column in self._columns.values():
            column.add(table)

    def preprocess(self, origin: str, dropped: Sequence[str], missing: Mapping[str, float]) -> TablePreprocess:
        """The schema.

        Args:
            origin: of the rows, for messages.
            dropped: columns that were left out before, and may be there or not from now on.
            missing: share of rows without a value, for columns that have such rows, among all rows: validation rows may
                lack what no training row lacks.

        Raises:
            DataError: a column without any value, of free text, or of numbers that are too large.
        """
        columns = (column.fitted(origin, missing.get(column.source, 0.0)) for column in self._columns.values())
        return TablePreprocess(columns=tuple(columns), dropped=tuple(dropped))

    def _begun(self, table: Table) -> dict[str, _Numbers | _Categories]:
        names = table.columns.column_names
        check_names_differ(table.origin, names)
        if not names:
            raise DataError(f"{table.origin}: no columns are left to learn from; drop fewer")
        for name in set(self._categorical).difference(names):
            raise DataError(f"{table.origin}: no column {name!r} to take as categories; it has {shown(names)}")
        read = [column for field in table.columns.schema for column in self._read_as(field, table.origin)]
        return {
            column.name: _Numbers(column, self._scale) if column.kind == "number" else _Categories(column)
            for column in read
        }

    def _read_as(self, field: pa.Field, origin: str) -> list[Column]:
        """The columns of the schema that a column of the table becomes."""
        name, kind = field.name, column_kind(field.type)
        if self._dates and (parts := parts_of(field.type)):
            return [Column(name=f"{name} ({part})", kind="category", of=name, part=part) for part in parts]
        if kind is None:
            raise _unfit(origin, name, _without_rule(field.type))
        if name in self._written:
            return [Column(name=name, kind="number", written=self._written[name])]
        return [Column(name=name, kind="category" if name in self._categorical and kind == "number" else kind)]


def _unfit(origin: str, name: str, why: str) -> DataError:
    return DataError(f"{origin}: column {name!r} {why} leave it out with `drop={[name]!r}`")


def _empty(rows: int) -> str:
    return f"is empty in all {rows:,} training rows: there is nothing to learn;"


def _without_rule(arrow_type: pa.DataType) -> str:
    if pa.types.is_null(arrow_type):
        return "is empty: there is nothing to learn;"
    cure = " or categories"
    if pa.types.is_temporal(arrow_type):
        cure = ", such as the seconds since the row before,"
        if parts_of(arrow_type):
            cure += " or have its hour and weekday taken (table.dates = 'expand'),"
    return f"holds {arrow_type}, which has no meaning to the model; turn it into numbers{cure} or"


class Survey(NamedTuple):
    """What all rows hold, not only those of the training part."""

    missing: Mapping[str, float]
    """The share of rows without a value, for columns where it is not 0. Infinity is no value."""
    orders: Mapping[str, Order]
    """How the numbers of a column follow each other."""
    rows: int
    """How many there are."""
    written: Mapping[str, WrittenNumbers]
    """Columns of text that are all numbers to a person."""


def survey(tables: Iterable[Table], categorical: Sequence[str] = ()) -> Survey:
    """Surveys all rows.

    Raises:
        DataError: a column of texts that is not `categorical` holds a word among numbers.
    """
    counts: dict[str, int] = {}
    no_numbers: dict[str, int] = {}
    texts: dict[str, WordsAmongNumbers] = {}
    orders: dict[str, Order] = {}
    written: dict[str, WrittenNumbers] = {}
    rows, origin = 0, ""
    for table in tables:
        rows, origin = rows + len(table), table.origin
        check_names_differ(origin, table.columns.column_names)
        for name, column in zip(table.columns.column_names, table.columns.columns, strict=True):
            counts[name] = counts.get(name, 0) + _missing(column)
            if _is_text(column.type) and name not in categorical:
                cells = category_texts(table, Column(name=name, kind="category"))
                texts.setdefault(name, WordsAmongNumbers()).add(cells)
                written.setdefault(name, WrittenNumbers()).add(cells)
                no_numbers[name] = no_numbers.get(name, 0) + int(pc.sum(pc.is_in(cells, NO_NUMBER)).as_py() or 0)
            if column_kind(column.type) == "number" and name not in categorical:
                orders.setdefault(name, Order()).add(numbers(table, Column(name=name, kind="number")))
    written = {name: found for name, found in written.items() if found.found}
    counts |= {name: no_numbers[name] for name in written}
    for name, words in texts.items():
        if name not in written and (word := words.first) is not None:
            raise DataError(
                f"{origin}: column {name!r} holds {word!r} among numbers; mend the cell, leave such rows of a CSV file "
                f"out with `skip_bad=True`, or, if these are names, say `categorical={[name]!r}`"
            )
    return Survey({name: count / rows for name, count in counts.items() if count}, orders, rows, written)


def _is_text(arrow_type: pa.DataType) -> bool:
    return column_kind(arrow_type) == "category" and not pa.types.is_dictionary(arrow_type)


def _missing(column: pa.ChunkedArray) -> int:
    if pa.types.is_floating(column.type):
        column = column.cast(pa.float64()) if pa.types.is_float16(column.type) else column  # has no such kernel
        return len(column) - int(pc.sum(pc.is_finite(column)).as_py() or 0)
    if column_kind(column.type) == "category":
        return int(column.null_count + (pc.sum(pc.equal(column.cast(pa.string()), MISSING)).as_py() or 0))
    return int(column.null_count)


def check_varied(preprocess: TablePreprocess, origin: str) -> None:
    """Raises an error if all training rows are the same.

    Raises:
        DataError: no column held two values in training.
    """
    if all(column.is_constant for column in preprocess.columns):
        raise DataError(
            f"{origin}: every training row is the same; a model of constant rows has nothing to learn. Check the file, "
            "or drop fewer columns"
        )
