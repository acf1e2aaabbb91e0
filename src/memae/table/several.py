"""Several files of rows as one table: those that are named, those below a folder, those that a pattern matches.

Named files come in the order in which they are named; those of a folder or a pattern are sorted by their path. All have
the same columns, in any order.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import pyarrow as pa

from memae.errors import DataError, first_line
from memae.files.patterns import files_meant, fixed_part, is_pattern
from memae.progress import Count
from memae.table.csv import CsvSource
from memae.table.files import FileSource
from memae.table.source import TABLE_SUFFIXES, Block, ColumnSource, shown
from memae.types import Key

__all__ = ["FileRow", "FilesSource", "TableFile", "called", "find_tables", "means_tables"]

NAMED = 3  # files that messages name
SHOWN_NOTES = 5


class FileRow(NamedTuple):
    """The key of a row of several files."""

    file: str
    """Below the folder that was named; of a pattern below its part without wildcards; else the path as it was named."""
    row: int
    """Its number in that file, from 0."""

    def __str__(self) -> str:
        return f"{self.row} of {self.file}"


class TableFile(NamedTuple):
    """One file of several."""

    path: Path
    key: str


def means_tables(path: Path) -> bool:
    """Whether a path is a file of rows by its name, or a folder or a pattern with one."""
    if path.is_dir() or is_pattern(path):
        return next(files_meant(path, TABLE_SUFFIXES), None) is not None
    return path.name.lower().endswith(TABLE_SUFFIXES) and path.is_file()


def find_tables(paths: Sequence[Path]) -> list[TableFile]:
    """The files behind paths in their order, each once; within a folder or a pattern sorted by path."""
    found: dict[Path, TableFile] = {}
    for path in paths:
        if path.is_file():
            found.setdefault(path.absolute(), TableFile(path, path.as_posix()))
            continue
        root = path if path.is_dir() else fixed_part(path)
        for file in sorted(set(files_meant(path, TABLE_SUFFIXES))):
            key = file if len(paths) > 1 else file.relative_to(root)
            found.setdefault(file.absolute(), TableFile(file, key.as_posix()))
    return list(found.values())


class FilesSource(ColumnSource):
    """The rows of several files, one file after the other; a key is a `FileRow`.

    Args:
        files: the sources, all CSV, all Parquet or all Arrow.
        keys: what each file is called in keys.
        origin: what messages call all of them.

    Raises:
        DataError: files of several formats, or with other columns than the first.
    """

    def __init__(self, files: Sequence[CsvSource | FileSource], keys: Sequence[str], origin: str) -> None:
        self.origin, self._files, self._names = origin, files, files[0].names
        self._starts: list[int] = []
        """The number of the first row of each file that was begun: it is known once those before it were read."""
        self._file_keys = keys
        self._keys: Sequence[Key] = _FileRows(keys, self._starts)
        for file in files[1:]:
            _check_alike(files[0], file)
        self._schema = None if isinstance(files[0], CsvSource) else _common(files, origin)

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the user about the files."""
        notes = [note for file in self._files for note in getattr(file, "notes", ())]
        more = len(notes) - SHOWN_NOTES
        return (*notes[:SHOWN_NOTES], *([f"{self.origin}: {more:,} more notes of this kind"] if more > 0 else ()))

    @property
    def size_bytes(self) -> int:
        """Approximate size of the rows in memory, bytes."""
        return sum(file.size_bytes for file in self._files)

    def count(self) -> Count | None:
        """The number of rows, approximate where it is of one of the files."""
        counts = [file.count() for file in self._files]
        known = [count for count in counts if count is not None]
        exact = all(count.exact for count in known)
        return Count(sum(count.samples for count in known), exact) if len(known) == len(counts) else None

    def parts(self) -> list[Self]:
        """The files one by one, and large ones in parts; see `memae.types.Divisible`."""
        parts = list[Self]()
        for file, key in zip(self._files, self._file_keys, strict=True):
            for part in file.parts():
                first = part.key(0)
                assert isinstance(first, int), "the key of a row of one file is its number"
                starts = [-first]  # where row 0 of the file would be
                keys = _FileRows([key], starts)
                parts.append(self._like(_files=[part], _starts=starts, _file_keys=[key], _keys=keys, is_part=True))
        return parts

    def skipping(self) -> Self:
        """The same files; bad rows are named in the chunks and have no values there."""
        return self._like(_files=[file.skipping() for file in self._files])

    def as_text(self, names: Sequence[str]) -> Self:
        """The same files with these columns read as text, so that a code keeps its leading zeros."""
        return self._like(_files=[file.as_text(names) for file in self._files])

    def _blocks(self, size: int) -> Iterator[Block]:
        first = self._files[0]
        if isinstance(first, CsvSource) and first.needs_types:
            csv = [file for file in self._files if isinstance(file, CsvSource)]
            types = first.types_with(csv)
            self._files = [file.typed(types) for file in csv]
        return self._joined(lambda file: file.blocks(self._names, size))

    def _read(self, names: Sequence[str], size: int) -> Iterator[pa.Table]:
        alone = self._joined(lambda file: ((rows, {}) for rows in file.columns(names, size)))
        return (rows for rows, _ in alone)

    def _joined(self, blocks_of: Callable[[ColumnSource], Iterator[Block]]) -> Iterator[Block]:
        start = 0
        for number, file in enumerate(self._files):
            if number == len(self._starts):
                self._starts.append(start)
            for rows, bad in blocks_of(file):
                yield (rows if self._schema is None else self._cast(rows, file.origin)), bad
                start += len(rows)

    def _cast(self, rows: pa.Table, origin: str) -> pa.Table:
        assert self._schema is not None
        wanted = pa.schema([self._schema.field(name) for name in rows.column_names])
        try:
            return rows.cast(wanted)
        except (pa.ArrowException, ValueError) as error:
            raise DataError(
                f"{origin}: its columns are of other types than those of {self.origin} ({error})"
            ) from None


class _FileRows(Sequence[Key]):
    """The keys of rows of several files; of those files that were begun."""

    def __init__(self, files: Sequence[str], starts: Sequence[int]) -> None:
        self._files, self._starts = files, starts

    def __len__(self) -> int:
        return 1 << 62  # as far as a file may reach

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        place = bisect(self._starts, index) - 1
        return FileRow(self._files[place], index - self._starts[place])


def _check_alike(first: ColumnSource, other: ColumnSource) -> None:
    if type(first) is not type(other):
        raise DataError(
            f"{other.origin}: is of another format than {first.origin}, and several files make one table if all are of "
            "one; name those of one format, such as '*.csv'"
        )
    for one, another in ((first, other), (other, first)):
        there = set(one.names)
        if extra := [name for name in another.names if name not in there]:
            raise DataError(
                f"{another.origin}: has a column {shown(extra)} that {one.origin} lacks, and several files make one "
                "table if all have the same columns; mend it, or name the files that belong together"
            )


def _common(files: Sequence[Any], origin: str) -> pa.Schema:
    """The types that suit the columns of all files."""
    try:
        schemas = [file.schema.remove_metadata() for file in files]
        return pa.unify_schemas(schemas, promote_options="permissive")
    except pa.ArrowException as error:
        raise DataError(
            f"{origin}: the files have a column of several types ({first_line(error)}); write them with one"
        ) from None


def called(paths: Sequence[Path], files: int) -> str:
    """What messages call the files behind paths."""
    named = ", ".join(map(str, paths[:NAMED])) + (" and more" if len(paths) > NAMED else "")
    return f"{named} ({files:,} files)"
