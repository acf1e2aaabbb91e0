import datetime
import gzip

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from memae.data.samples import EVERYTHING
from memae.data.tables import CsvSource, ParquetSource, TableSource, from_frame
from memae.errors import DataError

KINDS = {"a": "number", "b": "category", "c": "boolean"}
TEXT = "a,b,c\n1,x,true\n2,y,false\n3.5,x,true\n4,z,true\n"


def csv(path, text=TEXT):
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def everything(source):
    (table,) = source.chunks(EVERYTHING)
    return table


def rows(source, size=EVERYTHING):
    return [row for part in source.chunks(size) for row in part.columns.to_pylist()]


def keys(source, size):
    return [key for part in source.chunks(size) for key in part.keys]


def types(source):
    return [str(field.type) for field in everything(source).columns.schema]


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
def test_csv_types_are_inferred(tmp_path, name):
    source = CsvSource(csv(tmp_path / name), {})
    assert types(source) == ["double", "string", "bool"]
    assert rows(source)[2] == {"a": 3.5, "b": "x", "c": True}
    assert list(everything(source).keys) == [0, 1, 2, 3]


def test_csv_types_are_inferred_over_the_whole_file(tmp_path):
    source = CsvSource(csv(tmp_path / "t.csv", "a,b\n" + "1,2\n" * 400_000 + "1.5,x\n"), {})
    assert types(source) == ["double", "string"]
    assert everything(source).columns["a"][400_000].as_py() == 1.5
    assert everything(source).columns["a"][0].as_py() == 1.0


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
@pytest.mark.parametrize("size", [1, 3, 100])
def test_csv_chunks_are_the_whole_in_order(tmp_path, name, size):
    whole = CsvSource(csv(tmp_path / name), {})
    chunked = CsvSource(tmp_path / name, KINDS)
    assert rows(chunked, size) == rows(whole)
    assert keys(chunked, size) == [0, 1, 2, 3]
    assert max(len(part) for part in chunked.chunks(size)) <= size


def test_csv_chunks_are_the_whole_where_a_block_ends_in_a_quoted_line_break(tmp_path):
    lines = "".join(f'{i},"first line\nof, {i}",{"true" if i % 3 else "false"}\n' for i in range(60_000))
    path = csv(tmp_path / "t.csv", "a,b,c\n" + lines)
    assert path.stat().st_size > 1 << 20  # more than one block of Arrow's reader
    assert rows(CsvSource(path, KINDS), 7_000) == rows(CsvSource(path, {}))
    assert keys(CsvSource(path, KINDS), 7_000) == list(range(60_000))


def test_csv_is_told_from_gzip_by_its_content(tmp_path):
    packed, plain = csv(tmp_path / "packed.csv.gz"), csv(tmp_path / "plain.csv")
    wrong = [packed.rename(tmp_path / "packed.csv"), plain.rename(tmp_path / "plain.csv.gz")]
    for path in wrong:
        assert rows(CsvSource(path, {})) == rows(CsvSource(path, KINDS), 2)


@pytest.mark.parametrize("size", [2, EVERYTHING])
@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
def test_text_in_a_number_column_is_refused_by_column_value_and_line(tmp_path, name, size):
    path = csv(tmp_path / name, TEXT.replace("3.5", "n/k"))
    with pytest.raises(DataError, match=r"column 'a' holds 'n/k' at line 4.*trained on numbers there; mend"):
        rows(CsvSource(path, KINDS), size)


def test_text_in_a_number_column_is_found_beyond_the_first_block(tmp_path):
    path = csv(tmp_path / "t.csv", "a\n" + "1\n" * 700_000 + "oops\n")
    with pytest.raises(DataError, match="column 'a' holds 'oops' at line 700002"):
        rows(CsvSource(path, {"a": "number"}), 100_000)


def test_text_in_a_boolean_column_is_refused(tmp_path):
    path = csv(tmp_path / "t.csv", TEXT.replace("false", "maybe"))
    with pytest.raises(
        DataError, match=r"column 'c' holds 'maybe' at line 3.*trained on true and false there; mend"
    ):
        rows(CsvSource(path, KINDS), 2)


def test_a_column_that_the_model_does_not_know_may_hold_anything(tmp_path):
    path = csv(tmp_path / "t.csv", "id,a\n" + "7,1\n" * 400_000 + "x,2\n")
    source = CsvSource(path, {"a": "number"})
    assert sum(len(part) for part in source.without(["id"]).chunks(65_536)) == 400_001
    assert everything(source.without(["id"])).columns.column_names == ["a"]
    assert source.labels("id")[-1] == "x"
    assert sum(len(part) for part in source.chunks(65_536)) == 400_001


def test_csv_columns_can_be_left_out(tmp_path):
    source = CsvSource(csv(tmp_path / "t.csv"), {}).without(["b"]).without(["c"])
    assert everything(source).columns.column_names == ["a"]
    with pytest.raises(DataError, match=r"t\.csv: no column 'b'; it has 'a'"):
        source.without(["b"])
    with pytest.raises(DataError, match=r"t\.csv: no column 'z'; it has 'a'"):
        source.labels("z")


def test_csv_labels_are_text_as_written(tmp_path):
    source = CsvSource(csv(tmp_path / "t.csv", "a,y\n1,01\n2,1\n3,1.0\n"), {})
    assert source.labels("y").tolist() == ["01", "1", "1.0"]


def test_duplicate_csv_columns_can_be_left_out(tmp_path):
    source = CsvSource(csv(tmp_path / "t.csv", "a,a,b\n1,2,3\n"), {}).without(["a"])
    assert rows(source) == [{"b": 3}]


@pytest.mark.parametrize("text", ["a,b,c\n", "a,b,c", "\n"])
def test_a_csv_file_without_rows_yields_none_or_says_so(tmp_path, text):
    for kinds in ({}, KINDS):
        try:
            assert rows(CsvSource(csv(tmp_path / "t.csv", text), kinds), 10) == []
        except DataError as error:
            assert "t.csv: holds no samples" in str(error) or "no header line can be read" in str(error)


@pytest.mark.parametrize("kinds", [{}, KINDS])
def test_a_row_of_another_length_is_refused_by_line(tmp_path, kinds):
    path = csv(tmp_path / "t.csv", TEXT + "5,x\n")
    with pytest.raises(DataError, match=r"t\.csv: not .* Row #6: Expected 3 columns, got 2: 5,x.*mend that line"):
        rows(CsvSource(path, kinds), 2)


@pytest.mark.parametrize("kinds", [{}, KINDS])
def test_text_that_is_not_utf8_is_refused(tmp_path, kinds):
    path = tmp_path / "t.csv"
    path.write_bytes("a,b,c\n1,caf\xe9,true\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"t\.csv: column 'b' holds text .*not UTF-8; save the file as UTF-8"):
        rows(CsvSource(path, kinds), 2)
    path.write_bytes("caf\xe9,b\n1,x\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"t\.csv: the header is not UTF-8; save the file as UTF-8"):
        rows(CsvSource(path, kinds), 2)


@pytest.mark.parametrize("kinds", [{}, KINDS])
@pytest.mark.parametrize("damage", ["short", "bytes"])
def test_a_damaged_gz_file_is_refused(tmp_path, kinds, damage):
    generator = np.random.default_rng(0)
    lines = "".join(f"{number},x,true\n" for number in generator.integers(10**6, size=200_000))
    content = gzip.compress(f"a,b,c\n{lines}".encode(), compresslevel=1)
    half = len(content) // 2
    broken = content[:half] if damage == "short" else content[:half] + bytes(200) + content[half + 200 :]
    (tmp_path / "t.csv.gz").write_bytes(broken)
    with pytest.raises(DataError, match=r"t\.csv\.gz: .*(write it again|mend)"):
        rows(CsvSource(tmp_path / "t.csv.gz", kinds), 1000)


def parquet(path, count=10, row_group_size=3):
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
def test_parquet_chunks_are_the_whole_in_order_across_row_groups(tmp_path, size):
    table = parquet(tmp_path / "t.parquet")
    source = ParquetSource(tmp_path / "t.parquet")
    assert rows(source) == table.to_pylist()
    assert rows(source, size) == table.to_pylist()
    assert keys(source, size) == list(range(10))
    assert max(len(part) for part in source.chunks(size)) <= size


def test_parquet_columns_can_be_left_out_and_asked_for_as_labels(tmp_path):
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
def test_a_pandas_index_in_a_parquet_file_is_no_column(tmp_path, name):
    frame = pd.DataFrame({"a": [1.0, 2.0]}, index=pd.Index(["u", "v"], name=name))
    frame.to_parquet(tmp_path / "t.parquet")
    assert everything(ParquetSource(tmp_path / "t.parquet")).columns.column_names == ["a"]


def test_damaged_parquet_files_are_refused(tmp_path):
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


def test_a_parquet_file_without_rows_yields_nothing(tmp_path):
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
def test_a_pandas_index_gives_the_keys_and_no_column(index):
    frame = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": ["x", "y", "x"]}, index=index)
    source = from_frame(frame)
    assert keys(source, 2) == list(frame.index)
    assert rows(source, 2) == frame.to_dict("records")


def test_polars_and_plain_pandas_frames_are_keyed_by_row_number():
    columns = {"a": [1.0, 2.0, 3.0], "b": ["x", "y", "x"], "c": [True, False, True]}
    for frame in (pd.DataFrame(columns), pl.DataFrame(columns)):
        source = from_frame(frame)
        assert keys(source, 2) == [0, 1, 2]
        assert everything(source).columns.to_pydict() == columns


def test_column_names_that_are_no_text_become_text():
    frame = pd.DataFrame({0: [1.0, 2.0], "b": [3.0, 4.0]}, index=["u", "v"])
    assert everything(from_frame(frame)).columns.column_names == ["0", "b"]


def test_duplicate_column_names_of_a_frame_are_refused():
    for names in (["a", "a"], [0, "0"]):
        with pytest.raises(DataError, match=r"the DataFrame: column names must differ.*(a|0)"):
            from_frame(pd.DataFrame(np.ones((3, 2)), columns=names))


def test_a_column_of_mixed_types_is_refused():
    with pytest.raises(
        DataError, match=r"the DataFrame: a column mixes types .*column a.*give each column one type"
    ):
        from_frame(pd.DataFrame({"a": [1, "x", 2.5]}))


def test_what_is_no_frame_is_left_to_others():
    assert from_frame(np.ones((3, 2))) is None
    assert from_frame([[1.0], [2.0]]) is None


def test_table_labels_are_text_whatever_the_type():
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
