"""Verdicts as rows of a file: CSV, Parquet or JSON lines, written as they come and visible when complete."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from memae.detector import Verdicts
from memae.errors import printable
from memae.files.atomic import atomic_file
from memae.types import Explanation, Key, Region

__all__ = ["explanation_lines", "write_verdicts"]

REGIONS = pa.list_(
    pa.struct(
        [
            *((side, pa.int64()) for side in ("left", "top", "right", "bottom")),
            ("area_px", pa.int64()),
            ("score", pa.float64()),
        ]
    )
)


def write_verdicts(parts: Iterator[Verdicts], out: Path | None) -> tuple[int, int]:
    """Writes key, score, p_value, is_anomaly for every sample; returns how many, and how many are anomalies.

    The row of a sample that was skipped holds nothing but its key. Of video, three columns stand for the key: video,
    frame, time_s. Where scores are of places, a column `regions` has the places of an anomaly: a list, which in CSV is
    written as JSON, and is empty for other samples. A model of several kinds of normal adds a column `category`.

    Args:
        parts: chunks of verdicts, in order.
        out: a .csv, .parquet or .jsonl file, replaced when all is written; None is CSV on stdout. In CSV, an apostrophe
            stands before a name that a spreadsheet would run as a formula.
    """
    # the first chunk is asked for before anything is opened: bad input then leaves stdout empty
    first = next(parts, None)
    if out is None:
        return _write(first, parts, sys.stdout.buffer, ".csv", on_screen=sys.stdout.isatty())
    with atomic_file(out) as part, part.open("wb") as file:
        return _write(first, parts, file, out.suffix.lower())


@contextmanager
def explanation_lines(out: Path) -> Iterator[Callable[[Explanation], None]]:
    """Writes one JSON line a sample: key, score, p_value, items, cells, regions; pictures are left to the library."""
    with atomic_file(out) as part, part.open("wb") as file:

        def write(sample: Explanation) -> None:
            row: dict[str, Any] = {
                **_plain_key(sample.key),
                "score": sample.score,
                "p_value": sample.p_value,
                "items": [asdict(use) for use in sample.items],
                "columns": [asdict(cell) for cell in sample.cells],
            }
            if sample.category is not None:
                row["category"] = sample.category
            if sample.regions:
                row["regions"] = _plain_regions(sample.regions)
            file.write(_json_line(row))

        yield write


def _write(
    first: Verdicts | None, rest: Iterator[Verdicts], file: IO[bytes], suffix: str, *, on_screen: bool = False
) -> tuple[int, int]:
    if first is None:
        return 0, 0
    table = _table(first)
    with _opened(suffix, file, table.schema, on_screen) as write:
        total, flagged = len(first), int(first.is_anomaly.sum())
        write(table)
        for verdicts in rest:
            write(_table(verdicts, table.schema))
            total += len(verdicts)
            flagged += int(verdicts.is_anomaly.sum())
    file.flush()
    return total, flagged


@contextmanager
def _opened(
    suffix: str, file: IO[bytes], schema: pa.Schema, on_screen: bool
) -> Iterator[Callable[[pa.Table], None]]:
    """A function that appends tables of this schema to a file."""
    if suffix == ".csv":
        file.write((",".join(schema.names) + "\n").encode())  # Arrow's own header puts every name in quotes
        plain = pa.schema([field.with_type(pa.string()) if field.type == REGIONS else field for field in schema])
        with pacsv.CSVWriter(file, plain, write_options=pacsv.WriteOptions(include_header=False)) as writer:
            yield lambda table: writer.write_table(_harmless(table, on_screen))
    elif suffix == ".parquet":
        with pq.ParquetWriter(file, schema) as writer:
            yield writer.write_table
    else:
        yield lambda table: file.writelines(map(_json_line, table.to_pylist()))


def _harmless(table: pa.Table, on_screen: bool) -> pa.Table:
    """Rows whose texts a spreadsheet takes for text and, on a screen, the terminal too.

    A spreadsheet runs a cell that begins with = + - @, a tab or a carriage return as a formula. An apostrophe before it
    makes it text. Parquet and JSON lines keep names as they are.
    """
    for place, field in enumerate(table.schema):
        if field.type == REGIONS:  # CSV has no lists
            lists = [json.dumps(found) if found else None for found in table.column(place).to_pylist()]
            table = table.set_column(place, pa.field(field.name, pa.string()), pa.array(lists, pa.string()))
        if not pa.types.is_string(field.type):
            continue
        texts = table.column(place)
        if on_screen:
            texts = pa.chunked_array(
                [[None if text is None else printable(text) for text in texts.to_pylist()]], field.type
            )
        formula = pc.match_substring_regex(texts, r"^[=+\-@\t\r]")
        if pc.any(formula).as_py():
            texts = pc.if_else(formula, pc.binary_join_element_wise("'", texts, ""), texts)
        table = table.set_column(place, field, texts)
    return table


def _json_line(row: dict[str, Any]) -> bytes:
    return json.dumps(row, ensure_ascii=False).encode() + b"\n"


def _table(verdicts: Verdicts, schema: pa.Schema | None = None) -> pa.Table:
    skipped = np.isnan(verdicts.scores) if verdicts.skipped else None
    table = pa.table(
        {
            **_key_columns(verdicts.keys),
            "score": pa.array(verdicts.scores, mask=skipped),
            "p_value": pa.array(verdicts.p_values, mask=skipped),
            "is_anomaly": pa.array(verdicts.is_anomaly, mask=skipped),
        }
    )
    if verdicts.categories is not None:
        table = table.append_column("category", pa.array(verdicts.categories.texts, pa.string(), mask=skipped))
    if verdicts.regions is not None:
        plain = [_plain_regions(verdicts.regions.get(key, ())) for key in verdicts.keys]
        table = table.append_column("regions", pa.array(plain, REGIONS))
    return table.cast(schema) if schema else table


def _plain_regions(regions: Sequence[Region]) -> list[dict[str, Any]]:
    """Boxes with area and score, for files; right and bottom are the first px outside."""
    return [{**box._asdict(), "area_px": area_px, "score": peak} for box, area_px, peak in regions]


def _key_columns(keys: Sequence[Key]) -> dict[str, Any]:
    if names := getattr(keys[0], "_fields", ()) if keys else ():
        named: Sequence[Any] = keys  # NamedTuples of one type
        parts = zip(*named, strict=True)
        return {name: _column(values) for name, values in zip(names, parts, strict=True)}
    return {"key": pa.array(np.asarray(keys) if isinstance(keys, range) else [_text(key) for key in keys])}


def _column(values: Sequence[Any]) -> Any:
    """One field of keys: numbers as they are, fractions to a millionth, anything else as text."""
    if isinstance(values[0], float):
        return np.round(values, 6)
    return list(values) if isinstance(values[0], int) else [_text(value) for value in values]


def _plain_key(key: Key) -> dict[str, Any]:
    """A key for JSON, named as in the rows of scores."""
    if names := getattr(key, "_fields", ()):
        parts: Any = key
        return {
            name: part if isinstance(part, int) else _text(part) for name, part in zip(names, parts, strict=True)
        }
    return {"key": key if isinstance(key, int) else _text(key)}


def _text(key: Key) -> str:
    """The key as text that any format can hold: a file name of other bytes than UTF-8 shows them as \\xe9."""
    return str(key).encode(errors="surrogateescape").decode(errors="backslashreplace")
