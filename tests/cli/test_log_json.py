"""--log-json: stderr holds JSON lines and nothing else, and each verb says what it did; progress off a terminal."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.cli.conftest import Done

BRIEF = ("--set", "train.epochs=2", "--set", "memory.num_items=12")


@pytest.fixture
def place(folder: Path, rows: pd.DataFrame, benign: pd.DataFrame, model: Callable[..., Path]) -> Path:
    benign.to_csv("ok.csv", index=False)
    rows.to_csv("all.csv", index=False)
    model("table", "flows.model")
    return folder


def events(done: Done) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in done.err.splitlines()]
    assert all(line["time"].endswith("Z") for line in lines)
    return lines


def last(done: Done) -> dict[str, Any]:
    return events(done)[-1]


def test_fit_tells_stages_epochs_and_the_model(memae: Callable[..., Done], place: Path) -> None:
    done = memae("fit", "ok.csv", "--out", "new.model", "--log-json", *BRIEF)
    assert (done.code, done.out) == (0, "")
    told = events(done)
    stages = [line["stage"] for line in told if line["event"] == "stage"]
    assert stages[:3] == ["reading", "fitting scales", "encoding"]
    assert stages[-1] == "setting the threshold"
    assert [line["epoch"] for line in told if line["event"] == "epoch" and line["stage"] == "training"] == [1, 2]
    result = told[-1]
    assert result["event"] == "result"
    assert result["model"] == str(place / "new.model")
    assert result["samples"]["training"] > 0
    assert result["threshold"]["value"] > 0


def test_score_tells_how_many_and_where_they_are(memae: Callable[..., Done], place: Path) -> None:
    done = memae(
        "score", "flows.model", "ok.csv", "--out", "s.csv", "--explain", "e.jsonl", "--log-json", "--quiet"
    )
    assert done.code == 0
    told = [line["event"] for line in events(done)]
    assert told == ["stage", "stage_end", "result"]
    result = last(done)
    assert (result["samples"], result["out"], result["explain"]) == (357, "s.csv", "e.jsonl")
    assert result["anomalies"] == sum(line.endswith("true") for line in (place / "s.csv").read_text().splitlines())


def test_evaluate_tells_the_figures_that_json_prints(memae: Callable[..., Done], place: Path) -> None:
    words = ("evaluate", "flows.model", "all.csv", "--label-column", "label", "--normal", "benign")
    done = memae(*words, "--log-json", "--json")
    told = last(done)
    assert told.pop("event") == "result"
    told.pop("time")
    assert told == json.loads(done.out)
    assert [line["stage"] for line in events(done) if line["event"] == "stage"] == ["scoring", "bootstrap"]


def test_video_tells_where_it_is_and_what_it_found(
    memae: Callable[..., Done], camera: Path, enter: tuple[str, str]
) -> None:
    done = memae("score", "camera.model", "clip.mp4", *enter, "--events", "e.jsonl", "--log-json")
    assert done.code == 0
    told = events(done)
    stages = {line["stage"]: line for line in told if line["event"] == "stage"}
    assert stages["scoring"]["unit"] == "frames"
    assert stages["scoring"]["total"] == pytest.approx(told[-1]["frames"], abs=2)
    assert told[-1]["events"] == 1
    assert told[-1]["event_file"] == "e.jsonl"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("score flows.model gone.csv", 1, "gone.csv: no such file or folder; check the path"),
        ("score flows.model ok.csv --out full/x.csv", 1, "full/x.csv"),
        ("score flows.model ok.csv --nonsense", 2, "No such option: --nonsense"),
        ("fit ok.csv", 2, "Missing option '--out'"),
    ],
)
def test_an_error_is_one_line_of_json_too(
    memae: Callable[..., Done], place: Path, words: str, code: int, message: str
) -> None:
    (place / "full").write_text("a file, not a folder")
    done = memae(*words.split(), "--log-json")
    assert (done.code, done.out) == (code, "")
    told = last(done)
    assert (told["event"], told["exit_code"]) == ("error", code)
    assert message in told["message"]


def test_off_a_terminal_there_is_no_progress_and_with_quiet_no_word(
    memae: Callable[..., Done], place: Path
) -> None:
    words = ("evaluate", "flows.model", "all.csv", "--label-column", "label", "--normal", "benign")
    assert memae(*words).err == ""
    assert memae("score", "flows.model", "ok.csv", "--quiet").err == ""
    assert memae("score", "flows.model", "ok.csv").err.count("\n") == 1
