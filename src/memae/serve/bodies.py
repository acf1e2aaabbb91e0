"""The body of a request as samples that a `Detector` takes; never asks which kind of data the model is for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import pyarrow as pa

from memae.errors import printable, shortened
from memae.files.image import UnreadableError, open_image
from memae.modality import SampleTensor
from memae.web import Limits, RefusedError

__all__ = ["Body", "Upload", "csv_body", "image_body", "json_body"]


class Upload(Protocol):
    """An uploaded file."""

    filename: str | None
    file: BinaryIO


@dataclass(frozen=True)
class Body:
    """The samples of one request."""

    x: pa.Table | np.ndarray | Path | list[Path]
    count: int
    """Samples, at most."""
    names: Sequence[str] | None = None
    """(S,) what the client calls them; None are numbers from 0."""

    def in_words_of_client(self, message: str) -> str:
        """A message of the library with the names that the client gave in place of our own files."""
        paths = self.x if isinstance(self.x, list) else [self.x] if isinstance(self.x, Path) else []
        for path, name in zip(paths, self.names or ["the body"], strict=False):
            message = message.replace(str(path), name)
        return message.replace("the Arrow table", "the body")


def json_body(text: bytes, own: Sequence[SampleTensor], limits: Limits) -> Body:
    """Rows as a JSON list of objects; a column that a row leaves out is missing there.

    Args:
        text: the body.
        own: the columns of the model: rows of all clients get them in one order and of one type, so that they can be
            scored together. Other columns are left out.
        limits: the most rows.

    Raises:
        RefusedError: other JSON, no rows or too many, or values that make no column.
    """
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, f"the body is no JSON: {error}") from None
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) and row for row in rows):
        detail = 'the body is no list of rows; send  [{"column": value, ...}, ...]  with at least one row'
        raise RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, detail)
    _check_rows(len(rows), limits)
    given = {name for row in rows for name in row}
    known = {one.name: one.dtype for one in own if one.name in given} or dict.fromkeys(sorted(given))
    return Body(pa.table({name: _column(name, rows, dtype) for name, dtype in known.items()}), len(rows))


def csv_body(text: bytes, folder: Path, limits: Limits) -> Body:
    """Rows as a CSV file with a header, which is read as `memae score` reads one.

    Raises:
        RefusedError: too many lines.
    """
    lines = text.count(b"\n")
    _check_rows(lines, limits)
    path = folder / "body.csv"
    path.write_bytes(text)
    return Body(path, max(1, lines))


def image_body(uploads: Sequence[Upload], folder: Path, limits: Limits) -> Body:
    """Image files, in names of our own: what the client calls them is told back and is no path.

    Raises:
        RefusedError: a file that is no image, or too many pixels.
    """
    names = [shortened(printable(one.filename or f"file {number}"), 200) for number, one in enumerate(uploads)]
    paths, left = [], limits.px
    for number, one in enumerate(uploads):
        path = folder / f"{number:06}.png"  # of any format: its content says which
        path.write_bytes(one.file.read())
        left -= _px(path, names[number])
        if left < 0:
            detail = f"the images have more than {limits.px:,} px together; shrink them, or send fewer"
            raise RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)
        paths.append(path)
    return Body(paths, len(paths), names)


def _px(path: Path, name: str) -> int:
    try:
        with open_image(path) as image:
            return image.width * image.height
    except UnreadableError as error:
        raise RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, f"{name}: {error.what}: {error}") from None


def _check_rows(rows: int, limits: Limits) -> None:
    if rows > limits.rows:
        detail = f"the body has {rows:,} rows, and at most {limits.rows:,} are taken; send fewer at once"
        raise RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)


def _column(name: str, rows: Sequence[Mapping[str, Any]], dtype: Any) -> pa.Array:
    try:
        column = pa.array([row.get(name) for row in rows])
        if dtype is np.float64 and (pa.types.is_integer(column.type) or pa.types.is_null(column.type)):
            return column.cast(pa.float64())
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        wrong = "of several types"
    else:
        if not pa.types.is_nested(column.type):
            return column
        wrong = "lists or objects"
    detail = f"column {shortened(printable(name))!r}: its values are {wrong}; give numbers or texts"
    raise RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, detail)
