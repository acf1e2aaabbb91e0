"""Rows of named columns, and those in memory: arrays, and pandas, polars or Arrow frames."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import narwhals as nw
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from memae.errors import DataError
from memae.progress import Count
from memae.types import EVERYTHING, Key, unreadable_at

__all__ = [
    "TABLE_SUFFIXES",
    "Block",
    "ColumnSource",
    "Table",
    "TableSource",
    "check_names_differ",
    "from_array",
    "from_frame",
    "is_csv",
    "is_frame",
    "shown",
    "texts_of",
]

READ_BYTES = 1 << 20  # of a column read ahead
CSV_SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz")
TABLE_SUFFIXES = (*CSV_SUFFIXES, ".parquet", ".arrow", ".feather")
BATCH_ROWS = 65_536  # at most, read at a time
CELL_BYTES = 8  # of a cell in memory, about
SHOWN = 10  # column names in a message

Block = tuple[pa.Table, Mapping[int, str]]
"""Rows, and those of them that cannot be read and stand there without values, with the reason."""


@dataclass(frozen=True)
class Table:
    """S rows of named columns."""

    columns: pa.Table
    keys: Sequence[Key]
    origin: str
    """The file or argument that they came from, for messages."""
    unreadable: Mapping[int, str] = field(default_factory=dict)
    """Rows that hold nothing, as they could not be read, and why; only a source that was asked to skip has them."""

    def take(self, rows: np.ndarray) -> Table:
        """The rows of an index (B,)."""
        keys = [self.keys[row] for row in rows.tolist()]
        return Table(self.columns.take(rows), keys, self.origin, unreadable_at(self, rows))

    def __len__(self) -> int:
        return int(self.columns.num_rows)


class ColumnSource(ABC):
    """Rows of named columns in chunks; the key is the row number, counted from 0, where no keys are given."""

    modality: str = "table"
    origin: str
    _names: Sequence[str]
    _keys: Sequence[Key] = range(1 << 62)
    _kept: np.ndarray | None = None
    is_part: bool = False
    """Whether it is one of several sources of `parts`."""

    named: ClassVar[bool] = True
    """Whether somebody named the columns; those of an array are numbered."""

    @property
    def names(self) -> Sequence[str]:
        """The columns, without those that were left out."""
        return self._names

    @property
    def size_bytes(self) -> int:
        """Approximate size of the rows in memory, bytes."""
        counted = self.count()
        return CELL_BYTES * (counted.samples if counted else 0) * len(self._names)

    @abstractmethod
    def count(self) -> Count | None:
        """The number of rows, if it is known without reading them."""

    def chunks(self, size: int) -> Iterator[Table]:
        """Rows in order, at most `size` at a time.

        Raises:
            DataError: what cannot be read, or columns of the same name.
        """
        check_names_differ(self.origin, self._names)
        start = 0
        blocks = self._of_kept(self._blocks(min(size, BATCH_ROWS)))
        for columns, bad in blocks if size < EVERYTHING else _as_one(blocks):
            for first in range(0, len(columns), size):
                part = columns.slice(first, size)
                keys = self._keys[start + first : start + first + len(part)]
                here = {row - first: why for row, why in bad.items() if first <= row < first + len(part)}
                yield Table(part, keys, self.origin, here)
            start += len(columns)

    def labels(self, name: str) -> np.ndarray:
        """A column as text; missing values are "".

        Raises:
            DataError: no such column.
        """
        self._check([name])
        blocks = self._of_kept((columns, {}) for columns in self._read([name], BATCH_ROWS))
        parts = [texts_of(columns[name]) for columns, _ in blocks]
        return np.concatenate([np.empty(0, dtype=str), *parts])

    def numbered(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """A column as (S,) the number of the text of each row, and the texts; as `labels`, but for large tables.

        Raises:
            DataError: no such column.
        """
        self._check([name])
        known: dict[str, int] = {}
        parts = [np.empty(0, dtype=np.int64)]
        for columns, _ in self._of_kept((columns, {}) for columns in self._read([name], BATCH_ROWS)):
            texts, places = np.unique(texts_of(columns[name]), return_inverse=True)
            numbers = np.array([known.setdefault(text, len(known)) for text in texts.tolist()], dtype=np.int64)
            parts.append(numbers[places])
        return np.concatenate(parts), np.array(list(known), dtype=str)

    def without(self, names: Sequence[str]) -> Self:
        """The rows without these columns.

        Raises:
            DataError: no such column.
        """
        self._check(names)
        left_out = set(names)
        return self._like(_names=[name for name in self._names if name not in left_out])

    def only(self, kept: np.ndarray) -> Self:
        """The rows where `kept` (S,) bool is True, under the keys that they have here."""
        return self._like(_kept=kept, _keys=_Picked(self._keys, np.flatnonzero(kept)))

    def skipping(self) -> Self:
        """The same rows; those that cannot be read are named in the chunks, where a source knows how."""
        return self

    def as_text(self, names: Sequence[str]) -> Self:
        """The same rows, these columns read as text where they are text in the file, so that 007 keeps its zeros."""
        return self

    def key(self, row: int) -> Key:
        """Of a row that a pass over the rows has gone by."""
        return self._keys[row]

    def blocks(self, names: Sequence[str], size: int) -> Iterator[Block]:
        """All rows, with these columns in this order, at most about `size` at a time."""
        return self._like(_names=list(names))._blocks(size)

    def columns(self, names: Sequence[str], size: int) -> Iterator[pa.Table]:
        """As `blocks`, but texts as they stand."""
        return self._read(names, size)

    def _of_kept(self, blocks: Iterable[Block]) -> Iterable[Block]:
        return blocks if self._kept is None else _filtered(blocks, self._kept)

    def _like(self, **changes: Any) -> Self:
        other = copy.copy(self)
        vars(other).update(changes)
        return other

    def _check(self, names: Sequence[str]) -> None:
        for name in sorted(set(names).difference(self._names)):
            raise DataError(f"{self.origin}: no column {name!r}; it has {shown(self._names)}")

    def _blocks(self, size: int) -> Iterator[Block]:
        """The rows of all columns that are not left out, in order."""
        return ((columns, {}) for columns in self._read(self._names, size))

    @abstractmethod
    def _read(self, names: Sequence[str], size: int) -> Iterator[pa.Table]:
        """These columns in order; `size` rows at a time if that saves memory."""


class _Picked(Sequence[Key]):
    """Some of the keys of a table."""

    def __init__(self, keys: Sequence[Key], rows: np.ndarray) -> None:
        self._keys, self._rows = keys, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        rows = self._rows[index]
        return [self._keys[row] for row in rows.tolist()] if isinstance(index, slice) else self._keys[int(rows)]


class TableSource(ColumnSource):
    """Rows in memory."""

    def __init__(self, columns: pa.Table, keys: Sequence[Key], origin: str) -> None:
        self.origin, self._columns, self._keys, self._names = origin, columns, keys, columns.column_names

    def count(self) -> Count:
        """How many rows."""
        return Count(self._columns.num_rows)

    def _read(self, names: Sequence[str], size: int) -> Iterator[pa.Table]:
        yield self._columns.select(names)


class _ArraySource(TableSource):
    named = False


def _filtered(blocks: Iterable[Block], kept: np.ndarray) -> Iterator[Block]:
    """The kept rows of each block, and what is wrong with the bad ones of them."""
    start = 0
    for columns, bad in blocks:
        here = kept[start : start + len(columns)]
        place = np.cumsum(here) - 1
        yield columns.filter(pa.array(here)), {int(place[row]): why for row, why in bad.items() if here[row]}
        start += len(columns)


def _as_one(blocks: Iterable[Block]) -> list[Block]:
    """All blocks as one, if there are any."""
    tables: list[pa.Table] = []
    bad: dict[int, str] = {}
    rows = 0
    for table, here in blocks:
        tables.append(table)
        bad |= {rows + row: why for row, why in here.items()}
        rows += len(table)
    return [(pa.concat_tables(tables), bad)] if tables else []


def from_array(array: np.ndarray, origin: str) -> TableSource:
    """The rows of an array (S, D) of numbers, whose columns are x0, x1, ...

    Raises:
        DataError: an array without a number, of which a tiny file may promise billions of columns.
    """
    if not array.size:
        raise DataError(f"{origin}: holds no samples")
    if array.dtype.kind == "f" and array.dtype != np.float32:
        array = array.astype(np.float64)  # Arrow has no long double
    array = array.astype(array.dtype.newbyteorder("="), copy=False)  # nor another byte order
    columns = {f"x{place}": np.ascontiguousarray(array[:, place]) for place in range(array.shape[1])}
    return _ArraySource(pa.table(columns), range(len(array)), origin)


def is_csv(path: Path) -> bool:
    """Whether a path is called like a text file of rows, gzipped or not."""
    return path.name.lower().endswith(CSV_SUFFIXES)


def is_frame(x: Any) -> bool:
    """Whether an object is a pandas, polars or other DataFrame in memory."""
    return bool(nw.dependencies.is_into_dataframe(x))


def from_frame(x: Any) -> TableSource:
    """The rows of a pandas, polars or other DataFrame. A pandas index gives the keys.

    Raises:
        DataError: columns of the same name, or a column of several types.
    """
    try:
        frame = nw.from_native(x, eager_only=True)
    except nw.exceptions.DuplicateError as error:
        raise DataError(f"the DataFrame: column names must differ ({' '.join(str(error).split())})") from None
    index = nw.maybe_get_index(frame)
    keys: Sequence[Key] = range(len(frame)) if index is None else list(index)
    names = [str(name) for name in x.columns]
    check_names_differ("the DataFrame", names)
    frame = nw.maybe_reset_index(frame).rename(dict(zip(x.columns, names, strict=True)))
    try:
        arrow = frame.to_arrow()
    except (pa.ArrowException, TypeError) as error:
        reason = " ".join(str(part).splitlines()[0] for part in error.args)
        raise DataError(f"the DataFrame: a column mixes types ({reason}); give each column one type") from None
    return TableSource(arrow, keys, "the DataFrame")


def shown(names: Sequence[str]) -> str:
    """The first column names, for a message."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(repr, names[:SHOWN])) + more


def check_names_differ(origin: str, names: Sequence[str]) -> None:
    """Raises an error if two columns have the same name.

    Raises:
        DataError: names those that are given twice.
    """
    if len(set(names)) < len(names):
        twice = sorted(name for name, times in Counter(names).items() if times > 1)
        raise DataError(f"{origin}: column names must differ; given twice: {', '.join(twice)}")


def texts_of(column: pa.ChunkedArray) -> np.ndarray:
    """(S,) text; missing values are ""."""
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, column)
    try:
        text = pc.fill_null(column.cast(pa.string()), "")
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):  # or bytes that are no text
        raise DataError(
            f"a column of {column.type} has no text to compare; convert it to text or numbers"
        ) from None
    return np.asarray(text.to_pylist(), dtype=object).astype(str)
