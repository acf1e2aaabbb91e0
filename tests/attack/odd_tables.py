"""Parquet and Arrow files that are whole, of types and with metadata that nobody expects in a table of numbers."""

from __future__ import annotations

import datetime
import decimal
import json
import random
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.attack.structures import broken_json, dumped, odd_value

__all__ = ["write_odd_arrow", "write_odd_parquet"]

NAMES = ("a", "b", "c", "d", "kind", "open", "", "a.b", "\0", "\x1b[1m", "=1", "day", "x" * 300, "é")
ROWS = 5


@cache
def _columns() -> tuple[pa.Array, ...]:
    """Columns of five rows, of all types that Arrow builds from Python values."""
    day, now = datetime.date(2026, 1, 1), datetime.datetime(2026, 1, 1, 12)
    built: list[tuple[list[object], pa.DataType]] = [
        ([1.5, None, float("nan"), float("inf"), -0.0], pa.float64()),
        ([1, 2, 3, 4, 2**63 - 1], pa.int64()),
        ([0, 1, 2, 3, 2**64 - 1], pa.uint64()),
        (["a", "b", None, "", "x" * 5000], pa.string()),
        ([b"\xff", b"", None, b"a\0", b"b"], pa.binary()),
        ([True, None, False, True, True], pa.bool_()),
        ([None] * ROWS, pa.null()),
        ([[1], [], None, [1, 2], [3]], pa.list_(pa.int32())),
        ([{"x": 1}, None, {"x": 2}, {}, {"x": None}], pa.struct([("x", pa.int8())])),
        ([[("k", 1)], None, [], [("k", 2)], []], pa.map_(pa.string(), pa.int8())),
        ([decimal.Decimal("1.1")] * ROWS, pa.decimal128(38, 1)),
        ([decimal.Decimal(10) ** 70] * ROWS, pa.decimal256(76, 2)),
        ([day] * ROWS, pa.date32()),
        ([now, None, now, now, now], pa.timestamp("ns", "UTC")),
        ([now] * ROWS, pa.timestamp("s", "+99:99")),
        ([now] * ROWS, pa.timestamp("us", "Nowhere/Land")),
        ([datetime.timedelta(days=10**5)] * ROWS, pa.duration("us")),
        ([datetime.time(1, 2)] * ROWS, pa.time64("ns")),
        ([b"abc"] * ROWS, pa.binary(3)),
        (["v"] * ROWS, pa.large_string()),
    ]
    arrays = [pa.array(values, kind) for values, kind in built]
    half = pa.array([1.0, 2.0, None, 3.0, 65504.0], pa.float32()).cast(pa.float16())
    packed = pa.array(["a", "b", "a", None, "b"]).dictionary_encode()
    runs = pa.RunEndEncodedArray.from_arrays(pa.array([2, 5], pa.int32()), pa.array([1.0, 2.0]))
    return (*arrays, half, packed, runs)


def _table(rng: random.Random) -> pa.Table:
    count = rng.choice((0, 1, 3, 7, 40))
    arrays = [rng.choice(_columns()) for _ in range(count)]
    names = [rng.choice(NAMES) if rng.random() < 0.9 else NAMES[0] for _ in range(count)]
    table = pa.Table.from_arrays(arrays, names)
    if rng.random() < 0.5:
        table = table.slice(rng.randrange(ROWS), rng.randrange(ROWS))
    pandas = {
        "index_columns": ["a"],
        "columns": [{"name": "a", "field_name": "a", "pandas_type": "x"}],
        "column_indexes": [],
    }
    way = rng.random()
    if way < 0.6:
        said = dumped(broken_json(rng, pandas) if way < 0.4 else odd_value(rng))
        table = table.replace_schema_metadata(
            {b"pandas": rng.choice((said, said, b"\xff{", json.dumps(pandas).encode()))}
        )
    return table


def write_odd_parquet(rng: random.Random, path: Path) -> None:
    """Writes such a table as Parquet; as Arrow, where Parquet has no such type."""
    table = _table(rng)
    try:
        pq.write_table(table, path, compression=rng.choice(("none", "snappy", "gzip", "brotli", "zstd")))
    except pa.ArrowException:
        _write_arrow(rng, path, table)


def write_odd_arrow(rng: random.Random, path: Path) -> None:
    """Writes such a table as an Arrow file or, under the same name, as a stream."""
    _write_arrow(rng, path, _table(rng))


def _write_arrow(rng: random.Random, path: Path, table: pa.Table) -> None:
    make = pa.ipc.new_stream if rng.random() < 0.1 else pa.ipc.new_file
    packing = rng.choice((None, "lz4", "zstd"))
    with (
        path.open("wb") as file,
        make(file, table.schema, options=pa.ipc.IpcWriteOptions(compression=packing)) as writer,
    ):
        writer.write_table(table)
