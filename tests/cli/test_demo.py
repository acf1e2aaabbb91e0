import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from memae.cli.demo import _print as print_text
from memae.datasets import data_root
from memae.demo import NOTES, FalseAlarms, Result
from tests.cli.conftest import Done
from tests.small_data import write_kddcup99

PICTURES = {
    "images": {"images-memae.png", "images-autoencoder.png", "images-items.png"},
    "table": {"table-memae.png", "table-autoencoder.png"},
}


def check(found: dict[str, Any], kinds: tuple[str, str]) -> None:
    """The object of `demo --json`: exactly the keys of the issue, and figures that make sense."""
    assert {*found} == {*kinds, "seconds", "folder"}
    for kind in kinds:
        assert {*found[kind]} == {"memae", "autoencoder", "untrained", "false_alarm_rate"}
        assert {*found[kind]["false_alarm_rate"]} == {"wanted", "measured"}
        for name in ("memae", "autoencoder", "untrained"):
            assert 0 < found[kind][name] <= 1
        assert found[kind]["memae"] > 0.9
        assert 0 <= found[kind]["false_alarm_rate"]["measured"] < 3 * found[kind]["false_alarm_rate"]["wanted"]
    assert found["seconds"] > 0
    folder = Path(found["folder"])
    assert folder.is_absolute()
    assert {path.name for path in folder.iterdir()} == set().union(*(PICTURES[kind] for kind in kinds))
    for path in folder.iterdir():
        with Image.open(path) as picture:
            assert min(picture.size) > 200
            assert len(np.unique(np.asarray(picture.convert("L")))) > 20


def test_one_json_object_with_the_figures_of_images_and_table_and_each_task_is_told(
    folder: Path, real_memae: Callable[..., Done]
) -> None:
    done = real_memae("demo", "--json", "--log-json")
    assert done.code == 0
    told = [json.loads(line) for line in done.err.splitlines()]
    assert [line["name"].split(": ")[-1] for line in told if line["event"] == "task"] == 2 * [
        "MemAE",
        "plain autoencoder",
        "untrained network",
    ]
    found = json.loads(done.out)  # nothing else stands on stdout
    assert told[-1]["images"] == found["images"]
    assert done.out.count("\n") == 1
    check(found, ("images", "table"))
    assert Path(found["folder"]) == (folder / "memae-demo").resolve()
    trained, untrained = found["images"]["memae"], found["images"]["untrained"]
    assert 1 - trained < (1 - untrained) / 5  # a fifth of the pairs that are ranked wrong, at most
    assert found["seconds"] < 60


def test_the_text_says_how_to_read_the_figures_of_the_bundled_data(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    alarms = FalseAlarms(wanted=0.05, measured=0.03)
    results = {kind: Result(0.9, 0.8, 0.7, alarms) for kind in ("images", "table")}
    print_text(results, NOTES["bundled"], 1.0, tmp_path)
    said = " ".join(capsys.readouterr().out.split())
    for note in NOTES["bundled"]:
        assert note in said
    assert "one compact cloud" in said
    assert "has the same narrow code here" in said


def test_the_last_line_of_the_text_is_the_folder(
    memae: Callable[..., Done], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_kddcup99(folder / "data")
    monkeypatch.setenv("MEMAE_DATA", str(folder / "data"))
    monkeypatch.setenv("COLUMNS", "50")  # the path is longer
    done = memae("demo", "--data", "kddcup99")
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[-1] == str((folder / "memae-demo-kddcup99").resolve())
    assert {path.name for path in Path(lines[-1]).iterdir()} == PICTURES["table"]
    for name in ("MemAE", "plain autoencoder", "untrained net", "false alarms, wanted", "false alarms, measured"):
        assert sum(name in line for line in lines) == 1
    assert "AUROC on held-out samples" in done.out
    assert all(line.startswith("KDDCUP99 10 %: attacks are the normal data: ") for line in done.err.splitlines())


@pytest.mark.real
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("data", "kind"), [("mnist", "images"), ("kddcup99", "table")])
def test_the_full_data_sets(request: pytest.FixtureRequest, data: str, kind: str) -> None:
    root = data_root().resolve()  # found from the directory of the checkout; none is a failure here, not a skip
    real_memae = request.getfixturevalue("real_memae")
    done = real_memae("demo", "--data", data, "--json", MEMAE_DATA=str(root), OMP_NUM_THREADS="2")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert {*found} == {kind, "seconds", "folder"}
    print(found)
    folder = Path(found["folder"])
    assert {path.name for path in folder.iterdir()} == PICTURES[kind]
    assert found[kind]["memae"] > {"mnist": 0.85, "kddcup99": 0.9}[data]
    alarms = found[kind]["false_alarm_rate"]
    assert alarms["measured"] == pytest.approx(alarms["wanted"], abs=0.03)
