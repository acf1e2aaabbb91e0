"""Reads CSV files with any usual delimiter, encoding and decimal sign."""

from __future__ import annotations

import csv
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from memae.errors import DataError, first_line, shortened
from memae.files.atomic import temporary_file
from memae.progress import Count
from memae.table.cells import NO_VALUE_WORDS, NUMBER, SPACES, WordsAmongNumbers
from memae.table.dialect import Dialect
from memae.table.schema import ColumnKind
from memae.table.source import Block, ColumnSource
from memae.types import EVERYTHING

__all__ = ["CsvSource"]

COPIED_CHARACTERS = 1 << 20  # at a time into another encoding
LOOKED_AT = 1 << 20  # bytes of a file whose lines are counted
PACKED_SHARE = 8  # of the size of a gzipped table, about
HEAD_CELLS = 16  # of a block that are tried before all of them
TRUE = pa.array(["true", "True", "TRUE", "1"])
BOOLEANS = pa.array([*TRUE.to_pylist(), "false", "False", "FALSE", "0"])
TIME = r"^\d\d:\d\d(:\d\d)?$"
NO_VALUE = pa.array(NO_VALUE_WORDS)
_ARROW_TYPES: dict[ColumnKind, pa.DataType] = {
    "number": pa.float64(),
    "category": pa.string(),
    "boolean": pa.bool_(),
}
_CONVERTED = (pa.int64(), pa.float64(), pa.bool_())  # types that a cell may not be of
# A column is of the first of these types that all its values can be read as; else it is text.
_INFERRED = (
    pa.int64(),
    pa.bool_(),
    pa.date32(),
    pa.time32("s"),
    *(pa.timestamp(unit, zone) for unit in ("s", "ns") for zone in (None, "UTC")),
    pa.float64(),
)

_Types = Mapping[str, pa.DataType]


class CsvSource(ColumnSource):
    """A CSV file, gzipped or not; the key is the row number, counted from 0 below the header, if there is one.

    How it is written is found by `memae.table.dialect`. It is read in blocks, so memory does not grow with it. Without
    `kinds` a pass over all values finds the types of the columns first; with `kinds`, a model's schema, the columns are
    read as those kinds.

    Args:
        path: the file.
        kinds: of columns, as a model knows them.
        columns: their names where the file has no header.
        origin: what messages call the file; None is its path.

    Raises:
        DataError: another kind of file, a damaged one, or another number of columns than names.
    """

    def __init__(
        self,
        path: Path,
        kinds: Mapping[str, ColumnKind],
        columns: Sequence[str] = (),
        origin: str | None = None,
    ) -> None:
        self.origin, self._path, self._kinds = origin or str(path), path, kinds
        self._called = bool(columns)
        self._spooled: object = None
        self._skip, self._texts = False, frozenset[str]()
        self._inferred: _Types | None = None
        with self._readable({}):
            self._dialect = Dialect.of(path, kinds, columns, self.origin)
        with self._open({}, lambda _: "skip") as reader:
            self._names = reader.schema.names

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the user about the file, such as an unusual encoding."""
        encoding, names = self._dialect.encoding, self._dialect.names
        notes = [] if encoding == "utf-8" else [f"{self.origin}: is not UTF-8 and was read as {encoding}"]
        if names and not self._called:
            called = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
            notes.append(
                f"{self.origin}: its first line looks like data and not like names, so it counts as a row, and the "
                f"columns are called {called}; name them with `columns` if you want others"
            )
        return tuple(notes)

    @property
    def _header_lines(self) -> int:
        return 0 if self._dialect.names else 1

    @property
    def size_bytes(self) -> int:
        """Approximate size of the rows in memory, bytes."""
        return self._path.stat().st_size * (PACKED_SHARE if self._dialect.packed else 1)

    def count(self) -> Count | None:
        """The approximate number of rows, from the size of the file."""
        lines = lines_about(self._path)
        return lines and Count(max(0, lines.samples - self._header_lines), lines.exact)

    def keep(self, spooled: object) -> None:
        """Keeps what holds the file, for as long as this source or one made from it is there."""
        self._spooled = spooled

    def parts(self) -> list[CsvSource]:
        """The file; see `memae.types.Divisible`.

        Raises:
            DataError: it was read from a pipe.
        """
        if self._spooled is not None:
            raise DataError(f"{self.origin}: a pipe cannot be read by several machines; write it to a file")
        return [self._like(_path=self._path.absolute(), is_part=True)]

    def as_text(self, names: Sequence[str]) -> CsvSource:
        """The file with these columns read as text, so that a code keeps its leading zeros."""
        return self._like(_texts=self._texts.union(names), _inferred=None)

    def skipping(self) -> CsvSource:
        """The same file; bad rows are named in the chunks and have no values there."""
        return self._like(_skip=True, _inferred=None)

    def _blocks(self, size: int) -> Iterator[Block]:
        return self._typed(self._types())

    def _read(self, names: Sequence[str], size: int) -> Iterator[pa.Table]:
        return (block for block, _ in self._parsed(dict.fromkeys(names, pa.string())))

    def _types(self) -> _Types:
        if self._kinds:
            # a column that the model does not know is text, which can hold anything
            return {name: _ARROW_TYPES[self._kinds.get(name, "category")] for name in self._names}
        if self._inferred is None:
            self._inferred = self.types_with([self])
        return {name: self._inferred[name] for name in self._names}

    def types_with(self, files: Sequence[CsvSource]) -> _Types:
        """The types of the columns that suit the cells of all these files, of which this is one."""
        columns = {name: _InferredColumn(self._skip) for name in self._names}
        for file in files:
            for block in file._read(self._names, EVERYTHING):
                for name in columns.keys() - self._texts:
                    columns[name].add(block[name], file._dialect.decimal)
        return {name: pa.string() if name in self._texts else column.type for name, column in columns.items()}

    def typed(self, types: _Types) -> CsvSource:
        """The same file, whose columns are read as these types."""
        return self._like(_inferred=types)

    @property
    def needs_types(self) -> bool:
        """Whether the types of the columns are still to be found."""
        return not self._kinds and self._inferred is None

    def _typed(self, types: _Types) -> Iterator[Block]:
        """The rows in these types."""
        if not self._skip:
            yield from self._parsed(types)
            return
        # as text, so that a bad cell is found and is not an error
        converted = {name: kind for name, kind in types.items() if kind in _CONVERTED}
        for block, rows in self._parsed({**types, **dict.fromkeys(converted, pa.string())}):
            columns, bad = dict(zip(block.column_names, block.columns, strict=True)), dict(rows)
            for name, kind in converted.items():
                text = columns[name]
                columns[name], wrong = _converted(text, kind, self._dialect.decimal)
                for row in wrong:
                    bad.setdefault(row, _why(name, text[row].as_py(), kind))
            yield pa.table(columns), bad

    def _parsed(self, types: _Types) -> Iterator[Block]:
        """The rows as Arrow reads these types; if bad rows may be skipped, those of a wrong length are empty."""
        gaps = _Gaps(self._header_lines)
        with self._open(types, gaps.leave_out if self._skip else None) as reader:
            for batch in reader:
                yield gaps.filled(pa.Table.from_batches([batch]))
            yield gaps.filled(pa.Table.from_batches([], reader.schema))

    @contextmanager
    def _open(self, types: _Types, ragged: Callable[[Any], str] | None) -> Iterator[pacsv.CSVStreamingReader]:
        """Arrow's reader of columns of these types, which asks `ragged` about rows of a wrong length."""
        form = self._dialect
        convert = pacsv.ConvertOptions(
            column_types=dict(types),
            include_columns=list(types),
            null_values=list(NO_VALUE_WORDS),
            decimal_point=form.decimal,
        )
        parse = pacsv.ParseOptions(delimiter=form.delimiter, newlines_in_values=True, invalid_row_handler=ragged)
        # the row of a gap is known only where one thread reads
        read = pacsv.ReadOptions(
            block_size=form.block_bytes, use_threads=ragged is None, column_names=form.names and list(form.names)
        )
        with self._readable(types), pacsv.open_csv(self._utf8(), read, parse, convert) as reader:
            yield reader

    def _utf8(self) -> Any:
        """The file as Arrow reads it.

        Another encoding is changed before and not while Arrow reads: Arrow would call Python in threads of its own,
        which end the process if they outlive the interpreter.
        """
        form = self._dialect
        if form.encoding == "utf-8":
            return pa.input_stream(str(self._path), compression="gzip" if form.packed else None)
        with temporary_file("the table as UTF-8", named=True) as file:
            with form.text(self._path) as text:
                while part := text.read(COPIED_CHARACTERS):
                    file.write(part.encode())
            file.flush()
            return pa.OSFile(file.name)  # which stays readable without its name

    @contextmanager
    def _readable(self, types: _Types) -> Iterator[None]:
        """Turns Arrow's errors into a `DataError` that names the file and the line."""
        try:
            yield
        except pa.ArrowInvalid as error:
            raise DataError(f"{self.origin}: {self._explained(first_line(error), types)}") from None
        except UnicodeError:
            encoding = self._dialect.encoding
            raise DataError(
                f"{self.origin}: begins as {encoding} and is cut or damaged; save the file as UTF-8"
            ) from None
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{self.origin}: cannot be read ({first_line(error)}); write it again") from None

    def _explained(self, message: str, types: _Types) -> str:
        if "Empty CSV" in message:
            return "holds no samples"
        if "straddling" in message or "out of sync" in message:
            longest = f"{self._dialect.block_bytes:,} bytes"
            return f"a row is longer than {longest}; is a quotation mark missing? Mend it"
        start = 0
        for block, bad in self.skipping()._typed(types) if types and not self._skip else ():
            if bad:
                return self._mistake(start + min(bad), bad[min(bad)])
            start += len(block)
        return f"not a readable CSV file ({message}); mend that line"

    def _mistake(self, row: int, why: str) -> str:
        """A message that says what is wrong with a row and in which line it is, counted from 1."""
        where, shown = f"row {row}", ""
        with suppress(csv.Error), self._dialect.text(self._path) as text:
            reader, line = csv.reader(text, delimiter=self._dialect.delimiter), 1
            for cells in reader:
                if cells and (row := row - 1) < -self._header_lines:
                    where, shown = f"line {line}", f" ({shortened(self._dialect.delimiter.join(cells))})"
                    break
                line = reader.line_num + 1
        return f"{where} {why}{shown}; mend that line, or leave such rows out with `skip_bad=True`"


class _InferredColumn:
    """The type of a column, found block by block.

    Args:
        skip: a few words among numbers are mistakes, and the column is one of numbers.
    """

    def __init__(self, skip: bool) -> None:
        self._skip = skip
        self._possible, self._empty, self._words = _INFERRED, True, WordsAmongNumbers()

    def add(self, text: pa.ChunkedArray, decimal: str) -> None:
        """Adds the cells of a block, whose decimals have this sign."""
        if not (self._possible or self._skip):
            return
        text = text.drop_null()
        possible = self._fitting(text, decimal)
        if not possible:  # nearly always the cells are values as they stand
            text = text.filter(pc.invert(pc.is_in(text, NO_VALUE)))
            possible = self._fitting(text, decimal)
        if self._skip and (self._empty or not possible):  # the first numbers are enough to compare words with
            self._words.add(_number(text, decimal))
        self._possible, self._empty = possible, self._empty and not len(text)

    @property
    def type(self) -> pa.DataType:
        """The first type that the cells of all blocks can be read as."""
        if self._empty:
            return pa.null()
        number = self._skip and self._words.first is not None
        return self._possible[0] if self._possible else pa.float64() if number else pa.string()

    def _fitting(self, text: pa.ChunkedArray, decimal: str) -> tuple[pa.DataType, ...]:
        fitting = tuple(
            kind for kind in self._possible if kind != pa.float64() and self._fits(text, kind, decimal)
        )
        if pa.int64() in fitting or (pa.float64() in self._possible and self._fits(text, pa.float64(), decimal)):
            return (*fitting, pa.float64())
        return fitting

    def _fits(self, text: pa.ChunkedArray, kind: pa.DataType, decimal: str) -> bool:
        if pa.types.is_boolean(kind):
            return bool(pc.all(pc.is_in(text, BOOLEANS), min_count=0).as_py())
        if pa.types.is_time(kind):
            return bool(pc.all(pc.match_substring_regex(text, TIME), min_count=0).as_py())
        try:
            # a few first: Arrow makes a message for each cell that does not fit, which takes long
            for cells in (text[:HEAD_CELLS], text):
                _number(cells, decimal).cast(kind)
        except pa.ArrowInvalid:
            return False
        return True


class _Gaps:
    """Puts empty rows where Arrow left out rows of a wrong length, so that all rows keep their numbers.

    Args:
        header_lines: 1 where the file has a header, else 0.
    """

    def __init__(self, header_lines: int) -> None:
        self._first_row = header_lines + 1  # as Arrow counts
        self._left_out = deque[tuple[int, str]]()
        """(row of the file, why), not yet put back."""
        self._start = 0

    def leave_out(self, row: Any) -> str:
        """Records a row of a wrong length and tells Arrow to skip it."""
        cells = row.actual_columns
        why = f"has {cells} cell{'s' * (cells != 1)} and the header {row.expected_columns}"
        self._left_out.append((row.number - self._first_row, why))
        return "skip"

    def filled(self, table: pa.Table) -> Block:
        """The rows with an empty row for each that was left out, and the reasons."""
        start, good = self._start, len(table)
        bad: dict[int, str] = {}
        while self._left_out and self._left_out[0][0] - start - len(bad) <= good:
            row, why = self._left_out.popleft()
            bad[row - start] = why
        self._start += good + len(bad)
        if bad:
            empty = np.zeros(good + len(bad), dtype=bool)
            empty[list(bad)] = True
            table = table.take(pa.array(np.cumsum(~empty) - 1, mask=empty))
        return table, bad


def _converted(text: pa.ChunkedArray, kind: pa.DataType, decimal: str) -> tuple[pa.ChunkedArray, list[int]]:
    """Cells as numbers or booleans, and the rows of bad cells, which become null."""
    text = pc.if_else(pc.is_in(text, NO_VALUE), None, text)
    if pa.types.is_boolean(kind):
        values, good = pc.is_in(text, TRUE), pc.is_in(text, BOOLEANS)
    else:
        text = _number(text, decimal)
        try:
            return text.cast(kind), []
        except pa.ArrowInvalid:
            good = pc.match_substring_regex(text, rf"{NUMBER}|^[+-]?(?i:inf(inity)?)$")
            values = pc.if_else(good, text, None).cast(kind)
    wrong = pc.and_(pc.is_valid(text), pc.invert(good)).to_numpy()
    return pc.if_else(good, values, None), np.flatnonzero(wrong).tolist()


def _number(text: pa.ChunkedArray, decimal: str) -> pa.ChunkedArray:
    """Texts of numbers in the form that a cast accepts: no spaces around them, and a decimal point."""
    if decimal == ",":
        if pc.any(pc.match_substring(text, ".")).as_py():  # a point makes no number
            text = pc.replace_substring(text, ".", "_")
        text = pc.replace_substring(text, ",", ".")
    return pc.ascii_trim(text, SPACES)


def _why(name: str, cell: str, kind: pa.DataType) -> str:
    return (
        f"holds {shortened(cell)!r} in the {'boolean' if pa.types.is_boolean(kind) else 'number'} column {name!r}"
    )


def lines_about(path: Path) -> Count | None:
    """The lines of a text file, gzipped or not, told from its first megabyte and its size; None for one without."""
    size = path.stat().st_size
    with path.open("rb") as file:
        read = file.read(LOOKED_AT)
    text, used = read, len(read)
    if read[:2] == b"\x1f\x8b":
        unpacking = zlib.decompressobj(wbits=31)
        try:
            text = unpacking.decompress(read, 8 * LOOKED_AT)
        except zlib.error:
            return None
        used -= len(unpacking.unconsumed_tail)
    lines = text.count(b"\n")
    return Count(round(lines * size / used), exact=False) if lines else None
