"""Progress as lines: of a log, for machines, and the epochs of a training in files."""

import io
import json
import logging
import re
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from memae import Detector
from memae.progress import (
    Count,
    End,
    JsonLines,
    JsonLog,
    Plan,
    Planned,
    ProgressLines,
    Stage,
    TensorBoard,
    Warn,
    several,
    stage,
)
from memae.video.frames import FrameKey
from tests.progress.following import Clock, health, record

ROWS = np.random.default_rng(0).normal(size=(60, 6))


class TestProgressLines:
    def test_a_line_comes_again_and_again_while_nothing_happens(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "memae")
        lines = ProgressLines(every_s=0.1)
        with stage(lines, "moving the items", "rounds"):
            time.sleep(0.35)
        said = [line.getMessage() for line in caplog.records]
        assert said == ["moving the items, 0:00:00"] * len(said)
        assert 2 <= len(said) <= 4

    def test_short_stages_one_after_the_other_are_told_as_a_long_one_is(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "memae")
        lines = ProgressLines(every_s=0.2)
        for number in range(10):
            with stage(lines, f"stage {number}", "rows", 2) as done:
                time.sleep(0.02)
                done(1, "here")
                time.sleep(0.02)
        said = [line.getMessage() for line in caplog.records]
        assert 1 <= len(said) <= 2
        assert re.match(r"stage \d, ", said[0])

    def test_what_is_over_soon_says_nothing(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "memae")
        lines = ProgressLines()
        with stage(lines, "scoring", "rows", 10) as done:
            done(10)
        assert caplog.records == []

    def test_a_training_says_epoch_loss_and_the_time_of_the_whole_job(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "memae")
        lines = ProgressLines(every_s=0.1)
        lines(Plan((Planned("training", 0.1, training=True), Planned("setting the threshold", 100))))
        with stage(lines, "training", "samples", 100, epochs=2) as done:
            done(50, None, lambda: 0.5)
            time.sleep(0.15)
        said = caplog.records[0].getMessage()
        assert re.fullmatch(r"training, epoch 1/2, 50%, 0:0\d:\d\d left, [\d,]+ samples/s, loss 0.5", said)
        assert not said.split(" left")[0].endswith("0:00:00")

    def test_warnings_come_at_once(self, caplog: pytest.LogCaptureFixture) -> None:
        ProgressLines()(Warn("out of memory"))
        assert [(line.levelname, line.getMessage()) for line in caplog.records] == [("WARNING", "out of memory")]


def said(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_the_log_for_machines_has_a_line_for_all_that_happens_and_progress_once_a_second(clock: Clock) -> None:
    stream = io.StringIO()
    log = JsonLog(stream)
    with stage(log, "scoring", "frames", Count(100, exact=False)) as done:
        for number in range(50):
            clock.now += 0.1
            done(1, FrameKey("gate.mp4", number, number / 10))
        log(Warn("slow"))
    lines = said(stream)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time")) for line in lines)
    assert lines[0] == {"event": "stage", "stage": "scoring", "unit": "frames", "total": 100, "exact": False}
    progress = [line for line in lines if line["event"] == "progress"]
    assert len(progress) in (4, 5)
    assert progress[0]["done"] in (10, 11)
    assert progress[0] == {
        "event": "progress",
        "stage": "scoring",
        "unit": "frames",
        "done": progress[0]["done"],
        "total": 100,
        "rate": 10,
        "left_s": pytest.approx((100 - progress[0]["done"]) / 10),
        "job_left_s": None,
        "place": str(FrameKey("gate.mp4", 9, (progress[0]["done"] - 1) / 10)),
    }
    assert lines[-2:] == [
        {"event": "warning", "message": "slow"},
        {"event": "stage_end", "stage": "scoring", "done": 50, "seconds": 5.0},
    ]


def test_the_log_for_machines_has_the_epochs_of_a_real_training() -> None:
    stream = io.StringIO()
    settings = {"train": {"epochs": 3}, "memory": {"num_items": 12, "warmup_epochs": 2, "initialisation": "data"}}
    detector = Detector("table-paper", settings=settings).fit(ROWS, progress=JsonLog(stream))
    lines = said(stream)
    named = [(line["stage"], line["epoch"]) for line in lines if line["event"] == "epoch"]
    assert named == [("warming up", 1), ("warming up", 2), ("training", 1), ("training", 2), ("training", 3)]
    last = next(line for line in reversed(lines) if line["event"] == "epoch")
    assert last["loss"] == detector.history.records[-1].loss
    assert last["memory"] == asdict(detector.history.records[-1].memory)
    assert last["held_out_terms"] == detector.history.records[-1].held_out_terms
    assert last["held_out_terms"].keys() == {"entropy"}
    stages = [line["stage"] for line in lines if line["event"] == "stage"]
    assert stages == [
        "reading",
        "fitting scales",
        "encoding",
        "warming up",
        "encoding for the memory",
        f"starting the memory ({detector.config.memory.initialisation})",
        "counting the use of items",
        "setting the threshold",
    ]
    begun = [
        line["event"] for line in lines if line["event"] in ("stage", "stage_end", "training", "training_end")
    ]
    assert begun.count("stage") == begun.count("stage_end") == 8
    assert begun.count("training") == begun.count("training_end") == 2


def test_a_memory_that_is_filled_at_the_end_is_told_after_the_training() -> None:
    stream = io.StringIO()
    Detector(settings={"train": {"epochs": 2}, "memory": {"num_items": 12}}).fit(ROWS, progress=JsonLog(stream))
    told = [line.get("stage", "training") for line in said(stream) if line["event"] in ("stage", "training")]
    assert told[2:6] == ["encoding", "training", "encoding for the memory", "starting the memory (data)"]


def test_the_log_for_machines_holds_nothing_that_json_cannot() -> None:
    stream = io.StringIO()
    JsonLog(stream).say("result", loss=float("nan"), interval=(1.0, float("inf")), deep={"x": [float("-inf")]})
    (line,) = said(stream)
    assert (line["loss"], line["interval"], line["deep"]) == (None, [1.0, None], {"x": [None]})


def test_lines_of_other_loggers_are_json_as_well() -> None:
    stream = io.StringIO()
    handler = JsonLog(stream).handler
    for level in (logging.INFO, logging.WARNING):
        handler.handle(logging.LogRecord("av", level, "x.py", 1, "%d frames", (3,), None))
    assert [(line["event"], line["message"]) for line in said(stream)] == [
        ("note", "3 frames"),
        ("warning", "3 frames"),
    ]


def test_a_job_has_its_time_left_beside_that_of_the_stage(clock: Clock) -> None:
    stream = io.StringIO()
    log = JsonLog(stream)
    log(Plan((Planned("scoring", 1), Planned("setting the threshold", 3))))
    with stage(log, "scoring", "rows", 100) as done:
        clock.now += 1
        done(50)
    told = next(line for line in said(stream) if line["event"] == "progress")
    assert (told["left_s"], told["job_left_s"]) == (1.0, 7.0)


def training(epochs: int, done: int) -> Stage:
    return Stage("training", "samples", Count(100 * epochs), 100 * done, epochs)


def test_a_line_holds_the_whole_record(tmp_path: Path) -> None:
    lines = JsonLines(tmp_path / "deep" / "train.jsonl")
    lines(training(3, 0))
    first, second = record(1, memory=health()), record(2, held_out_loss=None)
    lines(first)
    lines(second)
    text = (tmp_path / "deep" / "train.jsonl").read_text()
    assert [json.loads(line) for line in text.splitlines()] == [asdict(first), asdict(second)]
    assert text.endswith("\n")


def epochs(path: Path) -> list[int]:
    return [json.loads(line)["epoch"] for line in path.read_text().splitlines()]


@pytest.mark.parametrize(("done", "kept"), [(0, []), (2, [1, 2]), (4, [1, 2, 3, 4]), (6, [1, 2, 3, 4])])
def test_lines_beyond_a_resumed_epoch_are_dropped_and_a_new_training_starts_anew(
    tmp_path: Path, done: int, kept: list[int]
) -> None:
    path = tmp_path / "train.jsonl"
    lines = JsonLines(path)
    lines(training(9, 0))
    for epoch in (1, 2, 3, 4):
        lines(record(epoch))
    again = JsonLines(path)
    again(training(9, done))
    assert epochs(path) == kept
    again(record(done + 1))
    assert epochs(path) == [*kept, done + 1]


def points(path: Path, tag: str = "loss/training") -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in EventAccumulator(str(path)).Reload().Scalars(tag)]


def test_tensorboard_gets_loss_speed_and_every_figure_of_the_memory(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path)
    board(training(3, 0))
    board(record(1, loss=0.5, held_out_loss=0.25, memory=health()))
    board(record(2, loss=0.125, held_out_loss=None))
    board(End(training(9, 0)))
    assert points(tmp_path) == [(1, 0.5), (2, 0.125)]
    assert points(tmp_path, "loss/held_out") == [(1, 0.25)]
    assert points(tmp_path, "speed/samples_per_second") == [(1, 12_345.0), (2, 12_345.0)]
    tags = EventAccumulator(str(tmp_path)).Reload().Tags()["scalars"]
    assert {tag for tag in tags if tag.startswith("memory/")} == {f"memory/{name}" for name in asdict(health())}
    assert points(tmp_path, "memory/items_used") == [(1, 41.0)]


@pytest.mark.parametrize(("done", "shown"), [(0, [(1, 0.25)]), (2, [(1, 0.5), (2, 0.5), (3, 0.25)])])
def test_tensorboard_shows_one_curve_after_a_resume_and_after_a_warm_up(
    tmp_path: Path, done: int, shown: list[tuple[int, float]]
) -> None:
    board = TensorBoard(tmp_path)
    board(training(9, 0))
    for epoch in (1, 2, 3, 4):
        board(record(epoch, loss=0.5))
    board(End(training(9, 0)))
    board(training(9, done))
    board(record(done + 1, loss=0.25))
    board(End(training(9, 0)))
    assert points(tmp_path) == shown


def test_tensorboard_reads_trainings_in_their_order(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path)
    for loss in (0.5, 0.25):
        board(training(9, 0))
        board(record(1, loss=loss))
        board(End(training(9, 0)))
    # within a second the order of the names hangs on a counter, and "10" comes before "9"
    assert len({file.name.split(".")[3] for file in tmp_path.glob("events.out.tfevents.*")}) == 2
    assert points(tmp_path) == [(1, 0.25)]


def test_logs_of_a_training_with_a_warm_up_hold_the_main_training(tmp_path: Path) -> None:
    settings = {"train": {"epochs": 3}, "memory": {"num_items": 12, "warmup_epochs": 5}}
    progress = several(JsonLines(tmp_path / "train.jsonl"), TensorBoard(tmp_path))
    detector = Detector("table-paper", settings=settings).fit(ROWS, progress=progress)
    losses = [line.loss for line in detector.history.records]
    assert epochs(tmp_path / "train.jsonl") == [1, 2, 3]
    assert [step for step, _ in points(tmp_path)] == [1, 2, 3]
    assert [value for _, value in points(tmp_path)] == pytest.approx(losses)


def test_without_the_package_the_message_is_the_install_command() -> None:
    code = """
import sys
sys.modules["tensorboard"] = None  # as if it were not installed
from memae.errors import MissingExtraError
from memae.progress import TensorBoard
try:
    TensorBoard("nowhere")
except MissingExtraError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (
        done.stdout
        == "writing TensorBoard logs needs the extra 'tensorboard': run  pip install 'memae[tensorboard]'\n"
    )
