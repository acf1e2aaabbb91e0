"""Rows of a table to what the network sees, and back: the fitted schema, stored with the model.

Numbers are scaled; one that is missing becomes 0 and sets a feature of its own. Categories become one-hot, a missing
value being one of them, with one more place for what was never seen. The rules are in docs/tables-data.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from memae.encoded import FAR
from memae.errors import DataError
from memae.stages import Advance
from memae.types import Samples, Table

__all__ = [
    "MISSING",
    "Cell",
    "Column",
    "ColumnKind",
    "EncodedRows",
    "NumberScale",
    "TablePreprocess",
    "category_texts",
    "column_kind",
    "finite_numbers",
    "signed_log",
]

NumberScale = Literal["standard", "minmax", "log"]
ColumnKind = Literal["number", "category", "boolean"]

LARGEST_LOG = 709.0  # of a float64
MISSING = ""  # the category of a missing value: an empty cell of a CSV file and a null of any other are the same
HEAVY = 20.0  # from here on a scaled number is said to have a heavy tail
NO_VALUE, UNSEEN = "(missing)", "(unseen)"  # shown in place of a value


class _Fitted(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Column(_Fitted):
    """One column of the fitted schema and its place in the encoded row."""

    name: str
    kind: ColumnKind
    centre: float = 0.0
    spread: float = 1.0
    log: bool = False
    """A number is taken as sign(x) log(1 + |x|) before it is scaled: bytes, amounts and counts have heavy tails."""
    categories: tuple[str, ...] = ()
    missing: float = 0.0
    """Share of the samples given to fit without a value; a number then has a second feature, 1 where it is missing."""
    constant: bool = False
    """The number was the same in all training rows, so that its own size is the unit of a change."""
    reach: float = 0.0
    """How far from 0 the scaled number came in training: with number_scale "standard", in deviations."""
    distinct: int = 0
    """Different values in training of a column of whole numbers that has few; 0 is unknown or many."""

    def scaled(self, values: np.ndarray) -> np.ndarray:
        """(S,) numbers in their own units to what the network sees."""
        with np.errstate(over="ignore"):
            scaled: np.ndarray = (signed_log(values) if self.log else values) - self.centre
            return np.clip(scaled / self.spread, -FAR, FAR)

    def own_units(self, scaled: np.ndarray) -> np.ndarray:
        """The inverse of `scaled`; a logarithm beyond float64 becomes its largest number."""
        values: np.ndarray = scaled * self.spread + self.centre
        return np.sign(values) * np.expm1(np.minimum(np.abs(values), LARGEST_LOG)) if self.log else values

    @property
    def rule(self) -> str:
        """How a value becomes what the network sees, in words."""
        if self.kind != "number":
            count = len(self.categories) - (MISSING in self.categories)
            kinds = f"one-hot: {count:,} categor{'y' if count == 1 else 'ies'}"
            if self.kind == "boolean":
                kinds = "one-hot: " + ", ".join(category for category in self.categories if category)
            return kinds + (", missing" if MISSING in self.categories else "") + " and unseen"
        x = "sign(x) log(1 + |x|)" if self.log else "x"
        if self.constant:
            scaled = f"{x} = {self.centre:.6g} in all of training; the change in units of {self.spread:.6g}"
        else:
            scaled = f"({x} - {self.centre:.6g}) / {self.spread:.6g}"
        tail = f"; heavy tail, up to {self.reach:.3g}" if self.reach > HEAVY and not self.constant else ""
        return scaled + tail + ("; missing: 0, and a feature" if self.missing else "; never missing")

    @property
    def width(self) -> int:
        """Encoded features: of a number 1, or 2 if it may be missing; else the categories and one for the unseen."""
        return 1 + (self.missing > 0) if self.kind == "number" else len(self.categories) + 1


@dataclass(frozen=True)
class Cell:
    """One column of one row, as it was and as the model expected it, in the column's own units."""

    column: str
    seen: float | str
    expected: float | str
    error: float
    """This column's share of the sample's score: these add up to the score."""


class EncodedRows(NamedTuple):
    """What became of S rows."""

    x: Tensor
    """(S, features) float32; 0 in the rows that are bad."""
    bad: Mapping[int, str]
    """Rows that cannot be encoded, and why, in order."""


class TablePreprocess(_Fitted):
    """Rows to (S, features): column by column in the fitted order."""

    kind: Literal["table"] = "table"
    columns: tuple[Column, ...]
    dropped: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """(features,) of one encoded row."""
        return (sum(column.width for column in self.columns),)

    def encode(self, samples: Samples, done: Advance | None = None) -> Tensor:
        """(S, features) float32; `done` is told of each column.

        Raises:
            DataError: no table, a missing or unknown column, text in a number column, or a number that is missing or
                infinite where in training none was.
        """
        x, bad = self.encode_rows(samples, done)
        if bad:
            row, reason = next(iter(bad.items()))
            more = f" (and in {len(bad) - 1:,} of the rows after it)" if len(bad) > 1 else ""
            raise DataError(
                f"{samples.origin}: {reason} at row {samples.keys[row]}{more}, and in training none was missing; mend "
                "or remove it, or leave such rows out with `skip_bad=True`"
            )
        return x

    def encode_rows(self, samples: Samples, done: Advance | None = None) -> EncodedRows:
        """As `encode`, with the rows that cannot be encoded named beside the others.

        Raises:
            DataError: no table, a missing or unknown column, or one of another type.
        """
        if not isinstance(samples, Table):
            raise DataError(f"{samples.origin}: the model was trained on a table and these are images")
        self._check_names(samples)
        bad = dict(samples.unreadable)
        x = np.zeros((len(samples), self.shape[0]), dtype=np.float32)
        start = 0
        for column in self.columns:
            part = x[:, start : start + column.width]
            if column.kind == "number":
                _encode_numbers(samples, column, part, bad)
            else:
                index = pc.index_in(category_texts(samples, column.name, column.kind), pa.array(column.categories))
                place = pc.fill_null(index, len(column.categories)).to_numpy()
                part[np.arange(len(part)), place] = 1.0
            start += column.width
            if done:
                done(1, column.name)
        if bad:
            x[list(bad)] = 0.0
        return EncodedRows(torch.from_numpy(x), dict(sorted(bad.items())))

    def fold(self, features: Tensor) -> Tensor:
        """Sums (S, features) over the features of each column: (S, columns)."""
        widths = [column.width for column in self.columns]
        return torch.stack([part.sum(dim=1) for part in torch.split(features, widths, dim=1)], dim=1)

    def readable(self, features: Tensor) -> list[list[float | str]]:
        """Encoded rows (S, features) in the columns' own units: S lists of one value per column."""
        widths = [column.width for column in self.columns]
        values: list[list[float | str]] = []
        for column, part in zip(self.columns, torch.split(features.double(), widths, dim=1), strict=True):
            if column.kind == "number":
                numbers: list[float | str] = column.own_units(part[:, 0].numpy()).tolist()
                absent = part[:, 1] >= 0.5 if column.width == 2 else torch.zeros(len(part), dtype=torch.bool)
                values.append([NO_VALUE if gone else x for x, gone in zip(numbers, absent.tolist(), strict=True)])
            else:
                names = [*(category or NO_VALUE for category in column.categories), UNSEEN]
                values.append([names[i] for i in part.argmax(dim=1).tolist()])
        return [list(row) for row in zip(*values, strict=True)]

    def cells(self, samples: Samples, row: int, expected: Tensor, errors: Tensor) -> list[Cell]:
        """One row's columns, most surprising first; `expected` and `errors` (features,) of that row."""
        assert isinstance(samples, Table)
        one = Table(samples.columns.slice(row, 1), samples.keys[row : row + 1], samples.origin)
        wanted = self.readable(expected[None])[0]
        shares = self.fold(errors[None])[0].tolist()
        cells = []
        for column, want, share in zip(self.columns, wanted, shares, strict=True):
            seen: float | str
            if column.kind == "number":
                number = float(finite_numbers(one, column.name)[0])
                seen = NO_VALUE if np.isnan(number) else number
            else:
                seen = category_texts(one, column.name, column.kind)[0].as_py() or NO_VALUE
            cells.append(Cell(column.name, seen, want, share))
        return sorted(cells, key=lambda cell: -cell.error)

    def _check_names(self, table: Table) -> None:
        known, given = [column.name for column in self.columns], table.columns.column_names
        missing = [name for name in known if name not in given]
        extra = [name for name in given if name not in known and name not in self.dropped]
        if missing:
            cure = f"; renamed? unknown here: {_some(extra)}" if extra else "; add it under that name"
            raise DataError(f"{table.origin}: no column {_some(missing)}, which the model was trained on{cure}")
        if extra:
            raise DataError(
                f"{table.origin}: column {_some(extra)} was not there in training; leave it out with "
                f"`drop={extra[:1]!r}`"
            )
        if len(set(given)) < len(given):
            twice = sorted({name for name in given if given.count(name) > 1})
            raise DataError(f"{table.origin}: column names must differ; given twice: {', '.join(twice)}")


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


def category_texts(table: Table, name: str, kind: ColumnKind = "category") -> pa.ChunkedArray:
    """The column as text, as the categories are written; `MISSING` where there is no value.

    Raises:
        DataError: a type that has no rule, or no truth values where `kind` asks for them.
    """
    column = table.columns[name]
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


def finite_numbers(table: Table, name: str) -> np.ndarray:
    """The column as (S,) float64; NaN where there is no value, and for infinity, which a division by zero left.

    Raises:
        DataError: it holds no numbers.
    """
    column = table.columns[name]
    if pa.types.is_null(column.type):
        return np.full(len(column), np.nan)
    if column_kind(column.type) != "number":
        raise DataError(_not_a_number(table, name, column))
    values: np.ndarray = column.cast(pa.float64(), safe=False).to_numpy()
    finite = np.isfinite(values)
    return values if finite.all() else np.where(finite, values, np.nan)


def signed_log(values: np.ndarray) -> np.ndarray:
    """sign(x) log(1 + |x|)."""
    logarithm: np.ndarray = np.sign(values) * np.log1p(np.abs(values))
    return logarithm


def _encode_numbers(table: Table, column: Column, part: np.ndarray, bad: dict[int, str]) -> None:
    """Fills `part` (S, 1 or 2) and adds the rows that have no number where there must be one to `bad`."""
    values = finite_numbers(table, column.name)
    absent = np.isnan(values)
    if not absent.any():
        part[:, 0] = column.scaled(values)
        return
    part[:, 0] = np.where(absent, 0.0, column.scaled(values))
    if column.missing:
        part[:, 1] = absent
        return
    rows = [row for row in np.flatnonzero(absent).tolist() if row not in bad]
    given_there = table.columns[column.name].take(pa.array(rows, pa.int64())).to_pylist()
    for row, given in zip(rows, given_there, strict=True):
        none = given is None or np.isnan(given)
        bad[row] = f"column {column.name!r} " + ("has no value" if none else f"holds {given}")


def _not_a_number(table: Table, name: str, column: pa.ChunkedArray) -> str:
    cure = "the model was trained on numbers there; mend the cell, or map the words to numbers"
    if column_kind(column.type) == "category":
        for row, text in enumerate(column.to_pylist()):
            try:
                float(text or 0)
            except ValueError:
                return f"{table.origin}: column {name!r} holds {text!r} at row {table.keys[row]}; {cure}"
        cure = "the numbers are stored as text; convert the column to numbers"
    return f"{table.origin}: column {name!r} holds {column.type}; {cure}"


def _some(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
