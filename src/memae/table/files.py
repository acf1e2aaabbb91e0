"""Parquet and Arrow files as sources of rows."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Self

import pyarrow as pa
import pyarrow.parquet as pq

from memae.errors import DataError, first_line
from memae.progress import Count
from memae.table.source import READ_BYTES, ColumnSource

__all__ = ["ArrowSource", "FileSource", "ParquetSource"]

PART_ROWS = 100_000  # that a part of a file holds at least, in whole row groups
WHOLE_BYTES = 64 << 20  # files up to this size may have the columns of a row group in memory as a whole


class FileSource(ColumnSource):
    """A file whose columns have types.

    Args:
        path: of the file.

    Raises:
        DataError: not a readable file of the format.
    """

    _format: ClassVar[str]
    _cure: ClassVar[str] = "write it again"

    def __init__(self, path: Path) -> None:
        self.origin, self._path = str(path), path
        with self._readable():
            self.schema = schema = self._schema()
            _check_time_zones(schema)
            # a pandas index says which row it is, so a model must not learn it as a column
            index = _index_columns(schema)
            self._names = [name for name in schema.names if name not in index]

    def parts(self) -> list[Self]:
        """The file; see `memae.types.Divisible`."""
        return [self._like(_path=self._path.absolute(), is_part=True)]

    def _read(self, names: Sequence[str], size: int) -> Iterator[pa.Table]:
        with self._readable():
            for batch in self._batches(list(names), size):
                batch.validate(full=True)  # Arrow trusts a file: a wrong offset would be read out of bounds
                yield pa.Table.from_batches([batch]).select(names)

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, OSError, ValueError, LookupError, RecursionError) as error:
            reason = f"not a readable {self._format} file ({first_line(error)})"
            raise DataError(f"{self.origin}: {reason}; {self._cure}") from None

    @abstractmethod
    def _schema(self) -> pa.Schema: ...

    @abstractmethod
    def _batches(self, names: list[str], size: int) -> Iterable[pa.RecordBatch]: ...


class ParquetSource(FileSource):
    """A Parquet file, read by row groups.

    Raises:
        DataError: not a readable Parquet file.
    """

    _format = "Parquet"
    _groups: Sequence[int] | None = None
    """The row groups of a part; None: all."""

    def count(self) -> Count:
        """How many rows."""
        with self._readable(), self._file() as file:
            groups = range(file.num_row_groups) if self._groups is None else self._groups
            return Count(sum(file.metadata.row_group(group).num_rows for group in groups))

    def parts(self) -> list[Self]:
        """The file in parts of whole row groups; see `memae.types.Divisible`."""
        (whole,) = super().parts()
        parts, start, groups, rows = list[Self](), 0, list[int](), 0
        with self._readable(), self._file() as file:
            sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        for group, size in enumerate(sizes):
            groups, rows = [*groups, group], rows + size
            if rows >= PART_ROWS or (rows and group == len(sizes) - 1):
                parts.append(whole._like(_groups=groups, _keys=range(start, start + rows)))
                start, groups, rows = start + rows, [], 0
        return parts

    def _schema(self) -> pa.Schema:
        with self._file() as file:
            return file.schema_arrow

    def _batches(self, names: list[str], size: int) -> Iterable[pa.RecordBatch]:
        with self._file() as file:
            yield from file.iter_batches(batch_size=size, row_groups=self._groups, columns=names)

    def _file(self) -> pq.ParquetFile:
        # pre-buffered, Arrow would keep every row group that it has passed, and memory would grow with the file;
        # with a buffer it makes as much room for a page as the page says, so a small broken file could take 2 GiB
        buffer_size = READ_BYTES if self._path.stat().st_size > WHOLE_BYTES else 0
        return pq.ParquetFile(self._path, pre_buffer=False, buffer_size=buffer_size)


class ArrowSource(FileSource):
    """An Arrow IPC file, which Feather files are, read by record batches.

    Raises:
        DataError: not a readable Arrow file.
    """

    _format = "Arrow"
    _cure = "write it again, as an IPC file or Feather version 2"

    @property
    def size_bytes(self) -> int:
        """Approximate size of the rows in memory, bytes."""
        return self._path.stat().st_size

    def count(self) -> Count:
        """How many rows."""
        with self._readable():
            return Count(sum(batch.num_rows for batch in self._batches([], 0)))

    def _schema(self) -> pa.Schema:
        return self._file().schema

    def _batches(self, names: list[str], size: int) -> Iterable[pa.RecordBatch]:
        file = self._file()
        return map(file.get_batch, range(file.num_record_batches))

    def _file(self) -> pa.ipc.RecordBatchFileReader:
        return pa.ipc.open_file(pa.memory_map(str(self._path)))


def _index_columns(schema: pa.Schema) -> set[str]:
    """The columns that pandas wrote as the index of a frame; a ValueError for what pandas does not write."""
    metadata = schema.pandas_metadata
    if metadata is None:
        return set()
    columns = metadata.get("index_columns", []) if isinstance(metadata, dict) else None
    if not isinstance(columns, list) or not all(isinstance(column, str | dict) for column in columns):
        raise ValueError("its metadata of pandas is broken")
    return {column for column in columns if isinstance(column, str)}  # a range is a dict, and no column


def _check_time_zones(schema: pa.Schema) -> None:
    """Writes a time of each zone as text: Arrow looks a zone up then, and an unknown one would end the reading late.

    Raises:
        pa.ArrowInvalid: names a zone that is not known.
    """
    for kind in schema.types:
        if pa.types.is_timestamp(kind) and kind.tz is not None:
            pa.array([0], kind).cast(pa.string())
