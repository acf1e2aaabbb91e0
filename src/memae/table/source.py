"""Rows of named columns: Parquet and Arrow files, and pandas, polars or Arrow frames. CSV is in `csv_tables.py`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import narwhals as nw
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from memae.errors import DataError, first_line
from memae.stages import Count
from memae.types import EVERYTHING, Key, Table

__all__ = [
    "TABLE_SUFFIXES",
    "ArrowSource",
    "ParquetSource",
    "TableSource",
    "as_text",
    "check_column",
    "from_array",
    "from_frame",
    "is_frame",
]

READ_BYTES = 1 << 20  # of a column read ahead
TABLE_SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet", ".arrow", ".feather")
LABEL_ROWS = 65_536  # read at a time
CELL_BYTES = 8  # of a cell in memory, about


class TableSource:
    """Rows in memory."""

    modality: str = "table"

    def __init__(self, columns: pa.Table, keys: Sequence[Key], origin: str) -> None:
        self._columns, self._keys = columns, keys
        self.origin = origin

    @property
    def size_bytes(self) -> int:
        """Of the rows in memory, about."""
        return CELL_BYTES * int(self._columns.num_rows * self._columns.num_columns)

    def chunks(self, size: int) -> Iterator[Table]:
        """The rows in slices."""
        for start in range(0, self._columns.num_rows, size):
            keys = self._keys[start : start + size]
            yield Table(self._columns.slice(start, len(keys)), keys, self.origin)

    def count(self) -> Count:
        """How many rows."""
        return Count(self._columns.num_rows)

    def labels(self, name: str) -> np.ndarray:
        """A column as text, "" where there is none.

        Raises:
            DataError: no such column.
        """
        check_column(self.origin, name, self._columns.column_names)
        return as_text(self._columns[name])

    def without(self, names: Sequence[str]) -> TableSource:
        """The rows without these columns.

        Raises:
            DataError: no such column.
        """
        for name in names:
            check_column(self.origin, name, self._columns.column_names)
        return TableSource(self._columns.drop_columns(list(names)), self._keys, self.origin)


class ParquetSource:
    """A Parquet file, read by row groups; the key is the row number, counted from 0.

    Raises:
        DataError: not a readable Parquet file.
    """

    modality: str = "table"

    def __init__(self, path: Path, dropped: Sequence[str] = ()) -> None:
        self.origin, self._path, self._dropped = str(path), path, tuple(dropped)
        with self._file() as file:
            schema, self._rows = file.schema_arrow, file.metadata.num_rows
        # a pandas index says which row it is, so a model must not learn it as a column
        index = (schema.pandas_metadata or {}).get("index_columns", [])
        self._names = [name for name in schema.names if name not in self._dropped and name not in index]

    @property
    def size_bytes(self) -> int:
        """Of the rows in memory, about."""
        return CELL_BYTES * int(self._rows) * len(self._names)

    def chunks(self, size: int) -> Iterator[Table]:
        """Batches of rows in the order of the file."""
        if size >= EVERYTHING:
            columns = self._read(self._names)
            yield Table(columns, range(columns.num_rows), self.origin)
            return
        start = 0
        with self._file() as file:
            batches = file.iter_batches(batch_size=size, columns=self._names)
            while (batch := self._guard(lambda: next(batches, None))) is not None:
                yield Table(pa.Table.from_batches([batch]), range(start, start + batch.num_rows), self.origin)
                start += batch.num_rows

    def count(self) -> Count:
        """How many rows."""
        with self._file() as file:
            return Count(file.metadata.num_rows)

    def labels(self, name: str) -> np.ndarray:
        """A column as text, "" where there is none.

        Raises:
            DataError: no such column.
        """
        check_column(self.origin, name, self._names)
        return as_text(self._read([name])[name])

    def without(self, names: Sequence[str]) -> ParquetSource:
        """The file without these columns.

        Raises:
            DataError: no such column.
        """
        for name in names:
            check_column(self.origin, name, self._names)
        return ParquetSource(self._path, (*self._dropped, *names))

    def _file(self) -> pq.ParquetFile:
        # pre-buffered, Arrow would keep every row group that it has passed, and memory would grow with the file
        return self._guard(lambda: pq.ParquetFile(self._path, pre_buffer=False, buffer_size=READ_BYTES))

    def _read(self, names: list[str]) -> pa.Table:
        with self._file() as file:
            return self._guard(lambda: file.read(columns=names))

    def _guard(self, read: Any) -> Any:
        try:
            return read()
        except (pa.ArrowException, OSError) as error:
            raise DataError(
                f"{self.origin}: not a readable Parquet file ({first_line(error)}); write it again"
            ) from None


class ArrowSource:
    """An Arrow IPC file, which Feather files are, read by record batches; the key is the row number, counted from 0.

    Raises:
        DataError: not a readable Arrow file.
    """

    modality: str = "table"

    def __init__(self, path: Path, dropped: Sequence[str] = ()) -> None:
        self.origin, self._path, self._dropped = str(path), path, tuple(dropped)
        schema = self._guard(lambda: self._open().schema)
        index = (schema.pandas_metadata or {}).get("index_columns", [])
        self._names = [name for name in schema.names if name not in self._dropped and name not in index]

    @property
    def size_bytes(self) -> int:
        """Of the rows in memory, about."""
        return self._path.stat().st_size

    def chunks(self, size: int) -> Iterator[Table]:
        """Rows in the order of the file."""
        file = self._guard(self._open)
        start = 0
        if size >= EVERYTHING:
            columns = self._guard(file.read_all).select(self._names)
            yield Table(columns, range(columns.num_rows), self.origin)
            return
        for place in range(file.num_record_batches):
            batch = self._guard(lambda place=place: file.get_batch(place))
            columns = pa.Table.from_batches([batch]).select(self._names)
            keys = range(start, start + len(columns))
            yield from TableSource(columns, keys, self.origin).chunks(size)
            start += len(columns)

    def count(self) -> Count:
        """How many rows."""
        file = self._guard(self._open)
        return Count(sum(file.get_batch(place).num_rows for place in range(file.num_record_batches)))

    def labels(self, name: str) -> np.ndarray:
        """A column as text, "" where there is none.

        Raises:
            DataError: no such column.
        """
        check_column(self.origin, name, self._names)
        parts = [part.columns[name] for part in self.chunks(LABEL_ROWS)]
        return np.concatenate([as_text(part) for part in parts]) if parts else np.empty(0, dtype=str)

    def without(self, names: Sequence[str]) -> ArrowSource:
        """The file without these columns.

        Raises:
            DataError: no such column.
        """
        for name in names:
            check_column(self.origin, name, self._names)
        return ArrowSource(self._path, (*self._dropped, *names))

    def _open(self) -> pa.ipc.RecordBatchFileReader:
        return pa.ipc.open_file(pa.memory_map(str(self._path)))

    def _guard(self, read: Any) -> Any:
        try:
            return read()
        except (pa.ArrowException, OSError) as error:
            raise DataError(
                f"{self.origin}: not a readable Arrow file ({first_line(error)}); write it again, as an IPC file or "
                "Feather version 2"
            ) from None


def from_array(array: np.ndarray, origin: str) -> TableSource:
    """The rows of an array (S, D) of numbers, whose columns are x0, x1, ..."""
    if array.dtype.kind == "f" and array.dtype != np.float32:
        array = array.astype(np.float64)  # Arrow has no long double
    array = array.astype(array.dtype.newbyteorder("="), copy=False)  # nor another byte order
    columns = {f"x{place}": np.ascontiguousarray(array[:, place]) for place in range(array.shape[1])}
    return TableSource(pa.table(columns), range(len(array)), origin)


def is_frame(x: Any) -> bool:
    """Whether it is a pandas, polars or other DataFrame in memory."""
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
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"the DataFrame: column names must differ; given twice: {', '.join(twice)}")
    frame = nw.maybe_reset_index(frame).rename(dict(zip(x.columns, names, strict=True)))
    try:
        arrow = frame.to_arrow()
    except (pa.ArrowException, TypeError) as error:
        reason = " ".join(str(part).splitlines()[0] for part in error.args)
        raise DataError(f"the DataFrame: a column mixes types ({reason}); give each column one type") from None
    return TableSource(arrow, keys, "the DataFrame")


def check_column(origin: str, name: str, names: Sequence[str]) -> None:
    """Fails if there is no column of that name.

    Raises:
        DataError: names those that there are.
    """
    if name not in names:
        shown = ", ".join(map(repr, names[:10])) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
        raise DataError(f"{origin}: no column {name!r}; it has {shown}")


def as_text(column: pa.ChunkedArray) -> np.ndarray:
    """(S,) text, "" where there is no value."""
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, column)
    text = pc.fill_null(column.cast(pa.string()), "")
    return np.asarray(text.to_pylist(), dtype=object).astype(str)
