"""Rows of named columns: CSV and Parquet files, and pandas, polars or Arrow frames."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import narwhals as nw
import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from memae.data.counts import lines_about
from memae.data.preprocess import ColumnKind
from memae.data.samples import EVERYTHING, Key, Modality, Table
from memae.errors import DataError
from memae.stages import Count

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

    def count(self) -> Count:
        """How many rows."""
        return Count(self._columns.num_rows)

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
            schema = file.schema_arrow
        # a pandas index says which row it is, so a model must not learn it as a column
        index = (schema.pandas_metadata or {}).get("index_columns", [])
        self._names = [name for name in schema.names if name not in self._dropped and name not in index]

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
        with self._guard(self._open) as reader:
            while True:
                try:
                    batch = self._guard(reader.read_next_batch)
                except StopIteration:
                    return
                part = self._kept(pa.Table.from_batches([batch]))
                keys = range(start, start + batch.num_rows)
                yield from TableSource(part, keys, self.origin).chunks(size)
                start += batch.num_rows

    def count(self) -> Count | None:
        """About how many rows, told from the size of the file."""
        lines = lines_about(self._path)
        return lines and Count(max(0, lines.samples - 1), lines.exact)  # the header is none

    def labels(self, name: str) -> np.ndarray:
        """A column as text.

        Raises:
            DataError: no such column.
        """
        _check_column(self.origin, name, self._names())
        options = pacsv.ConvertOptions(include_columns=[name], column_types={name: pa.string()})
        return _as_text(self._guard(lambda: pacsv.read_csv(self._stream(), convert_options=options))[name])

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
        return [name for name in self._header() if name not in self._dropped]

    def _header(self) -> list[str]:
        skip = pacsv.ParseOptions(invalid_row_handler=lambda row: "skip")
        try:
            with pacsv.open_csv(self._stream(), parse_options=skip) as reader:
                return list(reader.schema.names)
        except UnicodeDecodeError:
            raise DataError(f"{self.origin}: the header is not UTF-8; save the file as UTF-8") from None
        except (pa.ArrowException, OSError) as error:
            raise DataError(
                f"{self.origin}: no header line can be read ({_first_line(error)}); write it again"
            ) from None

    def _read_all(self) -> pa.Table:
        content = self._guard(lambda: self._stream().read())
        # one block: a column whose first million values are whole numbers may still hold a fraction later
        options = pacsv.ReadOptions(block_size=min(max(len(content), 1), 2**31 - 1))
        table = self._guard(
            lambda: self._kept(pacsv.read_csv(pa.BufferReader(content), options, convert_options=self._convert()))
        )
        for field in table.schema:
            if pa.types.is_binary(field.type) and not self._kinds:
                raise DataError(
                    f"{self.origin}: column {field.name!r} holds text that is not UTF-8; save the file as UTF-8"
                )
        return table

    def _kept(self, table: pa.Table) -> pa.Table:
        return table.select([i for i, name in enumerate(table.column_names) if name not in self._dropped])

    def _convert(self) -> pacsv.ConvertOptions:
        if not self._kinds:
            return pacsv.ConvertOptions()
        # a column that the model does not know is left as bytes: guessed from its first rows, a later one may fail
        unknown = {name: pa.binary() for name in self._header()}
        return pacsv.ConvertOptions(
            column_types=unknown | {name: _ARROW_TYPES[kind] for name, kind in self._kinds.items()}
        )

    def _open(self, *, threads: bool = True) -> pacsv.CSVStreamingReader:
        # a block may end inside of a quoted cell
        quoted = pacsv.ParseOptions(newlines_in_values=True)
        options = pacsv.ReadOptions(use_threads=threads)
        return pacsv.open_csv(self._stream(), options, quoted, self._convert())

    def _stream(self) -> pa.NativeFile:
        with self._path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        return pa.input_stream(str(self._path), compression="gzip" if packed else None)

    def _guard(self, read: Any) -> Any:
        try:
            return read()
        except pa.ArrowInvalid as error:
            raise DataError(f"{self.origin}: {self._explain(_first_line(error))}") from None
        except UnicodeDecodeError:
            raise DataError(f"{self.origin}: the header is not UTF-8; save the file as UTF-8") from None
        except OSError as error:
            raise DataError(f"{self.origin}: cannot be read ({_first_line(error)}); write it again") from None

    def _explain(self, message: str) -> str:
        if "Empty CSV" in message:
            return "holds no samples"
        message = self._with_row(message)
        wrong = re.search(r"In CSV column #(\d+): (?:Row #(\d+): )?.*invalid (?:value '(.*)'|UTF8)", message)
        if not wrong:
            return f"not a readable CSV file ({message}); mend that line"
        place, row, text = wrong.groups()
        name, where = self._header()[int(place)], f" at line {row}" if row else ""
        if text is None:
            return f"column {name!r} holds text{where} that is not UTF-8; save the file as UTF-8"
        wanted = "true and false" if self._kinds.get(name) == "boolean" else "numbers"
        return f"column {name!r} holds {text!r}{where}, and the model was trained on {wanted} there; mend the cell"

    def _with_row(self, message: str) -> str:
        """The same message with the row, which Arrow knows only when it reads in one thread."""
        try:
            with self._open(threads=False) as reader:
                for _ in reader:
                    pass
        except pa.ArrowInvalid as error:
            return _first_line(error)
        return message


def from_frame(x: Any) -> TableSource | None:
    """The rows of a pandas, polars or Arrow frame; None for anything else. A pandas index gives the keys."""
    try:
        frame = nw.from_native(x, eager_only=True, pass_through=True)
    except nw.exceptions.DuplicateError as error:
        raise DataError(f"the DataFrame: column names must differ ({' '.join(str(error).split())})") from None
    if not isinstance(frame, nw.DataFrame):
        return None
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


def _check_column(origin: str, name: str, names: Sequence[str]) -> None:
    if name not in names:
        shown = ", ".join(map(repr, names[:10])) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
        raise DataError(f"{origin}: no column {name!r}; it has {shown}")


def _as_text(column: pa.ChunkedArray) -> np.ndarray:
    return np.asarray(column.cast(pa.string()).to_pylist(), dtype=object).astype(str)


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
