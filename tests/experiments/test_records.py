import json
import math
import subprocess
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from experiments.records import Cell, CellError, cells_in

CELL = Cell("mnist", "memae", 1)
SETTINGS = {"train": {"epochs": 3, "noise": 0.0}, "network": "mnist", "size": (1, 2)}
RESULT = {"metrics": {"full": {"auroc": 0.9}}, "seconds": {"fit": 1.0, "score": 2.0}}


def add(root: Path, part: str = "8", settings: dict[str, Any] = SETTINGS, cell: Cell = CELL) -> None:
    cell.add(root, part, "python -m experiments run ...", settings, RESULT)


def test_a_cell_is_written_with_all_that_it_takes_to_run_it_again(tmp_path: Path) -> None:
    add(tmp_path)
    path = tmp_path / "mnist" / "memae" / "seed-1.json"
    found = json.loads(path.read_text())
    part = found["parts"].pop("8")
    assert found == {
        "data": "mnist",
        "method": "memae",
        "seed": 1,
        "command": "python -m experiments run ...",
        "settings": {"train": {"epochs": 3, "noise": 0.0}, "network": "mnist", "size": [1, 2]},
        "parts": {},
    }
    assert {key: part[key] for key in RESULT} == RESULT
    command = ["git", "rev-parse", "--short", "HEAD"]
    here = Path(__file__).parent
    commit = subprocess.run(command, cwd=here, capture_output=True, text=True, check=False).stdout.strip()
    assert part["commit"].removesuffix("+changes") == commit
    assert "cores" in part["hardware"]
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_parts_are_added_to_those_that_are_there(tmp_path: Path) -> None:
    assert CELL.parts(tmp_path) == set()
    add(tmp_path, "8")
    first = CELL.read(tmp_path)["parts"]["8"]
    add(tmp_path, "2")
    found = CELL.read(tmp_path)
    assert list(found["parts"]) == ["2", "8"]
    assert found["parts"]["8"] == first
    assert CELL.parts(tmp_path) == {"2", "8"}


def test_a_file_is_strict_json_whatever_a_method_says_of_itself(tmp_path: Path) -> None:
    facts = {"loss": [1.0, float("nan"), -math.inf], "best": np.float32(0.5), "shape": np.array([1, 2])}
    CELL.add(tmp_path, "8", "", {**SETTINGS, "width": np.int64(3)}, {**RESULT, "facts": facts})
    CELL.add(tmp_path, "2", "", {**SETTINGS, "width": 3}, RESULT)

    def never(constant: Any) -> NoReturn:
        raise AssertionError(constant)

    found = json.loads(CELL.path(tmp_path).read_text(), parse_constant=never)
    assert found["parts"]["8"]["facts"] == {"loss": [1.0, None, None], "best": 0.5, "shape": [1, 2]}
    with pytest.raises(TypeError, match="Path is no JSON type"):
        CELL.add(tmp_path, "4", "", SETTINGS | {"width": 3}, {"facts": Path.cwd()})
    assert CELL.parts(tmp_path) == {"2", "8"}
    assert [file.name for file in CELL.path(tmp_path).parent.iterdir()] == ["seed-1.json"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({**SETTINGS, "network": "image"}, "network was mnist, is image"),
        ({**SETTINGS, "train": {"epochs": 4, "noise": 0.0}}, r"train\.epochs was 3, is 4"),
        ({**SETTINGS, "train": {"epochs": 3, "noise": 0.1}}, r"train\.noise was 0\.0, is 0\.1"),
        ({**SETTINGS, "size": (1, 3)}, r"size was \[1, 2\], is \[1, 3\]"),
        ({**SETTINGS, "new": {"deep": "on"}}, r"new\.deep was None, is on"),
        ({**SETTINGS, "train": {}}, r"train\.epochs was 3, is None"),
        ({**SETTINGS, "image": {"pool": "max"}}, r"image\.pool was mean, is max"),
    ],
)
def test_a_cell_of_other_settings_is_refused_and_stays_as_it_is(
    tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    add(tmp_path, "8")
    before = CELL.path(tmp_path).read_bytes()
    with pytest.raises(
        CellError, match=rf"seed-1\.json: was made with other settings \({said}\); remove the file"
    ):
        add(tmp_path, "2", changed)
    assert CELL.path(tmp_path).read_bytes() == before


@pytest.mark.parametrize(
    "changed",
    [
        {**SETTINGS, "image": {"pool": "mean"}, "memory": {"trained": True}},
        {**SETTINGS, "train": {"epochs": 3, "noise": 0.0, "decay_share": 0.0}},
        {**SETTINGS, "train": {"epochs": 3}},
        {**SETTINGS, "new": {"deep": None, "also": False}},
    ],
)
def test_a_setting_that_came_or_went_and_is_off_makes_no_difference(
    tmp_path: Path, changed: dict[str, Any]
) -> None:
    add(tmp_path, "8")
    add(tmp_path, "2", changed)
    assert CELL.parts(tmp_path) == {"2", "8"}


def test_a_cell_that_was_made_under_the_old_name_of_its_network_is_that_of_the_present_one(tmp_path: Path) -> None:
    add(tmp_path, "8", {**SETTINGS, "network": "thumbnail"})
    add(tmp_path, "2", {**SETTINGS, "network": "small"})
    assert CELL.parts(tmp_path) == {"2", "8"}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "is no JSON"),
        ("[]", "is not the file of mnist memae seed 1"),
        ('{"data": "mnist", "method": "kde", "seed": 1, "parts": {}}', "is not the file of mnist memae seed 1"),
        ('{"data": "mnist", "method": "memae", "seed": 1}', "is not the file of"),
    ],
)
def test_a_file_that_is_no_such_cell_is_named(tmp_path: Path, content: str, complaint: str) -> None:
    path = CELL.path(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(CellError, match=rf"seed-1\.json: {complaint}"):
        CELL.read(tmp_path)


def test_all_cells_of_a_folder_in_order_of_their_seeds(tmp_path: Path) -> None:
    for seed in (10, 9, 0):
        add(tmp_path, cell=Cell("mnist", "memae", seed))
    add(tmp_path, cell=Cell("kddcup99", "kde", 3))
    assert [cell for cell, _ in cells_in(tmp_path)] == [
        Cell("kddcup99", "kde", 3),
        *(Cell("mnist", "memae", seed) for seed in (0, 9, 10)),
    ]
