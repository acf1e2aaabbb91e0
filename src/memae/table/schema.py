"""The fitted schema of a table: encodes and decodes rows, and is stored with the model.

Numbers are scaled; one that is missing becomes 0 and, where training lacked some too, sets a feature of its own.
Categories become one-hot, a missing value being one of them, with one more place for what was never seen. The rules are
in docs/tables-data.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from pydantic import BaseModel, Field
from torch import Tensor

from memae.errors import DataError
from memae.table.cells import NUMBER
from memae.table.readings import PERCENT, DatePart, Written, date_part
from memae.table.source import Table, check_names_differ, shown
from memae.types import FAR, Cell

__all__ = [
    "MISSING",
    "Column",
    "ColumnKind",
    "EncodedRows",
    "TablePreprocess",
    "category_texts",
    "check_none_bad",
    "column_kind",
    "finite_numbers",
    "numbers",
    "signed_log",
]

ColumnKind = Literal["number", "category", "boolean"]

LARGEST_LOG = 709.0  # of a float64
MISSING = ""  # the category of a missing value: an empty cell of a CSV file and a null of any other are the same
HEAVY = 20.0  # from here on a scaled number is said to have a heavy tail
NO_VALUE, UNSEEN = "(missing)", "(unseen)"  # shown in place of a value


class Column(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """One column of the fitted schema and its place in the encoded row."""

    name: str
    kind: ColumnKind
    of: str = ""
    """The column of the table that it is read from, where that is of another name."""
    part: DatePart = ""
    """What it takes of a time."""
    written: Written | None = None
    """How its numbers are written, where they are text."""
    centre: float = 0.0
    spread: float = Field(1.0, gt=0)
    log: bool = False
    """A number is taken as sign(x) log(1 + |x|) before it is scaled: bytes, amounts and counts have heavy tails."""
    categories: tuple[str, ...] = ()
    missing: float = Field(0.0, ge=0, le=1)
    """Share of the samples given to fit without a value; a number then has a second feature, 1 where it is missing."""
    constant: bool = False
    """The number was the same in all training rows, so that its own size is the unit of a change."""
    reach: float = 0.0
    """How far from 0 the scaled number came in training: with number_scale "standard", in deviations."""
    distinct: int = 0
    """Different values in training of a column of whole numbers that has few; 0 is unknown or many."""

    @property
    def source(self) -> str:
        """The name of the column of the table that it is read from."""
        return self.of or self.name

    def scaled(self, values: np.ndarray) -> np.ndarray:
        """Scales numbers (S,) in their own units to those that the network sees."""
        with np.errstate(over="ignore"):
            scaled: np.ndarray = (signed_log(values) if self.log else values) - self.centre
            return np.clip(scaled / self.spread, -FAR, FAR)

    def own_units(self, scaled: np.ndarray) -> np.ndarray:
        """The inverse of `scaled`; a logarithm beyond float64 becomes its largest number."""
        values: np.ndarray = scaled * self.spread + self.centre
        return np.sign(values) * np.expm1(np.minimum(np.abs(values), LARGEST_LOG)) if self.log else values

    @property
    def rule(self) -> str:
        """The rule of the column in words: how a value is encoded."""
        if self.kind != "number":
            known = [category for category in self.categories if category]
            counted = f"{len(known):,} categor{'y' if len(known) == 1 else 'ies'}"
            missing = ", missing" if MISSING in self.categories else ""
            return f"one-hot: {', '.join(known) if self.kind == 'boolean' else counted}{missing} and unseen"
        x = "sign(x) log(1 + |x|)" if self.log else "x"
        scaled = f"({x} - {self.centre:.6g}) / {self.spread:.6g}"
        if self.constant:
            scaled = f"{x} = {self.centre:.6g} in all of training; the change in units of {self.spread:.6g}"
        elif self.reach > HEAVY:
            scaled += f"; heavy tail, up to {self.reach:.3g}"
        return scaled + ("; missing: 0, and a feature" if self.missing else "; never missing")

    @property
    def width(self) -> int:
        """Encoded features: of a number 1, or 2 if it may be missing; else the categories and one for the unseen."""
        return 1 + (self.missing > 0) if self.kind == "number" else len(self.categories) + 1

    @property
    def is_constant(self) -> bool:
        """Whether the column had the same value in all training rows, and no missing one."""
        return (self.constant and not self.missing) if self.kind == "number" else len(self.categories) == 1

    def encode(self, table: Table, features: np.ndarray) -> np.ndarray:
        """Writes this column of a table into zeros (S, width).

        Returns:
            (S,) the numbers of a column of which none was missing in training, where NaN and infinity were taken as
            its mean (with number_scale "minmax" its minimum); empty for another column.

        Raises:
            DataError: a column of another type.
        """
        if self.kind != "number":
            known = pc.index_in(category_texts(table, self), pa.array(self.categories))
            place = pc.fill_null(known, len(self.categories)).to_numpy()
            features[np.arange(len(features)), place] = 1.0
            return np.empty(0)
        values = numbers(table, self)
        absent = ~np.isfinite(values)
        features[:, 0] = np.where(absent, 0.0, self.scaled(values)) if absent.any() else self.scaled(values)
        if self.missing:
            features[:, 1] = absent
            return np.empty(0)
        return values

    def readable(self, features: Tensor) -> list[float | str]:
        """Encoded features (S, width) float64 in the column's own units."""
        if self.kind != "number":
            names = [*(category or NO_VALUE for category in self.categories), UNSEEN]
            return [names[place] for place in features.argmax(dim=1).tolist()]
        numbers = self.own_units(features[:, 0].numpy()).tolist()
        absent = (features[:, 1] >= 0.5).tolist() if self.width == 2 else [False] * len(numbers)
        return [NO_VALUE if gone else number for number, gone in zip(numbers, absent, strict=True)]

    def value(self, row: Table) -> float | str:
        """The value of this column in a table of one row."""
        if self.kind != "number":
            return str(category_texts(row, self)[0].as_py()) or NO_VALUE
        number = float(finite_numbers(row, self)[0])
        return NO_VALUE if np.isnan(number) else number


class EncodedRows(NamedTuple):
    """The encoding of S rows, and the rows that cannot be encoded."""

    x: Tensor
    """(S, features) float32; 0 in the rows that are bad."""
    bad: Mapping[int, str]
    """Rows that cannot be encoded, and why, in order."""
    filled: Mapping[str, int]
    """In how many rows there was no value, by columns in which none was missing in training: the mean stands there."""


class TablePreprocess(BaseModel, frozen=True, extra="forbid"):
    """Rows to (S, features): column by column in the fitted order."""

    kind: Literal["table"] = "table"
    columns: tuple[Column, ...] = Field(min_length=1)
    dropped: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """(features,) of one encoded row."""
        return (sum(column.width for column in self.columns),)

    def encode(self, table: Table) -> Tensor:
        """(S, features) float32.

        Raises:
            DataError: a missing column, text in a number column, or infinity where in training all was finite.
        """
        encoded = self.encode_rows(table)
        check_none_bad(table, encoded.bad)
        return encoded.x

    def encode_rows(self, table: Table) -> EncodedRows:
        """As `encode`, but rows that cannot be encoded are named and raise no error.

        Raises:
            DataError: a missing column, or one of another type.
        """
        self._check_names(table)
        bad, filled = dict(table.unreadable), dict[str, int]()
        readable = np.ones(len(table), dtype=bool)
        readable[list(bad)] = False
        x = np.zeros((len(table), self.shape[0]), dtype=np.float32)
        start = 0
        for column in self.columns:
            values = column.encode(table, x[:, start : start + column.width])
            for row in np.flatnonzero(np.isinf(values)).tolist():
                bad.setdefault(row, f"holds {values[row]} in column {column.name!r}")
            if len(values) and (gaps := int((np.isnan(values) & readable).sum())):
                filled[column.name] = gaps
            start += column.width
        if bad:
            x[list(bad)] = 0.0
        return EncodedRows(torch.from_numpy(x), dict(sorted(bad.items())), filled)

    def sum_columns(self, features: Tensor) -> Tensor:
        """Sums (S, features) over the features of each column: (S, columns)."""
        return torch.stack([part.sum(dim=1) for part in self._by_column(features)], dim=1)

    def readable(self, features: Tensor) -> list[list[float | str]]:
        """Encoded rows (S, features) in the columns' own units: S lists of one value per column."""
        parts = self._by_column(features.double())
        columns = [column.readable(part) for column, part in zip(self.columns, parts, strict=True)]
        return [list(row) for row in zip(*columns, strict=True)]

    def cells(self, table: Table, row: int, expected: Tensor, errors: Tensor) -> list[Cell]:
        """The columns of one row, largest error first; `expected` and `errors` (features,) are those of the row."""
        one = table.take(np.array([row]))
        wanted, shares = self.readable(expected[None])[0], self.sum_columns(errors[None])[0].tolist()
        cells = [
            Cell(column.name, column.value(one), want, share)
            for column, want, share in zip(self.columns, wanted, shares, strict=True)
        ]
        return sorted(cells, key=lambda cell: -cell.error)

    def _by_column(self, features: Tensor) -> tuple[Tensor, ...]:
        return torch.split(features, [column.width for column in self.columns], dim=1)

    def unknown(self, names: Sequence[str]) -> list[str]:
        """The columns among these that training did not have, which are left out."""
        expected = {*(column.source for column in self.columns), *self.dropped}
        return [name for name in names if name not in expected]

    def lacking(self, names: Sequence[str]) -> list[str]:
        """The columns of the training that are not among these."""
        there = set(names)
        return list(dict.fromkeys(column.source for column in self.columns if column.source not in there))

    def _check_names(self, table: Table) -> None:
        given = table.columns.column_names
        extra = self.unknown(given)
        if missing := self.lacking(given):
            cure = f"; renamed? unknown here: {shown(extra)}" if extra else "; add it under that name"
            raise DataError(f"{table.origin}: no column {shown(missing)}, which the model was trained on{cure}")
        check_names_differ(table.origin, given)


def check_none_bad(table: Table, bad: Mapping[int, str]) -> None:
    """Raises an error for the first of the rows that cannot be encoded.

    Raises:
        DataError: names it and the cure.
    """
    if bad:
        row, reason = next(iter(bad.items()))
        more = f" (and {len(bad) - 1:,} of the rows after it)" if len(bad) > 1 else ""
        raise DataError(
            f"{table.origin}: row {table.keys[row]} {reason}{more}, and in training all was finite; mend or remove "
            "it, or leave such rows out with `skip_bad=True`"
        )


def column_kind(kind: pa.DataType) -> ColumnKind | None:
    """How a column of an Arrow type is read; None for a type that has no rule (dates, lists, bytes)."""
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "number"
    if pa.types.is_dictionary(kind):
        return column_kind(kind.value_type) and "category"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "category"
    return None


def category_texts(table: Table, of: Column) -> pa.ChunkedArray:
    """The column as text, as the categories are written; `MISSING` where there is no value.

    Raises:
        DataError: a type that has no rule, or no truth values where the column is of such.
    """
    name, kind = of.source, of.kind
    column = table.columns[name]
    if of.part:
        return pc.fill_null(date_part(column, of.part), MISSING)
    given = column_kind(column.type)
    if pa.types.is_null(column.type):
        return pa.chunked_array([pa.repeat(MISSING, len(column))])
    if kind == "boolean" and given != "boolean":
        raise DataError(
            f"{table.origin}: column {name!r} holds {column.type}, but the model was trained on true and false"
        )
    if given is None:
        raise DataError(
            f"{table.origin}: column {name!r} holds {column.type}, but the model was trained on categories"
        )
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_finite(column), column, None)
    text = column.cast(pa.string())
    return pc.fill_null(text, MISSING) if text.null_count else text


def numbers(table: Table, of: Column) -> np.ndarray:
    """The column as (S,) float64; NaN where there is no value.

    Raises:
        DataError: it holds no numbers.
    """
    name = of.source
    column = table.columns[name]
    if pa.types.is_null(column.type):
        return np.full(len(column), np.nan)
    if of.written:
        column = _as_written(table, column, of.written, name)
    if column_kind(column.type) != "number":
        raise DataError(_not_a_number(table, name, column))
    values: np.ndarray = column.cast(pa.float64(), safe=False).to_numpy()
    return values


def finite_numbers(table: Table, of: Column) -> np.ndarray:
    """As `numbers`, but NaN also for infinity, which a division by zero left."""
    values = numbers(table, of)
    finite = np.isfinite(values)
    return values if finite.all() else np.where(finite, values, np.nan)


def _as_written(table: Table, column: pa.ChunkedArray, written: Written, name: str) -> pa.ChunkedArray:
    if column_kind(column.type) == "category":
        return written.numbers(column.cast(pa.string()))
    if written.unit == PERCENT:  # 0.12 and 12 % would look alike
        raise DataError(
            f"{table.origin}: column {name!r} holds {column.type}, but the model was trained on texts such as '12 %' "
            "there; write them so"
        )
    return column


def signed_log(values: np.ndarray) -> np.ndarray:
    """sign(x) log(1 + |x|)."""
    logarithm: np.ndarray = np.sign(values) * np.log1p(np.abs(values))
    return logarithm


def _not_a_number(table: Table, name: str, column: pa.ChunkedArray) -> str:
    cure = "the model was trained on numbers there; mend the cell, or map the words to numbers"
    if column_kind(column.type) == "category":
        text = pc.fill_null(column.cast(pa.string()), "0")
        if (row := pc.index(pc.match_substring_regex(text, NUMBER), False).as_py()) >= 0:
            return f"{table.origin}: column {name!r} holds {text[row].as_py()!r} at row {table.keys[row]}; {cure}"
        cure = "the numbers are stored as text; convert the column to numbers"
    return f"{table.origin}: column {name!r} holds {column.type}; {cure}"
