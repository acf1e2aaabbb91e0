"""CSV files as people have them: whatever the delimiter, the encoding and the sign of the decimals."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from memae.counts import lines_about
from memae.errors import DataError, first_line
from memae.stages import Count
from memae.table.fit_schema import MAX_CATEGORIES, NO_VALUE_WORDS, NUMBER, words_among_numbers
from memae.table.schema import ColumnKind
from memae.table.source import as_text, check_column
from memae.types import EVERYTHING, Table

__all__ = ["CsvSource"]

T = TypeVar("T")

DELIMITERS = ",;\t|"
SAMPLE_ROWS = 1000  # that the delimiter and the decimals are found in
BLOCK_BYTES = 1 << 20  # read at a time while the encoding is found
NOT_WINDOWS = re.compile(rb"[\x81\x8d\x8f\x90\x9d]")  # what Windows-1252 leaves open
TRUE, FALSE = ("true", "True", "TRUE", "1"), ("false", "False", "FALSE", "0")
_ARROW_TYPES: dict[ColumnKind, pa.DataType] = {
    "number": pa.float64(),
    "category": pa.string(),
    "boolean": pa.bool_(),
}
# what Arrow tries when it infers a type, in about its order
_TRIED = {
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "date": pa.timestamp("ns"),
}
PACKED_SHARE = 8  # of the size of a gzipped table, about
_OTHER_FILES = {
    b"PK\x03\x04": "a zip or an Excel file; unpack it, or save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an old Excel file; save the sheet as CSV",
    b"PAR1": "a Parquet file; name it .parquet",
    b"ARROW1": "an Arrow file; name it .arrow",
    b"%PDF": "a PDF file; save the table as CSV",
    b"\x89PNG": "a picture; save a table as CSV",
    b"SQLite": "a database; save the table as CSV",
}


@dataclass(frozen=True)
class _Form:
    """How a file is written."""

    packed: bool
    encoding: str
    delimiter: str
    decimal: str


class CsvSource:
    """A CSV file with a header line, gzipped or not; the key is the row number, counted from 0 below the header.

    The delimiter is a comma, a semicolon, a tab or a bar, whichever cuts the first rows into as many cells as the
    header. The encoding is that of the byte-order mark, else UTF-8 if the whole file is, else Windows-1252. Decimals
    are written with a point; where the delimiter is no comma and the first numbers say so, with a comma.

    Without `kinds` the type of a column is inferred from all of its values. With `kinds`, a model's schema, the
    columns are read as those kinds, in chunks.

    Args:
        path: the file.
        kinds: of columns, as a model knows them.
        dropped: columns to leave out.
        texts: columns to read as text whatever they hold.
        skip: rows that cannot be read are named in the chunks, and stand there without values, instead of being an
            error.
    """

    modality: str = "table"

    def __init__(
        self,
        path: Path,
        kinds: Mapping[str, ColumnKind],
        dropped: Sequence[str] = (),
        *,
        texts: Sequence[str] = (),
        skip: bool = False,
    ) -> None:
        self.origin, self._path, self._kinds = str(path), path, kinds
        self._dropped, self._texts, self._skip = tuple(dropped), tuple(texts), skip

    @property
    def notes(self) -> tuple[str, ...]:
        """What was found out about the file that its owner should know."""
        encoding = self._form.encoding
        return () if encoding == "utf-8" else (f"{self.origin}: is not UTF-8 and was read as {encoding}",)

    def chunks(self, size: int) -> Iterator[Table]:
        """Rows in the order of the file."""
        start = 0
        for columns, bad in self._everything() if size >= EVERYTHING or not self._kinds else self._typed_blocks():
            part = self._kept(columns)
            for first in range(0, len(part), size):
                piece = part.slice(first, size)
                here = {row - first: why for row, why in bad.items() if first <= row < first + len(piece)}
                yield Table(piece, range(start + first, start + first + len(piece)), self.origin, here)
            start += len(part)

    def count(self) -> Count | None:
        """About how many rows, told from the size of the file."""
        lines = lines_about(self._path)
        return lines and Count(max(0, lines.samples - 1), lines.exact)  # the header is none

    def labels(self, name: str) -> np.ndarray:
        """A column as text, "" where there is none.

        Raises:
            DataError: no such column.
        """
        check_column(self.origin, name, self._names)
        options = pacsv.ConvertOptions(include_columns=[name], column_types={name: pa.string()})
        parts = [block[name] for block, _ in self._blocks(options)]
        return np.concatenate([as_text(part) for part in parts]) if parts else np.empty(0, dtype=str)

    def without(self, names: Sequence[str]) -> CsvSource:
        """The file without these columns.

        Raises:
            DataError: no such column.
        """
        for name in names:
            check_column(self.origin, name, self._names)
        return self._like(dropped=(*self._dropped, *names))

    @property
    def size_bytes(self) -> int:
        """Of the rows in memory, about."""
        return self._path.stat().st_size * (PACKED_SHARE if self._form.packed else 1)

    def typed(self) -> CsvSource:
        """The same file with the kinds of its columns found, in one pass over it, so that it is read in chunks.

        Raises:
            DataError: a column of dates, or one without any value.
        """
        if self._kinds:
            return self
        names = [name for name in self._names if name not in self._texts]
        kinds: dict[str, set[str]] = {name: set() for name in names}
        different: dict[str, set[str]] = {name: set() for name in names}
        for block, _ in self._blocks(self._convert(column_types={name: pa.string() for name in self._header})):
            for name in names:
                text = self._present(block[name])
                kinds[name].add(self._kind(text))
                if "category" in kinds[name] and len(different[name]) <= MAX_CATEGORIES:
                    different[name].update(pc.unique(text).to_pylist())
        found: dict[str, ColumnKind] = dict.fromkeys(self._texts, "category")
        for name in names:
            slips = self._skip and words_among_numbers(different[name]) is not None
            found[name] = "number" if slips else self._joined(name, kinds[name] - {"empty"})
        other = self._like()
        other._kinds = found
        return other

    def _present(self, text: pa.ChunkedArray) -> pa.ChunkedArray:
        """The cells that hold a value, with points for decimals."""
        text = pc.utf8_trim_whitespace(text.drop_null())
        text = text.filter(pc.invert(pc.is_in(text, pa.array(NO_VALUE_WORDS))))
        return pc.replace_substring(text, ",", ".") if self._form.decimal == "," else text

    def _kind(self, text: pa.ChunkedArray) -> str:
        """What a column of one block holds: "empty", "bits" (0 and 1), "date", or a kind of column."""
        if not len(text):
            return "empty"
        for kind, arrow_type in _TRIED.items():
            try:
                text.cast(arrow_type)
            except pa.ArrowInvalid:
                continue
            return "bits" if kind == "number" and pc.all(pc.is_in(text, pa.array(["0", "1"]))).as_py() else kind
        return "category"

    def _joined(self, name: str, kinds: set[str]) -> ColumnKind:
        """The kind of a column whose blocks are of these."""
        if not kinds:
            raise DataError(
                f"{self.origin}: column {name!r} is empty: there is nothing to learn; leave it out with "
                f"`drop={[name]!r}`"
            )
        if kinds <= {"bits", "number"}:
            return "number"
        if kinds <= {"bits", "boolean"}:
            return "boolean"
        if kinds == {"date"}:
            raise DataError(
                f"{self.origin}: column {name!r} holds dates, which have no meaning to the model; turn it into "
                f"numbers, such as the hour or the weekday, or leave it out with `drop={[name]!r}`"
            )
        return "category"

    def as_text(self, names: Sequence[str]) -> CsvSource:
        """The file with these columns read as text, so that a code keeps its leading zeros."""
        return self._like(texts=(*self._texts, *names))

    def skipping(self) -> CsvSource:
        """The same file; rows that cannot be read are named in the chunks instead of being an error."""
        return self._like(skip=True)

    def _like(self, **changes: Any) -> CsvSource:
        settings: dict[str, Any] = {"dropped": self._dropped, "texts": self._texts, "skip": self._skip} | changes
        other = CsvSource(self._path, self._kinds, **settings)
        for found in ("_form", "_header"):  # the same file is not looked through again
            if found in self.__dict__:
                other.__dict__[found] = self.__dict__[found]
        return other

    @property
    def _names(self) -> list[str]:
        return [name for name in self._header if name not in self._dropped]

    @cached_property
    def _form(self) -> _Form:
        with self._path.open("rb") as file:
            start = file.read(8)
        for magic, what in _OTHER_FILES.items():
            if start.startswith(magic):
                raise DataError(f"{self.origin}: is no CSV file but {what}")
        packed = start.startswith(b"\x1f\x8b")
        with self._bytes(packed) as file:
            sample, encoding = self._guard(lambda: _sample_and_encoding(file, self.origin))
        text = sample.decode(encoding, errors="replace").removeprefix("\ufeff")
        if len(sample) == BLOCK_BYTES:
            text = text[: text.rfind("\n") + 1]  # the last line is cut short
        delimiter = _delimiter(text)
        return _Form(packed, encoding, delimiter, _decimal(text, delimiter))

    @cached_property
    def _header(self) -> list[str]:
        skip = pacsv.ParseOptions(delimiter=self._form.delimiter, invalid_row_handler=lambda row: "skip")
        options = pacsv.ReadOptions(encoding=self._form.encoding)
        try:
            with pacsv.open_csv(self._stream(), options, skip) as reader:
                return list(reader.schema.names)
        except (pa.ArrowException, OSError) as error:
            raise DataError(
                f"{self.origin}: no header line can be read ({first_line(error)}); write it again"
            ) from None

    def _everything(self) -> Iterator[tuple[pa.Table, dict[int, str]]]:
        """The whole file as one block, types inferred from all of it."""
        if self._kinds:
            blocks = list(self._typed_blocks())
            if blocks:
                starts = np.cumsum([0, *(len(block) for block, _ in blocks)]).tolist()
                bad = {
                    start + row: why
                    for start, (_, some) in zip(starts[:-1], blocks, strict=True)
                    for row, why in some.items()
                }
                yield pa.concat_tables([block for block, _ in blocks]), bad
            return
        # one block: a column whose first million values are whole numbers may still hold a fraction later
        for table, bad in self._blocks(self._inferring(), whole=True):
            yield self._numbers_with_slips(table, bad) if self._skip else (table, bad)

    def _typed_blocks(self) -> Iterator[tuple[pa.Table, dict[int, str]]]:
        """Block by block in the types of the model's schema."""
        # a column that the model does not know is left as text: guessed from its first rows, a later one may fail
        types = {name: pa.string() for name in self._header}
        if not self._skip:
            types |= {name: _ARROW_TYPES[kind] for name, kind in self._kinds.items()}
            yield from self._blocks(self._convert(column_types=types))
            return
        for block, bad in self._blocks(self._convert(column_types=types)):
            table = block
            for name, kind in self._kinds.items():
                if kind != "category" and table.column_names.count(name) == 1:
                    table = self._converted(table, name, kind, bad)
            yield table, bad

    def _blocks(
        self, convert: pacsv.ConvertOptions, *, whole: bool = False
    ) -> Iterator[tuple[pa.Table, dict[int, str]]]:
        """Rows in the order of the file; with `skip` those of a wrong length stand there empty, and why."""
        form, gaps = self._form, _Gaps()
        handler = gaps.leave_out if self._skip else None
        parse = pacsv.ParseOptions(
            delimiter=form.delimiter, invalid_row_handler=handler, newlines_in_values=not whole
        )
        if whole:
            content = self._guard(self._utf8)
            options = pacsv.ReadOptions(
                block_size=min(max(len(content), 1), 2**31 - 1), use_threads=not self._skip
            )
            table = self._guard(lambda: pacsv.read_csv(pa.BufferReader(content), options, parse, convert))
            yield gaps.filled(table)
            return
        # the row of a gap is known only where one thread reads
        options = pacsv.ReadOptions(encoding=form.encoding, use_threads=not self._skip)
        with self._guard(lambda: pacsv.open_csv(self._stream(), options, parse, convert)) as reader:
            while True:
                try:
                    batch = self._guard(reader.read_next_batch)
                except StopIteration:
                    break
                yield gaps.filled(pa.Table.from_batches([batch]))
            if gaps.left:
                yield gaps.filled(pa.Table.from_batches([], reader.schema))

    def _inferring(self) -> pacsv.ConvertOptions:
        return self._convert(column_types={name: pa.string() for name in self._texts})

    def _convert(self, column_types: dict[str, pa.DataType]) -> pacsv.ConvertOptions:
        return pacsv.ConvertOptions(
            column_types=column_types, null_values=list(NO_VALUE_WORDS), decimal_point=self._form.decimal
        )

    def _kept(self, table: pa.Table) -> pa.Table:
        return table.select([i for i, name in enumerate(table.column_names) if name not in self._dropped])

    def _numbers_with_slips(self, table: pa.Table, bad: dict[int, str]) -> tuple[pa.Table, dict[int, str]]:
        """Columns of numbers among which a few words stand, as numbers; the rows of the words are bad."""
        for name in table.column_names:
            text = table.column_names.count(name) == 1 and pa.types.is_string(table[name].type)
            if not text or name in self._texts or name in self._dropped:
                continue
            different = pc.unique(table[name]).drop_null().to_pylist()
            if words_among_numbers([word.replace(self._form.decimal, ".") for word in different]) is not None:
                table = self._converted(table, name, "number", bad)
        return table, bad

    def _converted(self, table: pa.Table, name: str, kind: ColumnKind, bad: dict[int, str]) -> pa.Table:
        """`table` with a text column as numbers or truth values; the rows of other texts are added to `bad`."""
        text = pc.utf8_trim_whitespace(table[name])
        text = pc.if_else(pc.is_in(text, pa.array(NO_VALUE_WORDS)), None, text)
        if kind == "boolean":
            slips = pc.invert(pc.is_in(text, pa.array([*TRUE, *FALSE])))
            column = pc.if_else(pc.is_null(text), None, pc.is_in(text, pa.array(TRUE)))
        else:
            if self._form.decimal == ",":
                text = pc.replace_substring(text, ",", ".")
            try:
                column, slips = text.cast(pa.float64()), None
            except pa.ArrowInvalid:
                slips = pc.invert(pc.match_substring_regex(text, rf"^(?:{NUMBER.pattern}|[+-]?(?i:inf(inity)?))$"))
                column = pc.if_else(slips, None, text).cast(pa.float64())
        place = table.column_names.index(name)
        if slips is not None:
            rows = np.flatnonzero(pc.and_(pc.is_valid(text), slips).to_numpy(zero_copy_only=False)).tolist()
            for row in rows:
                bad.setdefault(row, f"column {name!r} holds {table[name][row].as_py()!r}")
        return table.set_column(place, name, column)

    def _bytes(self, packed: bool) -> Any:
        return gzip.open(self._path, "rb") if packed else self._path.open("rb")

    def _utf8(self) -> bytes:
        with self._bytes(self._form.packed) as file:
            content: bytes = file.read()
        encoding = self._form.encoding
        return content if encoding == "utf-8" else content.decode(encoding).encode()

    def _stream(self) -> pa.NativeFile:
        return pa.input_stream(str(self._path), compression="gzip" if self._form.packed else None)

    def _guard(self, read: Callable[[], T]) -> T:
        try:
            return read()
        except pa.ArrowInvalid as error:
            raise DataError(f"{self.origin}: {self._explain(first_line(error))}") from None
        except UnicodeError:
            encoding = self._form.encoding
            raise DataError(
                f"{self.origin}: begins as {encoding} and is cut or damaged; save the file as UTF-8"
            ) from None
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{self.origin}: cannot be read ({first_line(error)}); write it again") from None

    def _explain(self, message: str) -> str:
        if "Empty CSV" in message:
            return "holds no samples"
        if "Expected" in message and (ragged := self._first_row(lambda cells: len(cells) != len(self._header))):
            line, cells = ragged
            shown = self._form.delimiter.join(cells)
            return (
                f"line {line} has {len(cells)} cell{'s' * (len(cells) != 1)} and the header {len(self._header)} "
                f"({shown if len(shown) <= 60 else shown[:60] + '...'}); mend that line, or leave such rows out with "
                "`skip_bad=True`"
            )
        wrong = re.search(r"In CSV column #(\d+): .*invalid value '(.*)'", message)
        if not wrong:
            return f"not a readable CSV file ({message}); mend that line"
        place, text = int(wrong[1]), wrong[2]
        found = self._first_row(lambda cells: len(cells) > place and cells[place].strip() == text.strip())
        name, where = self._header[place], f" at line {found[0]}" if found else ""
        wanted = "true and false" if self._kinds.get(name) == "boolean" else "numbers"
        return (
            f"column {name!r} holds {text!r}{where}, and the model was trained on {wanted} there; mend the cell, or "
            "leave such rows out with `skip_bad=True`"
        )

    def _first_row(self, wrong: Callable[[list[str]], bool]) -> tuple[int, list[str]] | None:
        """The line, counted from 1, where the first row of this kind begins, and its cells."""
        with (
            self._bytes(self._form.packed) as file,
            io.TextIOWrapper(file, self._form.encoding, newline="") as text,
        ):
            rows = csv.reader(text, delimiter=self._form.delimiter)
            line = 1
            try:
                for number, cells in enumerate(rows):
                    if number and cells and wrong(cells):
                        return line, cells
                    line = rows.line_num + 1
            except (csv.Error, OSError, EOFError):
                pass  # where Arrow and Python differ, no line is named
        return None


class _Gaps:
    """Rows of a wrong length, which Arrow leaves out, put back as empty ones, so that all keep their places."""

    def __init__(self) -> None:
        self.left: list[tuple[int, str]] = []
        """(row of the file, why), not yet given back."""
        self._start = 0

    def leave_out(self, row: Any) -> str:
        """What Arrow asks about a row of a wrong length."""
        cells = row.actual_columns
        why = f"has {cells} cell{'s' * (cells != 1)} and the header {row.expected_columns}"
        self.left.append((row.number - 2, why))  # the header is row 1
        return "skip"

    def filled(self, table: pa.Table) -> tuple[pa.Table, dict[int, str]]:
        """The rows with those that were left out between them and after them, and why these are empty."""
        start, good = self._start, len(table)
        bad: dict[int, str] = {}
        while self.left and self.left[0][0] - start - len(bad) <= good:
            row, why = self.left.pop(0)
            bad[row - start] = why
        self._start += good + len(bad)
        if bad:
            empty = np.zeros(good + len(bad), dtype=bool)
            empty[list(bad)] = True
            table = table.take(pa.array(np.cumsum(~empty) - 1, mask=empty))
        return table, bad


def _sample_and_encoding(file: Any, origin: str) -> tuple[bytes, str]:
    """The first bytes of a file, and the encoding that all of it is in."""
    sample = block = file.read(BLOCK_BYTES)
    if sample.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return sample, "utf-16"
    decoder, utf8, windows = codecs.getincrementaldecoder("utf-8")(), True, True
    while block:
        if b"\0" in block:
            raise DataError(
                f"{origin}: holds NUL bytes, so it is no text, or UTF-16 without its mark; save the file as UTF-8"
            )
        if utf8 and not (block.isascii() and not decoder.getstate()[0]):
            try:
                decoder.decode(block)
            except UnicodeDecodeError:
                utf8 = False
        windows = windows and (block.isascii() or not NOT_WINDOWS.search(block))
        block = file.read(BLOCK_BYTES)
    if utf8 and not decoder.getstate()[0]:
        return sample, "utf-8"
    return sample, "cp1252" if windows else "latin-1"


def _delimiter(text: str) -> str:
    """The delimiter that cuts the most rows into as many cells as the header, and the header into the most."""
    best, found = (0.0, 1), DELIMITERS[0]
    for delimiter in DELIMITERS:
        widths = [len(cells) for cells in _rows(text, delimiter)]
        if not widths or widths[0] < 2:
            continue
        like_header = sum(width == widths[0] for width in widths[1:]) / len(widths[1:]) if widths[1:] else 1.0
        if like_header and (like_header, widths[0]) > best:
            best, found = (like_header, widths[0]), delimiter
    return found


def _decimal(text: str, delimiter: str) -> str:
    if delimiter == ",":
        return "."
    cells = [cell.strip() for row in _rows(text, delimiter)[1:] for cell in row]
    commas, points = (
        sum(re.fullmatch(rf"[+-]?\d*{sign}\d+", cell) is not None for cell in cells) for sign in (",", r"\.")
    )
    if commas == points:  # none at all, as a rule
        return "," if delimiter == ";" else "."
    return "," if commas > points else "."


def _rows(text: str, delimiter: str) -> list[list[str]]:
    """The first rows that are not blank."""
    rows = (cells for cells in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if cells)
    try:
        return list(islice(rows, SAMPLE_ROWS))
    except csv.Error:
        return []
