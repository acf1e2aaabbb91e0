"""Several files of rows as one table: the same rows, schema and scores as of one file with all of them."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from memae.errors import DataError
from memae.metrics.labels import normal_samples
from memae.modality import FitOptions, collect, open_source, prepare, preset_config
from memae.table.several import FileRow
from memae.types import EVERYTHING

ROWS = 90


@pytest.fixture
def whole() -> pd.DataFrame:
    generator = np.random.default_rng(0)
    frame = pd.DataFrame(generator.normal(size=(ROWS, 2)).round(3), columns=["a", "b"])
    frame["whole"] = np.where(np.arange(ROWS) < 60, np.arange(ROWS), frame["a"])  # numbers with points come last
    frame["late"] = np.where(
        np.arange(ROWS) < 30, "", generator.choice(["x", "007"], ROWS)
    )  # the first file has none
    return frame


@pytest.fixture
def folder(tmp_path: Path, whole: pd.DataFrame) -> Path:
    """Three files of thirty rows, with other orders of columns, delimiters and signs of decimals, and notes beside."""
    (tmp_path / "days" / "2").mkdir(parents=True)
    whole[:30].to_csv(tmp_path / "days" / "1.csv", index=False)
    whole[30:60][whole.columns[::-1]].to_csv(tmp_path / "days" / "2" / "x.csv", index=False, sep=";", decimal=",")
    whole[60:].to_csv(tmp_path / "days" / "3.csv.gz", index=False)
    (tmp_path / "days" / "read me.txt").write_text("three days")
    whole.to_csv(tmp_path / "whole.csv", index=False)
    return tmp_path / "days"


def paths(folder: Path) -> list[Path]:
    return [folder / "1.csv", folder / "2" / "x.csv", folder / "3.csv.gz"]


NAMES = ["1.csv", "2/x.csv", "3.csv.gz"]


@pytest.mark.parametrize("size", [7, 30, 1000, EVERYTHING])
def test_a_folder_a_pattern_and_a_list_are_the_rows_of_one_file(folder: Path, size: int) -> None:
    (alone,) = open_source(folder.parent / "whole.csv").chunks(EVERYTHING)
    for x in (folder, folder / "**" / "*.csv*", paths(folder)):
        parts = list(open_source(x).chunks(size))
        assert all(len(part) <= size for part in parts)
        together = pa.concat_tables([part.columns for part in parts])
        assert together.select(alone.columns.column_names) == alone.columns
        names = list(map(str, paths(folder))) if isinstance(x, list) else NAMES
        assert [key for part in parts for key in part.keys] == [
            FileRow(n, row) for n in names for row in range(30)
        ]
    assert str(FileRow("2/x.csv", 7)) == "7 of 2/x.csv"


def test_each_file_counts_once_and_named_ones_keep_their_order(folder: Path) -> None:
    first, _, last = paths(folder)
    table = collect(open_source([last, folder, first]))
    assert list(dict.fromkeys(key.file for key in table.keys)) == [
        str(last),
        str(first),
        str(folder / "2" / "x.csv"),
    ]
    assert len(table) == ROWS


@pytest.mark.parametrize("stream", [False, True])
def test_the_schema_and_the_parts_are_those_of_one_file(folder: Path, stream: bool) -> None:
    config, options = preset_config("table", "table"), FitOptions(stream=stream, categorical=["late"])
    one = prepare(open_source(folder.parent / "whole.csv"), config, 0, options)
    several = prepare(open_source(folder), config, 0, options)
    for here, there in zip(several.preprocess.columns, one.preprocess.columns, strict=True):
        same = {"centre": pytest.approx(there.centre), "spread": pytest.approx(there.spread)}
        assert here.model_dump() == there.model_dump() | same | {"reach": pytest.approx(there.reach)}
    assert np.allclose(several.training[:], one.training[:])
    assert several.key_of is not None
    assert one.key_of is not None
    number = one.key_of(3)
    assert isinstance(number, int)
    assert several.key_of(3) == FileRow(NAMES[number // 30], number % 30)


@pytest.mark.parametrize("skip_bad", [False, True])
def test_a_bad_row_is_named_by_its_file(folder: Path, skip_bad: bool) -> None:
    with (folder / "2" / "x.csv").open("a") as file:
        file.write("1\n")
    if skip_bad:
        table = collect(open_source(folder, skip_bad=True))
        assert {table.keys[row] for row in table.unreadable} == {FileRow("2/x.csv", 30)}
        return
    with pytest.raises(DataError, match=r"x\.csv: line 32 has 1 cell and the header 4"):
        collect(open_source(folder))


def test_the_normal_rows_of_several_labelled_files_keep_their_keys(folder: Path) -> None:
    source = open_source(folder)
    assert source.labels("late").tolist()[:30] == [""] * 30
    normal = normal_samples(source, "late", ["x"])
    parts = list(normal.without(["late"]).chunks(20))
    keys = [key for part in parts for key in part.keys]
    labels = source.labels("late")
    assert keys == [FileRow(NAMES[row // 30], row % 30) for row in np.flatnonzero(labels == "x").tolist()]
    assert parts[0].columns.column_names == ["a", "b", "whole"]


def test_parquet_files_of_near_types_are_one_table(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1, 2], "b": ["x", "y"]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"b": ["z"], "a": [0.5]}), tmp_path / "2.parquet")
    table = collect(open_source(tmp_path))
    assert table.columns.to_pydict() == {"a": [1, 2, 0.5], "b": ["x", "y", "z"]}
    assert list(table.keys) == [FileRow("1.parquet", 0), FileRow("1.parquet", 1), FileRow("2.parquet", 0)]
    pq.write_table(pa.table({"b": ["z"], "a": ["text"]}), tmp_path / "3.parquet")
    with pytest.raises(DataError, match="the files have a column of several types"):
        open_source(tmp_path)


def test_files_that_do_not_belong_together_are_refused(folder: Path, whole: pd.DataFrame) -> None:
    whole.drop(columns="b").to_csv(folder / "4.csv", index=False)
    with pytest.raises(DataError, match=r"1\.csv: has a column 'b' that .*4\.csv lacks.*; mend it"):
        open_source(folder)
    whole.to_parquet(folder / "4.parquet")
    (folder / "4.csv").unlink()
    with pytest.raises(
        DataError, match=r"4\.parquet: is of another format than .*1\.csv.*name those of one format"
    ):
        open_source(folder)
    with pytest.raises(DataError, match=r"2\.md: is no image, video or table, and several"):
        (folder / "2.md").write_text("x")
        open_source([folder / "1.csv", folder / "2.md"])


def test_images_beside_tables_are_images(tmp_path: Path, whole: pd.DataFrame) -> None:
    from PIL import Image

    whole.to_csv(tmp_path / "labels.csv", index=False)
    Image.new("L", (8, 8)).save(tmp_path / "x.png")
    assert open_source(tmp_path).modality == "image"
    assert open_source(tmp_path / "*.csv").modality == "table"


@pytest.mark.parametrize("opened", [lambda path: path.open("rb"), lambda path: io.BytesIO(path.read_bytes())])
def test_what_is_open_for_reading_is_a_csv_file(folder: Path, opened: Callable[[Path], io.BytesIO]) -> None:
    path = folder.parent / "whole.csv"
    with opened(path) as stream:
        source = open_source(stream).without(["late"])
    for _ in range(2):
        assert collect(source).columns == collect(open_source(path)).columns.drop_columns(["late"])
    with pytest.raises(DataError, match="the stream: the file is empty"):
        open_source(io.BytesIO())
    with pytest.raises(DataError, match="the stream: holds NUL bytes"):
        open_source(io.BytesIO(b"a,b\n\0,1\n"))


def test_a_temporary_file_lives_as_long_as_a_source_of_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    before = set(folder.iterdir())
    source = open_source(io.StringIO("a,b\n1,2\n3,4\n")).without(["a"])
    assert len(set(folder.iterdir()) - before) == 1
    assert collect(source).columns.to_pydict() == {"b": [2, 4]}
    del source
    assert set(folder.iterdir()) == before
