"""Rows of named columns: CSV and Parquet files, and pandas, polars or Arrow frames."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import narwhals as nw
import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from memae.data.preprocess import ColumnKind
from memae.data.samples import EVERYTHING, Key, Modality, Table
from memae.errors import DataError

__all__ = ["TABLE_SUFFIXES", "CsvSource", "ParquetSource", "TableSource", "from_frame"]

TABLE_SUFFIXES = (".csv", ".csv.gz", ".parquet")

_ARROW_TYPES: dict[ColumnKind, pa.DataType] = {
    "number": pa.float64(),
    "category": pa.string(),
    "boolean": pa.bool_(),
}


class TableSource:
    """Rows in memory."""

    modality: Modality = "table"

    def __init__(self, columns: pa.Table, keys: Sequence[Key], origin: str) -> None:
        self._columns, self._keys = columns, keys
        self.origin = origin

    def chunks(self, size: int) -> Iterator[Table]:
        """The rows in slices."""
        for start in range(0, self._columns.num_rows, size):
            keys = self._keys[start : start + size]
            yield Table(self._columns.slice(start, len(keys)), keys, self.origin)

    def labels(self, name: str) -> np.ndarray:
        """A column as text.

        Raises:
            DataError: no such column.
        """
        _check_column(self.origin, name, self._columns.column_names)
        return _as_text(self._columns[name])

    def without(self, names: Sequence[str]) -> TableSource:
        """The rows without these columns.

        Raises:
            DataError: no such column.
        """
        for name in names:
            _check_column(self.origin, name, self._columns.column_names)
        return TableSource(self._columns.drop_columns(list(names)), self._keys, self.origin)


class ParquetSource:
    """A Parquet file, read by row groups; the key is the row number, counted from 0.

    Raises:
        DataError: not a readable Parquet file.
    """

    modality: Modality = "table"

    def __init__(self, path: Path, dropped: Sequence[str] = ()) -> None:
        self.origin, self._path, self._dropped = str(path), path, tuple(dropped)
        with self._file() as file:
            self._names = [name for name in file.schema_arrow.names if name not in self._dropped]

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

    def labels(self, name: str) -> np.ndarray:
        """A column as text.

        Raises:
            DataError: no such column.
        """
        _check_column(self.origin, name, self._names)
        return _as_text(self._read([name])[name])

    def without(self, names: Sequence[str]) -> ParquetSource:
        """The file without these columns.

        Raises:
            DataError: no such column.
        """
        for name in names:
            _check_column(self.origin, name, self._names)
        return ParquetSource(self._path, (*self._dropped, *names))

    def _file(self) -> pq.ParquetFile:
        return self._guard(lambda: pq.ParquetFile(self._path))

    def _read(self, names: list[str]) -> pa.Table:
        with self._file() as file:
            return self._guard(lambda: file.read(columns=names))

    def _guard(self, read: Any) -> Any:
        try:
            return read()
        except (pa.ArrowException, OSError) as error:
            raise DataError(
                f"{self.origin}: not a readable Parquet file ({_first_line(error)}); write it again"
            ) from None


class CsvSource:
    """A CSV file with a header line, gzipped or not; the key is the row number, counted from 0 below the header.

    Without `kinds` the type of a column is inferred from all of its values. With `kinds`, a model's schema, the
    columns are read as those kinds, in chunks.
    """

    modality: Modality = "table"

    def __init__(self, path: Path, kinds: Mapping[str, ColumnKind], dropped: Sequence[str] = ()) -> None:
        self.origin, self._path, self._kinds, self._dropped = str(path), path, kinds, tuple(dropped)

    def chunks(self, size: int) -> Iterator[Table]:
        """Rows in the order of the file."""
        if size >= EVERYTHING or not self._kinds:
            yield from TableSource(columns := self._read_all(), range(columns.num_rows), self.origin).chunks(size)
            return
        start = 0
        reader = self._guard(lambda: pacsv.open_csv(self._path, convert_options=self._convert()))
        with reader:
            while True:
                try:
                    batch = self._guard(reader.read_next_batch)
                except StopIteration:
                    return
                part = pa.Table.from_batches([batch]).drop_columns(
                    [name for name in batch.schema.names if name in self._dropped]
                )
                keys = range(start, start + batch.num_rows)
                yield from TableSource(part, keys, self.origin).chunks(size)
                start += batch.num_rows

    def labels(self, name: str) -> np.ndarray:
        """A column as text.

        Raises:
            DataError: no such column.
        """
        names = self._names()
        _check_column(self.origin, name, names)
        options = pacsv.ConvertOptions(include_columns=[name], column_types={name: pa.string()})
        return _as_text(self._guard(lambda: pacsv.read_csv(self._path, convert_options=options))[name])

    def without(self, names: Sequence[str]) -> CsvSource:
        """The file without these columns.

        Raises:
            DataError: no such column.
        """
        known = self._names()
        for name in names:
            _check_column(self.origin, name, known)
        return CsvSource(self._path, self._kinds, (*self._dropped, *names))

    def _names(self) -> list[str]:
        with self._guard(lambda: pacsv.open_csv(self._path)) as reader:
            return [name for name in reader.schema.names if name not in self._dropped]

    def _read_all(self) -> pa.Table:
        content = self._path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = self._guard(lambda: gzip.decompress(content))
        # one block: a column whose first million values are whole numbers may still hold a fraction later
        options = pacsv.ReadOptions(block_size=min(max(len(content), 1), 2**31 - 1))
        table = self._guard(
            lambda: pacsv.read_csv(pa.BufferReader(content), options, convert_options=self._convert())
        )
        return table.drop_columns([name for name in table.column_names if name in self._dropped])

    def _convert(self) -> pacsv.ConvertOptions:
        return pacsv.ConvertOptions(
            column_types={
                name: _ARROW_TYPES[kind] for name, kind in self._kinds.items() if name not in self._dropped
            }
        )

    def _guard(self, read: Any) -> Any:
        try:
            return read()
        except (pa.ArrowException, OSError, EOFError) as error:
            raise DataError(f"{self.origin}: {self._explain(_first_line(error))}") from None

    def _explain(self, message: str) -> str:
        wrong = re.search(r"In CSV column #(\d+): (?:Row #(\d+): )?.*invalid value '(.*)'", message)
        if not wrong:
            return f"not a readable CSV file ({message}); mend that line"
        place, row, text = wrong.groups()
        header = pacsv.open_csv(self._path, convert_options=pacsv.ConvertOptions()).schema.names
        where = f" at line {row}" if row else ""
        return (
            f"column {header[int(place)]!r} holds {text!r}{where}, and the model was trained on numbers (or true "
            "and false) there; mend the cell"
        )


def from_frame(x: Any) -> TableSource | None:
    """The rows of a pandas, polars or Arrow frame; None for anything else. A pandas index gives the keys."""
    frame = nw.from_native(x, eager_only=True, pass_through=True)
    if not isinstance(frame, nw.DataFrame):
        return None
    index = nw.maybe_get_index(frame)
    keys: Sequence[Key] = range(len(frame)) if index is None else list(index)
    names = [str(name) for name in frame.columns]
    try:
        arrow = frame.to_arrow().rename_columns(names)
    except (pa.ArrowException, TypeError) as error:
        raise DataError(
            f"the DataFrame: a column mixes types ({_first_line(error)}); give each column one type"
        ) from None
    return TableSource(arrow.select(names) if len(set(names)) == len(names) else arrow, keys, "the DataFrame")


def _check_column(origin: str, name: str, names: Sequence[str]) -> None:
    if name not in names:
        shown = ", ".join(map(repr, names[:10])) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
        raise DataError(f"{origin}: no column {name!r}; it has {shown}")


def _as_text(column: pa.ChunkedArray) -> np.ndarray:
    return np.asarray(column.cast(pa.string()).to_pylist(), dtype=object).astype(str)


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
