"""How a CSV file is written: packed or not, encoding, delimiter, sign of decimals, and whether it has a header."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO

import numpy as np

from memae.errors import DataError

__all__ = ["Dialect"]

DELIMITERS = ",;\t|"
ENCODINGS = ("utf-8", "cp1252", "latin-1")  # the first that the whole file is in
RISING = 8  # numbers of a first line that rise all along are names
SAMPLE_ROWS = 1000  # that the delimiter and the sign of decimals are found in
BLOCK_BYTES = 1 << 20  # read at a time while the encoding is found; the sample is the first of them
GZIP = b"\x1f\x8b"
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
class Dialect:
    """How a file is written."""

    packed: bool
    """With gzip."""
    encoding: str
    delimiter: str
    decimal: str
    block_bytes: int
    """To read at a time: no line is longer."""
    names: tuple[str, ...] | None = None
    """Of the columns where no header line gives them: "column 1" and so on."""

    @classmethod
    def of(cls, path: Path, known: Collection[str] = (), names: Sequence[str] = (), origin: str = "") -> Dialect:
        """The dialect of a file, found from its content and not from its name.

        The encoding is that of the byte-order mark, else the first of `ENCODINGS` that the whole file is in. The
        delimiter is the one that cuts the first rows into as many cells as the header. Decimals are written with a
        point; where the delimiter is no comma and the first numbers say so, with a comma. There is no header if no
        cell of the first line is one that only a header would have: each is a number, or stands again below.

        Args:
            path: of the file.
            known: names of columns that a model knows; a first line with one of them is a header.
            names: of the columns of a file without a header; a first line of just these names is one all the same.
            origin: what messages call the file; "" is its path.

        Raises:
            DataError: another kind of file, no text, or more or fewer columns than names.
            OSError: a file that cannot be read; EOFError and zlib.error come from a damaged one, too.
        """
        origin = origin or str(path)
        with path.open("rb") as file:
            start = file.read(8)
        for magic, what in _OTHER_FILES.items():
            if start.startswith(magic):
                raise DataError(f"{origin}: is no CSV file but {what}")
        packed = start.startswith(GZIP)
        with _bytes(path, packed) as file:
            sample = file.read(BLOCK_BYTES)
            file.seek(0)
            encoding, block_bytes = _encoding(file, sample, origin)
        text = sample.decode(encoding, errors="replace").removeprefix("\ufeff")
        if len(sample) == BLOCK_BYTES:
            text = text[: text.rfind("\n") + 1]  # the last line is cut short
        delimiter = max(DELIMITERS, key=lambda delimiter: _agreement(text, delimiter))
        decimal = _decimal(text, delimiter)
        first, *below = _rows(text, delimiter) or [[]]
        if names:
            if len(names) != len(first):
                raise DataError(
                    f"{origin}: has {len(first):,} columns, and `columns` names {len(names):,}; name each"
                )
            headed = first == list(names)
        else:
            headed = not set(known).isdisjoint(first) or _is_header(first, below, decimal)
        names = tuple(names) or tuple(f"column {place}" for place in range(1, len(first) + 1))
        return cls(packed, encoding, delimiter, decimal, block_bytes, None if headed else names)

    def text(self, path: Path) -> IO[str]:
        """The file, opened as text."""
        return io.TextIOWrapper(_bytes(path, self.packed), self.encoding, newline="")


def _bytes(path: Path, packed: bool) -> io.BufferedReader:
    return io.BufferedReader(gzip.open(path)) if packed else path.open("rb")


def _encoding(file: io.BufferedReader, sample: bytes, origin: str) -> tuple[str, int]:
    """The encoding of the whole file, and a block size that is at least the longest line."""
    longest = BLOCK_BYTES
    if sample.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16", longest
    possible: tuple[str, ...] = ENCODINGS
    while block := file.read(BLOCK_BYTES) + file.readline():  # whole lines, so that no character is cut
        longest = max(longest, len(block))
        if b"\0" in block:
            raise DataError(
                f"{origin}: holds NUL bytes, so it is no text, or UTF-16 without its mark; save the file as UTF-8"
            )
        if not block.isascii():
            possible = tuple(encoding for encoding in possible if _decodes(block, encoding))
    return possible[0], longest


def _decodes(block: bytes, encoding: str) -> bool:
    try:
        block.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _agreement(text: str, delimiter: str) -> tuple[float, int]:
    """The share of rows that have as many cells as the header, and how many that are; (0, 0) for a single cell."""
    header, *widths = [len(cells) for cells in _rows(text, delimiter)] or [0]
    alike = widths.count(header) / len(widths) if widths else 1.0
    return (alike, header) if header > 1 and alike else (0.0, 0)


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


def _is_header(first: list[str], below: list[list[str]], decimal: str) -> bool:
    """Whether the first row names the columns of the rows below it."""
    numbers = [_as_number(cell, decimal) for cell in first]
    if _are_names([number for number in numbers if number is not None]):
        return True
    columns = zip(*(cells for cells in below if len(cells) == len(first)), strict=True)
    seen = [set(column) for column in columns] or [set[str]() for _ in first]
    return not all(
        number is not None or cell in again for cell, number, again in zip(first, numbers, seen, strict=True)
    )


def _are_names(numbers: list[float]) -> bool:
    """Whether numbers are names that another program gave, such as 0, 1, 2, years, wavelengths or quantiles.

    One or two are whole and follow each other; more have equal steps; many only rise, which hardly a row does.
    """
    steps = [after - before for before, after in pairwise(numbers)]
    if len(numbers) < 3:
        return bool(numbers) and numbers[0].is_integer() and steps in ([], [1])
    return (steps[0] != 0 and np.allclose(steps, steps[0])) or (len(numbers) >= RISING and min(steps) > 0)


def _as_number(cell: str, decimal: str) -> float | None:
    text = cell.strip().replace(decimal, ".")
    return float(text) if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text, re.ASCII) else None


def _rows(text: str, delimiter: str) -> list[list[str]]:
    """The first rows that are not blank."""
    rows: list[list[str]] = []
    with suppress(csv.Error):  # a cell beyond the limit of Python's reader: the rows before it must do
        for cells in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
            if len(rows) == SAMPLE_ROWS:
                break
            if cells:
                rows.append(cells)
    return rows
