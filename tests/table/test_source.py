import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import feather

from memae.errors import DataError
from memae.modality import collect
from memae.table.csv import CsvSource
from memae.table.files import ArrowSource, ParquetSource
from memae.table.source import (
    ColumnSource,
    Table,
    TableSource,
    from_array,
    from_frame,
    is_frame,
)
from memae.types import EVERYTHING


def everything(source: ColumnSource) -> Table:
    table: Table = collect(source)
    return table


def rows(source: ColumnSource, size: int = EVERYTHING) -> list[dict[str, Any]]:
    return [row for part in source.chunks(size) for row in part.columns.to_pylist()]


def keys(source: ColumnSource, size: int) -> list[Any]:
    return [key for part in source.chunks(size) for key in part.keys]


def parquet(path: Path, count: int = 10, row_group_size: int = 3) -> Any:
    table = pa.table(
        {
            "a": [i / 4 for i in range(count)],
            "b": list("xyxyx" * (count // 5)),
            "c": [i % 2 == 0 for i in range(count)],
        }
    )
    pq.write_table(table, path, row_group_size=row_group_size)
    return table


@pytest.mark.parametrize("size", [1, 3, 4, 7, 100])
def test_parquet_chunks_are_the_whole_in_order_across_row_groups(tmp_path: Path, size: int) -> None:
    table = parquet(tmp_path / "t.parquet")
    source = ParquetSource(tmp_path / "t.parquet")
    assert rows(source) == table.to_pylist()
    assert rows(source, size) == table.to_pylist()
    assert keys(source, size) == list(range(10))
    assert max(len(part) for part in source.chunks(size)) <= size


def test_parquet_columns_can_be_left_out_and_asked_for_as_labels(tmp_path: Path) -> None:
    parquet(tmp_path / "t.parquet")
    source = ParquetSource(tmp_path / "t.parquet")
    assert source.labels("c").tolist()[:2] == ["true", "false"]
    assert everything(source.without(["c"])).columns.column_names == ["a", "b"]
    assert rows(source.without(["a", "c"]), 4)[0] == {"b": "x"}
    with pytest.raises(DataError, match=r"t\.parquet: no column 'z'; it has 'a', 'b', 'c'"):
        source.labels("z")
    with pytest.raises(DataError, match=r"t\.parquet: no column 'c'; it has 'a', 'b'"):
        source.without(["c"]).without(["c"])


@pytest.mark.parametrize("name", [None, "serial"])
def test_a_pandas_index_in_a_parquet_file_is_no_column(tmp_path: Path, name: str | None) -> None:
    frame = pd.DataFrame({"a": [1.0, 2.0]}, index=pd.Index(["u", "v"], name=name))
    frame.to_parquet(tmp_path / "t.parquet")
    assert everything(ParquetSource(tmp_path / "t.parquet")).columns.column_names == ["a"]


def test_damaged_parquet_files_are_refused(tmp_path: Path) -> None:
    parquet(tmp_path / "t.parquet")
    content = (tmp_path / "t.parquet").read_bytes()
    (tmp_path / "short.parquet").write_bytes(content[:200])
    (tmp_path / "text.parquet").write_text("hello, world")
    for name in ("short", "text"):
        with pytest.raises(DataError, match=rf"{name}\.parquet: not a readable Parquet file .*; write it again"):
            ParquetSource(tmp_path / f"{name}.parquet")
    (tmp_path / "bytes.parquet").write_bytes(content[:20] + bytes(40) + content[60:])
    for size in (2, EVERYTHING):
        with pytest.raises(DataError, match=r"bytes\.parquet: not a readable Parquet file .*; write it again"):
            rows(ParquetSource(tmp_path / "bytes.parquet"), size)


def test_a_parquet_file_without_rows_yields_nothing(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": pa.array([], pa.float64())}), tmp_path / "t.parquet")
    assert rows(ParquetSource(tmp_path / "t.parquet"), 5) == []


@pytest.mark.parametrize(
    "index",
    [
        ["r1", "r2", "r3"],
        [30, 10, 20],
        pd.MultiIndex.from_tuples([("x", 1), ("x", 2), ("y", 1)]),
        pd.date_range("2026-01-01", periods=3),
        pd.Index(["p", "q", "r"], name="a"),
    ],
    ids=["text", "numbers", "pairs", "dates", "named like a column"],
)
def test_a_pandas_index_gives_the_keys_and_no_column(index: pd.Index | list[int | str]) -> None:
    frame = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": ["x", "y", "x"]}, index=index)
    source = from_frame(frame)
    assert keys(source, 2) == list(frame.index)
    assert rows(source, 2) == frame.to_dict("records")


def test_polars_and_plain_pandas_frames_are_keyed_by_row_number() -> None:
    columns = {"a": [1.0, 2.0, 3.0], "b": ["x", "y", "x"], "c": [True, False, True]}
    for frame in (pd.DataFrame(columns), pl.DataFrame(columns)):
        source = from_frame(frame)
        assert keys(source, 2) == [0, 1, 2]
        assert everything(source).columns.to_pydict() == columns


def test_column_names_that_are_no_text_become_text() -> None:
    frame = pd.DataFrame({0: [1.0, 2.0], "b": [3.0, 4.0]}, index=["u", "v"])
    assert everything(from_frame(frame)).columns.column_names == ["0", "b"]


def test_duplicate_column_names_of_a_frame_are_refused() -> None:
    for names in (["a", "a"], [0, "0"]):
        with pytest.raises(DataError, match=r"the DataFrame: column names must differ.*(a|0)"):
            from_frame(pd.DataFrame(np.ones((3, 2)), columns=names))


def test_a_column_of_mixed_types_is_refused() -> None:
    with pytest.raises(
        DataError, match=r"the DataFrame: a column mixes types .*column a.*give each column one type"
    ):
        from_frame(pd.DataFrame({"a": [1, "x", 2.5]}))


def test_what_is_no_frame_is_left_to_others() -> None:
    assert not is_frame(np.ones((3, 2)))
    assert not is_frame([[1.0], [2.0]])
    assert is_frame(pd.DataFrame({"a": [1]}))


def test_table_labels_are_text_whatever_the_type() -> None:
    table = pa.table({"n": [1, 2], "f": [1.0, 2.5], "b": [True, False], "d": [datetime.date(2026, 1, 2)] * 2})
    source = TableSource(table, range(2), "the Arrow table")
    assert source.labels("n").tolist() == ["1", "2"]
    assert source.labels("f").tolist() == ["1", "2.5"]
    assert source.labels("b").tolist() == ["true", "false"]
    assert source.labels("d").tolist() == ["2026-01-02", "2026-01-02"]
    with pytest.raises(DataError, match="the Arrow table: no column 'y'; it has 'n', 'f', 'b', 'd'"):
        source.labels("y")
    with pytest.raises(DataError, match="the Arrow table: no column 'y'; it has 'n', 'f', 'b', 'd'"):
        source.without(["y"])


@pytest.mark.parametrize("compression", ["uncompressed", "lz4"])
@pytest.mark.parametrize("size", [1, 4, 100, EVERYTHING])
def test_arrow_files_are_the_whole_in_order(tmp_path: Path, size: int, compression: str) -> None:
    table = parquet(tmp_path / "t.parquet")
    feather.write_feather(table, tmp_path / "t.feather", compression=compression, chunksize=3)
    source = ArrowSource(tmp_path / "t.feather")
    assert rows(source, size) == table.to_pylist()
    assert keys(source, size) == list(range(10))
    assert source.labels("c").tolist() == ["true", "false"] * 5
    assert rows(source.without(["a", "c"]), size)[0] == {"b": "x"}
    with pytest.raises(DataError, match=r"t\.feather: no column 'z'; it has 'a', 'b', 'c'"):
        source.labels("z")


def test_what_is_no_arrow_file_is_refused(tmp_path: Path) -> None:
    for content in (b"ARROW1 and no more", b"hello"):
        (tmp_path / "t.arrow").write_bytes(content)
        with pytest.raises(DataError, match=r"t\.arrow: not a readable Arrow file .*; write it again"):
            ArrowSource(tmp_path / "t.arrow")


@pytest.mark.parametrize("zone", ["Nowhere/Land", "+99:99"])
def test_times_of_a_zone_that_is_not_known_are_refused(tmp_path: Path, zone: str) -> None:
    table = pa.table({"at": pa.array([0], pa.timestamp("us", zone))})
    with pa.OSFile(str(tmp_path / "t.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(DataError, match=r"t\.arrow: not a readable Arrow file .*timezone.*; write it again"):
        ArrowSource(tmp_path / "t.arrow")


def test_labels_that_are_missing_are_empty() -> None:
    table = pa.table({"y": ["a", None], "n": [1.0, float("nan")]})
    source = TableSource(table, range(2), "the Arrow table")
    assert source.labels("y").tolist() == ["a", ""]
    assert source.labels("n").tolist() == ["1", ""]


def test_memory_does_not_grow_with_the_length_of_a_parquet_file(tmp_path: Path) -> None:
    rows = 400_000
    one = pa.table({f"x{i}": np.random.default_rng(i).normal(size=rows) for i in range(4)})
    with pq.ParquetWriter(tmp_path / "long.parquet", one.schema) as file:
        for _ in range(6):
            file.write_table(one, row_group_size=rows)
    held = [pa.total_allocated_bytes() for _ in ParquetSource(tmp_path / "long.parquet").chunks(65_536)]
    assert max(held) - held[0] < rows * 4 * 8 / 2, "less than half of a row group"


@pytest.mark.parametrize("shape", [(0, 1 << 31), (0, 3), (3, 0)])
def test_an_array_without_a_number_holds_no_samples_however_many_columns_it_promises(
    shape: tuple[int, int],
) -> None:
    with pytest.raises(DataError, match="the array: holds no samples"):
        from_array(np.empty(shape, dtype=bool), "the array")


def test_labels_that_have_no_text_are_refused() -> None:
    with pytest.raises(DataError, match=r"a column of struct.* has no text"):
        TableSource(pa.table({"a": [{"x": 1}]}), range(1), "t").labels("a")
    with pytest.raises(DataError, match="a column of binary has no text"):
        TableSource(pa.table({"a": [b"\xff"]}), range(1), "t").labels("a")


@pytest.mark.parametrize("size", [2, 3, EVERYTHING])
def test_chosen_rows_keep_their_keys_and_their_faults(tmp_path: Path, size: int) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a,b\n0,x\n1,y\n2,x,extra\n3,y\n4,x,extra\n5,x\n")
    source = CsvSource(path, {}).skipping().only(np.array([True, False, True, True, False, True]))
    parts = list(source.chunks(size))
    assert [key for part in parts for key in part.keys] == [0, 2, 3, 5]
    assert [part.keys[row] for part in parts for row in part.unreadable] == [2]
    assert source.labels("b").tolist()[2:] == ["y", "x"]
    assert from_frame(pd.DataFrame({"a": [1, 2, 3]}, index=["p", "q", "r"])).only(
        np.array([True, False, True])
    ).labels("a").tolist() == ["1", "3"]
