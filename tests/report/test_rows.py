import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from memae.detector import Verdicts
from memae.report.rows import explanation_lines, write_verdicts
from memae.types import Box, Cell, Explanation, ItemUse, Key, Region
from memae.video.frames import FrameKey

THRESHOLD = 0.5


def chunk(keys: Sequence[Any], of_keys: list[float]) -> Verdicts:
    scores = np.array(of_keys, dtype=np.float64)
    return Verdicts(keys, scores, 1 / (1 + scores), scores > THRESHOLD, THRESHOLD)


NUMBERED = [chunk(range(3), [0.1, 0.7, 1 / 3]), chunk(range(3, 4), [1e-300]), chunk(range(4, 6), [1e300, 0.5])]
NAMES = ["a.png", 'with "quotes", and comma', "two\nlines", "ümlaut/ß.png", "", " space "]
NAMED = [chunk(NAMES[:4], [0.1, 0.7, 0.2, 0.9]), chunk(NAMES[4:], [0.3, 0.6])]


def rows_of(chunks: list[Verdicts]) -> list[tuple[Any, ...]]:
    return [(one.key, one.score, one.p_value, one.is_anomaly) for part in chunks for one in part]


def read(path: Path) -> list[tuple[int | str, float, float, bool]]:
    if path.suffix == ".parquet":
        return [tuple(row.values()) for row in pq.read_table(path).to_pylist()]
    if path.suffix == ".jsonl":
        return [tuple(json.loads(line).values()) for line in path.read_text(encoding="utf-8").splitlines()]
    with path.open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    key = int if all(row["key"].isdigit() for row in found) else str
    return [
        (key(row["key"]), float(row["score"]), float(row["p_value"]), row["is_anomaly"] == "true") for row in found
    ]


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
@pytest.mark.parametrize("chunks", [NUMBERED, NAMED], ids=["numbers", "names"])
def test_every_chunk_is_written_in_order_and_bit_for_bit(
    tmp_path: Path, chunks: list[Verdicts], suffix: str
) -> None:
    path = tmp_path / f"scores.{suffix}"
    assert write_verdicts(iter(chunks), path) == (6, sum(row[3] for row in rows_of(chunks)))
    assert read(path) == rows_of(chunks)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_csv_file_starts_with_plain_names_and_ends_with_a_line(tmp_path: Path) -> None:
    write_verdicts(iter(NUMBERED), tmp_path / "scores.csv")
    text = (tmp_path / "scores.csv").read_text()
    assert text.startswith("key,score,p_value,is_anomaly\n0,0.1,")
    assert text.endswith("\n")
    assert pacsv.read_csv(tmp_path / "scores.csv").num_rows == 6


def test_csv_goes_to_stdout_without_a_file(
    capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_verdicts(iter(NAMED), None)
    out, err = capfdbinary.readouterr()
    write_verdicts(iter(NAMED), tmp_path / "scores.csv")
    assert out == (tmp_path / "scores.csv").read_bytes()
    assert err == b""


FRAMES = [
    chunk([FrameKey('a, "b".mp4', 0, 0.0), FrameKey('a, "b".mp4', 1, 1 / 24)], [0.25, 0.75]),
    chunk([FrameKey("007", 0, 0.0), FrameKey("caf\udce9.mp4", 86_400 * 24, 86_400.0)], [1e-300, 2.0]),
]


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_a_frame_has_its_video_its_number_and_its_time_in_columns_of_their_own(
    tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"frames.{suffix}"
    assert write_verdicts(iter(FRAMES), path) == (4, 2)
    names = ["video", "frame", "time_s", "score", "p_value", "is_anomaly"]
    if suffix == "csv":
        with path.open(encoding="utf-8", newline="") as file:
            found = list(csv.DictReader(file))
        kinds = (str, int, float, float, float, lambda text: text == "true")
        rows = [tuple(kind(row[name]) for kind, name in zip(kinds, names, strict=True)) for row in found]
    elif suffix == "parquet":
        table = pq.read_table(path)
        assert [str(field.type) for field in table.schema] == [
            "string",
            "int64",
            "double",
            "double",
            "double",
            "bool",
        ]
        found = table.to_pylist()
        rows = [tuple(row.values()) for row in found]
    else:
        found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        rows = [tuple(row.values()) for row in found]
    assert [*found[0]] == names
    assert [row[:2] for row in rows] == [
        ('a, "b".mp4', 0),
        ('a, "b".mp4', 1),
        ("007", 0),
        (r"caf\xe9.mp4", 86_400 * 24),
    ]
    assert [row[2] for row in rows] == [0.0, 0.041667, 0.0, 86_400.0]  # to a microsecond
    assert [row[3:] for row in rows] == [row[1:] for row in rows_of(FRAMES)]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
@pytest.mark.parametrize("good", [0, 2])
@pytest.mark.parametrize("old", [None, "old"])
def test_a_failure_leaves_the_old_file_and_no_litter(
    tmp_path: Path, error: type[BaseException], suffix: str, good: int, old: str | None
) -> None:
    def failing() -> Iterator[Verdicts]:
        yield from NUMBERED[:good]
        raise error

    path = tmp_path / f"scores.{suffix}"
    if old:
        path.write_text(old)
    with pytest.raises(error):
        write_verdicts(failing(), path)
    assert [file.name for file in tmp_path.iterdir()] == ([path.name] if old else [])
    assert not old or path.read_text() == old


def test_a_failure_in_the_first_chunk_leaves_stdout_empty(capfd: pytest.CaptureFixture[str]) -> None:
    def failing() -> Iterator[Verdicts]:
        raise RuntimeError
        yield

    with pytest.raises(RuntimeError):
        write_verdicts(failing(), None)
    assert capfd.readouterr().out == ""


def test_any_key_that_is_no_row_number_becomes_text(tmp_path: Path) -> None:
    write_verdicts(iter([chunk([("a", 1), 2.5, None], [0, 0, 0])]), tmp_path / "scores.jsonl")
    assert [row[0] for row in read(tmp_path / "scores.jsonl")] == ["('a', 1)", "2.5", "None"]


def test_bytes_of_a_file_name_that_are_not_utf_8_are_shown(tmp_path: Path) -> None:
    for suffix in ("csv", "parquet", "jsonl"):
        write_verdicts(iter([chunk(["caf\udce9.png"], [0])]), tmp_path / f"scores.{suffix}")
        assert read(tmp_path / f"scores.{suffix}")[0][0] == r"caf\xe9.png"


def test_explanations_are_one_json_line_each(tmp_path: Path) -> None:
    cells = (Cell("weight [kg]", 3.5, 2.0, 0.75), Cell("kind", "new", "old", 0.25))
    of_row = Explanation(7, 1.0, 0.01, (ItemUse(3, 0.9), ItemUse(1, 0.1)), cells, None, None, None)
    image = np.zeros((1, 2, 2), np.float32)
    of_image = Explanation("ä.png", 0.5, None, (), (), image, image, image[0])
    with explanation_lines(tmp_path / "why.jsonl") as write:
        write(of_row)
        write(of_image)
    first, second = map(json.loads, (tmp_path / "why.jsonl").read_text(encoding="utf-8").splitlines())
    assert first == {
        "key": 7,
        "score": 1.0,
        "p_value": 0.01,
        "items": [{"item": 3, "weight": 0.9}, {"item": 1, "weight": 0.1}],
        "columns": [
            {"column": "weight [kg]", "seen": 3.5, "expected": 2.0, "error": 0.75},
            {"column": "kind", "seen": "new", "expected": "old", "error": 0.25},
        ],
    }
    assert second == {"key": "ä.png", "score": 0.5, "p_value": None, "items": [], "columns": []}
    with explanation_lines(tmp_path / "why.jsonl"):
        pass
    assert (tmp_path / "why.jsonl").read_text() == ""


FORMULAS = ["=cmd|' /C calc'!A0.png", "+1.png", "-2+3.png", "@SUM(A1).png", "\t=1", "\r=1", "a=b.png", "./=c.png"]


def test_no_name_becomes_a_formula_of_a_spreadsheet(tmp_path: Path) -> None:
    names = FORMULAS
    for suffix in ("csv", "parquet", "jsonl"):
        write_verdicts(iter([chunk(names, [0.1] * len(names))]), tmp_path / f"scores.{suffix}")
    assert [row[0] for row in read(tmp_path / "scores.csv")] == [*(f"'{name}" for name in names[:6]), *names[6:]]
    for suffix in ("parquet", "jsonl"):  # which no spreadsheet runs
        assert [row[0] for row in read(tmp_path / f"scores.{suffix}")] == names


def test_no_video_becomes_a_formula_and_numbers_below_0_stay_numbers(tmp_path: Path) -> None:
    frames = chunk([FrameKey("=1.mp4", 0, -0.5), FrameKey("=1.mp4", 1, 0.0)], [0.1, 0.2])
    write_verdicts(iter([frames, chunk([FrameKey("-.mp4", 0, 0.0)], [0.1])]), tmp_path / "scores.csv")
    lines = (tmp_path / "scores.csv").read_text().splitlines()
    assert [line.split(",")[:3] for line in lines[1:]] == [
        ['"\'=1.mp4"', "0", "-0.5"],
        ['"\'=1.mp4"', "1", "0"],
        ['"\'-.mp4"', "0", "0"],
    ]


def test_control_characters_of_names_are_shown_on_a_screen_and_kept_in_a_pipe(
    capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    for screen in (True, False):
        monkeypatch.setattr("sys.stdout.isatty", lambda screen=screen: screen, raising=False)
        write_verdicts(iter([chunk(["a\x1b[31m.png", "b.png"], [0.1, 0.2])]), None)
        out = capfdbinary.readouterr().out
        assert (b"\x1b" in out, rb"a\x1b[31m.png" in out) == (not screen, screen)


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_regions_are_a_list_and_in_csv_json_that_is_empty_where_there_are_none(
    tmp_path: Path, suffix: str
) -> None:
    regions: dict[Key, tuple[Region, ...]] = {
        "b": (Region(Box(1, 2, 30, 40), 500, 0.75), Region(Box(0, 0, 8, 8), 64, 0.6))
    }
    with_regions = [
        replace(chunk(["a", "b"], [0.1, 0.75]), regions=regions),
        replace(chunk(["c"], [0.2]), regions={}),
    ]
    write_verdicts(iter(with_regions), tmp_path / f"rows.{suffix}")
    if suffix == "csv":
        rows = list(csv.DictReader((tmp_path / "rows.csv").read_text(encoding="utf-8").splitlines()))
        assert [row["regions"] == "" for row in rows] == [True, False, True]
        found = json.loads(rows[1]["regions"])
    else:
        path = tmp_path / f"rows.{suffix}"
        rows = (
            pq.read_table(path).to_pylist()
            if suffix == "parquet"
            else list(map(json.loads, path.read_text().splitlines()))
        )
        assert rows[0]["regions"] == rows[2]["regions"] == []
        found = rows[1]["regions"]
    assert found[0] == {"left": 1, "top": 2, "right": 30, "bottom": 40, "area_px": 500, "score": 0.75}
    assert len(found) == 2
