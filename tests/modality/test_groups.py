"""Which samples belong together: by folder, by pattern, by a table of files, by a value for each."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from memae.errors import ConfigError, DataError
from memae.modality.groups import groups_of_files, groups_of_values

NAMES = ["a/part_1_left.png", "a/part_1_right.png", "b/part_2_left.png", "b/c/part_2_right.png"]


def grouped(group: object, names: list[str] = NAMES, paths: list[Path] | None = None) -> list[int]:
    found = groups_of_files(group, names, "parts", paths)
    assert found.dtype == np.int64
    numbers: list[int] = found.tolist()
    return numbers


def test_a_folder_is_a_group() -> None:
    assert grouped("folder") == [0, 0, 1, 2]


def test_what_a_pattern_finds_is_a_group() -> None:
    assert grouped(r"part_(\d+)") == [0, 0, 1, 1]
    assert grouped(r"^([^/]+)/") == [0, 0, 1, 1]


@pytest.mark.parametrize("values", [["x", "x", "y", "x"], np.array([7, 7, 2, 7]), pd.Series([0.5, 0.5, 1.0, 0.5])])
def test_equal_values_are_a_group(values: object) -> None:
    assert grouped(values) == [0, 0, 1, 0]


@pytest.mark.parametrize(
    ("folder", "rows"),
    [
        ("", ["shop/a/1.png,t1", "shop/a/2.png,t1", "shop/b/1.png,t2", "test/a/1.png,t9"]),  # its own folder
        ("shop", ["a/1.png,t1", "a/2.png,t1", "b/1.png,t2"]),
        ("elsewhere", ["a/1.png,t1", "a/2.png,t1", "b/1.png,t2"]),  # what is opened
        ("elsewhere", ["x/shop/a/1.png,t1", "x/shop/a/2.png,t1", "x/shop/b/1.png,t2"]),  # a common end
        ("elsewhere", ["x\\shop\\a\\1.png,t1", "./a/2.png,t1", "x/shop/b/1.png,t2"]),
    ],
)
@pytest.mark.parametrize("header", ["file,group", "group;note;file"])
def test_a_table_of_files_is_matched_by_its_place_or_by_what_is_opened(
    folder: str, rows: list[str], header: str, tmp_path: Path
) -> None:
    table = tmp_path / folder / "groups.csv"
    table.parent.mkdir(exist_ok=True)
    cells = [row.split(",") for row in rows]
    lines = [f"{group};;{file}" if ";" in header else f"{file},{group}" for file, group in cells]
    table.write_text("\n".join([header, *lines]))
    names = ["a/1.png", "a/2.png", "b/1.png"]
    assert grouped(str(table), names, [tmp_path / "shop" / name for name in names]) == [0, 0, 1]
    assert grouped(table, names, [tmp_path / "shop" / name for name in names]) == [0, 0, 1]


def test_its_own_folder_decides_between_equal_ends(tmp_path: Path) -> None:
    table = tmp_path / "groups.csv"
    table.write_text("file,group\ntrain/good/1.png,t1\ntest/good/1.png,t2\n")
    assert grouped(str(table), ["1.png"], [tmp_path / "test" / "good" / "1.png"]) == [0]
    with pytest.raises(
        DataError, match=r"1.png is the end of several paths with different groups; write the paths"
    ):
        grouped(str(table), ["1.png"], [Path("elsewhere/1.png")])


@pytest.mark.parametrize(
    ("group", "message"),
    [
        (
            "folder",
            r"parts: part_3.png lies in no folder below parts; sort it into one, or give a regular expression",
        ),
        (r"art_(\d)_", r"parts: part_3.png does not match the pattern 'art_\(\\d\)_' of `group`; give 'folder'"),
        (
            r"nothing (\d{2})",
            r"a/part_1_left.png does not match the pattern .* \(5 of 5 files are like this\); give",
        ),
        (["x"] * 3, "parts: `group` holds 3 values for 5 samples; give one for each sample, in their order"),
        (["x", "x", None, "x", "y"], "parts: `group` has no value for sample 2; give each sample a group"),
        ([0.5, float("nan"), 1, 1, 1], "`group` has no value for sample 1"),
        ([{}] * 5, "`group` holds {} for sample 0, which is no name; give numbers or texts"),
        (np.zeros((5, 1)), "`group` is of shape 5 x 1; give one value for each sample"),
    ],
)
def test_a_sample_without_a_group_is_an_error(group: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        grouped(group, [*NAMES, "part_3.png"])


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ("part", r"`group` 'part': a regular expression with no group in parentheses; give 'folder', a regular"),
        (r"(part)_(\d)", "a regular expression with 2 groups in parentheses"),
        ("part_(", "no regular expression .*; give 'folder'"),
    ],
)
def test_a_pattern_without_one_group_is_an_error(group: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        grouped(group)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read this table of groups .*; check the path"),
        (b"\xff\xfe\x00", "is not UTF-8 text; save the table of groups as UTF-8"),
        (b"", "has no column 'file' in its first line"),
        (
            b"file,host\na/1.png,x\n",
            r"has no column 'group' in its first line \(file,host\); write file,group there",
        ),
        (b"file,group\n", "lists no file; write one file with its group on each line"),
        (b"file,group\n,x\n", "line 2 lacks a file; fill it in, or remove the line"),
        (b"file,group\na/1.png,x\na/1.png,y\n", "line 3 gives a/1.png a second group; keep one of them"),
        (
            b"file,group\na/1.png,x\n",
            "has no group for 1 of the 2 files of parts, such as b/1.png; its paths are like a/1.png. Add a row",
        ),
    ],
)
def test_a_bad_table_of_files_is_an_error(content: bytes | None, message: str, tmp_path: Path) -> None:
    table = tmp_path / "groups.csv"
    if content is not None:
        table.write_bytes(content)
    with pytest.raises(DataError, match=rf"{table}: {message}"):
        grouped(str(table), ["a/1.png", "b/1.png"], [Path("a/1.png"), Path("b/1.png")])


def test_samples_in_memory_have_no_names() -> None:
    with pytest.raises(
        DataError, match="looks into names of files, and samples in memory have none; give one value"
    ):
        groups_of_files("folder", range(3), "the array")
    assert groups_of_values(range(3), 3, "the array").tolist() == [0, 1, 2]
