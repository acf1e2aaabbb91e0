import io
import json
import re
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from memae import Detector
from memae.memory.usage import MemoryHealth
from memae.progress import JsonLines, JsonLog, Monitors, ProgressBar, TensorBoard
from memae.stages import Count, stage
from memae.training.history import EpochRecord
from memae.types import FrameKey

ROWS = np.random.default_rng(0).normal(size=(60, 6))


def health(**changes):
    values = {"items": 50, "items_used": 41, "items_dead": 9, "items_twin": 3, "items_per_query": 4.25}
    return MemoryHealth(**{**values, "rescued_share": 0.0, **changes})


def record(epoch, loss=0.5, held_out_loss=0.625, memory=None, speed=12_345.0):
    return EpochRecord(epoch, loss, held_out_loss, 1.0, speed, memory)


def terminal(width=80):
    return Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)


def screens(console):
    """What stood on the screen, picture by picture, without the codes that move the cursor."""
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())
    return [line.rstrip() for line in re.split(r"[\r\n]+", plain) if line.strip()]


def test_the_bar_shows_epoch_loss_items_speed_and_time_left_on_a_usual_screen():
    console = terminal(80)
    bar = ProgressBar(console)
    bar.begin(epochs=5, samples=100, done=0)
    bar.step(50, lambda: 0.75)
    bar.step(50, lambda: 0.7)
    bar.epoch(record(1, memory=health(rescued_share=0.25)))
    bar.end()
    *_, first, second = screens(console)
    assert re.fullmatch(r"epoch 2/5 [━╸╺ ]{20,} \d:\d\d:\d\d left \d:\d\d:\d\d", first)
    assert second == "loss 0.5, held-out 0.625, items 41/50, 4.2 a query, 25% rescued, 12,345/s"
    assert all(len(line) <= 80 for line in screens(console))


def test_within_an_epoch_the_bar_shows_the_loss_so_far():
    console = terminal()
    bar = ProgressBar(console)
    bar.begin(epochs=5, samples=100, done=0)
    bar.step(50, lambda: 0.75)
    bar.end()
    assert screens(console)[-1] == "loss 0.75"


def test_the_loss_is_not_asked_for_at_every_step():
    asked = []

    def loss():
        asked.append(1)
        return 0.5

    bar = ProgressBar(terminal())
    bar.begin(epochs=5, samples=10_000, done=0)
    for _ in range(1000):
        bar.step(10, loss)
    bar.end()
    assert 1 <= len(asked) <= 20  # each waits for the device


def test_the_bar_of_a_resumed_training_starts_where_it_stopped():
    console = terminal(200)
    bar = ProgressBar(console)
    bar.begin(epochs=4, samples=100, done=2)
    assert bar._bar.tasks[0].percentage == 50
    bar.step(100, lambda: 0.5)
    assert bar._bar.tasks[0].percentage == 75
    bar.end()
    assert screens(console)[-2].startswith("epoch 3/4")


def test_a_narrow_screen_cuts_the_facts_and_nothing_breaks():
    console = terminal(40)
    bar = ProgressBar(console)
    bar.begin(epochs=5, samples=100, done=0)
    bar.epoch(record(1, memory=health()))
    bar.end()
    *_, first, second = screens(console)
    assert first.startswith("epoch 2/5")
    assert "left" in first
    assert second.startswith("loss 0.5, held-out")
    assert second.endswith("…")
    assert max(map(len, screens(console))) <= 40


def test_off_a_terminal_the_bar_is_silent_and_asks_for_no_loss():
    console = Console(file=io.StringIO())

    def never():
        raise AssertionError("it waited for the device")

    bar = ProgressBar(console)
    bar.begin(epochs=5, samples=100, done=0)
    bar.step(50, never)
    bar.epoch(record(1, memory=health()))
    bar.end()
    assert console.file.getvalue() == ""


class Clock:
    """The time that the monitors see."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("memae.progress.time.monotonic", clock)
    return clock


def line_of(bar, width=80):
    """The line that would stand on the screen now."""
    shown = terminal(width)
    shown.print(bar._line())
    return screens(shown)


@pytest.mark.parametrize("width", [80, 120])
def test_a_stage_shows_what_how_far_how_fast_and_how_long_still(clock, width):
    bar = ProgressBar(terminal(width))
    with stage(bar, "encoding", "rows", 10_000) as done:
        clock.now += 2
        done(2_500)
        (line,) = line_of(bar, width)
        assert re.fullmatch(r"encoding +[━╸╺ ]{20,} +25%, 1,250 rows/s, 0:00:06 left", line)
        assert width - 2 <= len(line) <= width


def test_a_total_that_is_not_known_leaves_count_speed_place_and_time(clock):
    bar = ProgressBar(terminal())
    with stage(bar, "scoring", "frames") as done:
        clock.now += 2
        done(30, FrameKey("gate [1].mp4", 29, 2.9))
        assert line_of(bar) == ["scoring  30 frames, 15 frames/s, gate [1].mp4 at 2.9 s, 0:00:02"]


def test_a_total_that_was_told_from_a_size_is_never_quite_reached(clock):
    bar = ProgressBar(terminal())
    with stage(bar, "scoring", "rows", Count(100, exact=False)) as done:
        clock.now += 2
        done(50)
        assert line_of(bar)[0].endswith("~50%, 25 rows/s, 0:00:02 left")
        done(70)
        assert line_of(bar)[0].endswith("~99%, 60 rows/s")


def test_less_than_one_a_second_is_shown_with_two_figures(clock):
    bar = ProgressBar(terminal())
    with stage(bar, "scoring", "clips", 100) as done:
        clock.now += 7
        done(3)
        assert line_of(bar)[0].endswith("3%, 0.43 clips/s, 0:03:46 left")


def test_the_speed_is_that_of_the_last_ten_seconds(clock):
    bar = ProgressBar(terminal())
    with stage(bar, "scoring", "rows", 10_000) as done:
        clock.now += 60  # a slow start
        done(100)
        assert line_of(bar)[0].endswith("1%, 1.7 rows/s, 1:39:00 left")
        for _ in range(20):
            clock.now += 1
            done(100)
        assert line_of(bar)[0].endswith("21%, 100 rows/s, 0:01:19 left")


def test_what_is_over_soon_is_not_shown(clock):
    bar = ProgressBar(terminal())
    with stage(bar, "encoding", "rows", 100) as done:
        clock.now += 0.4
        done(50)
        assert line_of(bar) == []
        clock.now += 0.2
        assert len(line_of(bar)) == 1


def test_what_tells_nothing_on_the_way_shows_its_time(clock):
    bar = ProgressBar(terminal())
    with stage(bar, "starting the memory", "items"):
        clock.now += 65
        assert line_of(bar) == ["starting the memory  0:01:05"]


def test_the_inner_of_two_stages_is_shown_and_then_the_outer_one_again(clock):
    bar = ProgressBar(terminal())
    with stage(bar, "outer", "things"):
        clock.now += 1
        with stage(bar, "inner", "parts"):
            clock.now += 1
            assert line_of(bar) == ["inner  0:00:01"]
        assert line_of(bar) == ["outer  0:00:02"]
    assert line_of(bar) == []


@pytest.mark.parametrize("place", ["gate [1].mp4", "[/b].mp4", "[red]gate.mp4", "x" * 200, "ümlaut 門.mp4"])
@pytest.mark.parametrize("total", [None, 10])
def test_any_name_of_a_place_is_shown_as_it_is_and_cut_at_the_edge(clock, place, total):
    bar = ProgressBar(terminal())
    with stage(bar, "scoring", "frames", total) as done:
        clock.now += 1
        done(3, place)
        shown = line_of(bar)
    assert place[:20] in shown[-1]
    assert all(len(line) <= 80 for line in shown)


def test_a_stage_leaves_nothing_on_the_screen():
    console = terminal()
    with stage(ProgressBar(console), "scoring", "rows", 100) as done:
        done(100)
    assert screens(console) == []


def test_a_stage_that_fails_ends_as_well():
    bar = ProgressBar(terminal())
    with pytest.raises(ValueError, match="no"), stage(bar, "scoring", "rows"):
        raise ValueError("no")
    assert bar._stages == []
    assert bar._live is None


def test_a_training_within_a_stage_bears_its_name():
    console = terminal()
    bar = ProgressBar(console)
    with stage(bar, "warming up", "epochs", 5):
        bar.begin(epochs=5, samples=100, done=0)
        bar.step(100, lambda: 0.5)
        bar.end()
    assert any(line.startswith("warming up, epoch 1/5 ━") for line in screens(console))


@pytest.mark.parametrize(
    "bar",
    [lambda file: ProgressBar(Console(file=file)), lambda file: ProgressBar(terminal_on(file), silent=True)],
    ids=["off a terminal", "silent"],
)
def test_off_a_terminal_or_silent_there_are_only_warnings(bar, clock):
    file = io.StringIO()
    watcher = bar(file)
    with stage(watcher, "scoring", "rows", 10) as done:
        clock.now += 5
        done(10, "somewhere")
        assert file.getvalue() == ""
        watcher.warn("out of memory with 512 [samples] at once")
    assert file.getvalue() == "warning: out of memory with 512 [samples] at once\n"


def terminal_on(file):
    return Console(file=file, force_terminal=True, width=80, color_system=None)


def said(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_the_log_for_machines_has_a_line_for_all_that_happens_and_progress_once_a_second(clock):
    stream = io.StringIO()
    log = JsonLog(stream)
    with stage(log, "scoring", "frames", Count(100, exact=False)) as done:
        for number in range(50):
            clock.now += 0.1
            done(1, FrameKey("gate.mp4", number, number / 10))
        log.warn("slow")
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
        "place": str(FrameKey("gate.mp4", 9, (progress[0]["done"] - 1) / 10)),
    }
    assert lines[-2:] == [
        {"event": "warning", "message": "slow"},
        {"event": "stage_end", "stage": "scoring", "done": 50, "seconds": 5.0},
    ]


def test_the_log_for_machines_has_the_epochs_of_a_real_training():
    stream = io.StringIO()
    settings = {"train": {"epochs": 3}, "memory": {"num_items": 12, "warmup_epochs": 2, "initialisation": "data"}}
    detector = Detector("table-paper", settings=settings).fit(ROWS, monitor=JsonLog(stream))
    lines = said(stream)
    named = [(line["stage"], line["epoch"]) for line in lines if line["event"] == "epoch"]
    assert named == [("warming up", 1), ("warming up", 2), ("training", 1), ("training", 2), ("training", 3)]
    last = next(line for line in reversed(lines) if line["event"] == "epoch")
    assert last["loss"] == detector.history.records[-1].loss
    assert last["memory"] == asdict(detector.history.records[-1].memory)
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


def test_a_memory_that_is_filled_at_the_end_is_told_after_the_training():
    stream = io.StringIO()
    Detector(settings={"train": {"epochs": 2}, "memory": {"num_items": 12}}).fit(ROWS, monitor=JsonLog(stream))
    told = [line.get("stage", "training") for line in said(stream) if line["event"] in ("stage", "training")]
    assert told[2:6] == ["encoding", "training", "encoding for the memory", "starting the memory (data)"]


def test_the_log_for_machines_holds_nothing_that_json_cannot():
    stream = io.StringIO()
    JsonLog(stream).say("result", loss=float("nan"), interval=(1.0, float("inf")), deep={"x": [float("-inf")]})
    (line,) = said(stream)
    assert (line["loss"], line["interval"], line["deep"]) == (None, [1.0, None], {"x": [None]})


def test_no_epochs_make_no_bar():
    console = terminal()
    bar = ProgressBar(console)
    bar.begin(epochs=0, samples=100, done=0)
    bar.end()
    assert console.file.getvalue() == ""


def test_a_real_training_moves_the_bar_to_its_end():
    console = terminal()
    settings = {"train": {"epochs": 3}, "memory": {"num_items": 12, "warmup_epochs": 0}}
    detector = Detector("table-paper", settings=settings).fit(ROWS, monitor=ProgressBar(console))
    last = detector.history.records[-1]
    *_, first, second = screens(console)
    assert first.startswith("epoch 3/3 ━")
    assert first.endswith("left 0:00:00")
    assert f"loss {last.loss:.4g}, held-out {last.held_out_loss:.4g}, items {last.memory.items_used}/12" in second


def test_several_monitors_are_told_in_turn():
    class Told(list):
        def begin_stage(self, one):
            self.append(("stage", one.name))

        def advance(self, count, place=None):
            self.append(("advance", count, place))

        def end_stage(self):
            self.append(("over",))

        def warn(self, message):
            self.append(("warn", message))

        def begin(self, *what):
            self.append(("begin", *what))

        def step(self, samples, loss):
            self.append(("step", samples, loss()))

        def epoch(self, one):
            self.append(("epoch", one))

        def end(self):
            self.append(("end",))

    first, second = Told(), Told()
    both = Monitors([first, second])
    with stage(both, "warming up", "epochs") as done:
        done(2, "here")
    both.warn("slow")
    both.begin(3, 100, 1)
    both.step(10, lambda: 0.5)
    both.epoch(record(2))
    both.end()
    told = [("stage", "warming up"), ("advance", 2, "here"), ("over",), ("warn", "slow")]
    assert first == second == [*told, ("begin", 3, 100, 1), ("step", 10, 0.5), ("epoch", record(2)), ("end",)]


def test_a_line_holds_the_whole_record(tmp_path):
    lines = JsonLines(tmp_path / "deep" / "train.jsonl")
    lines.begin(3, 100, 0)
    first, second = record(1, memory=health()), record(2, held_out_loss=None)
    lines.epoch(first)
    lines.epoch(second)
    lines.end()
    text = (tmp_path / "deep" / "train.jsonl").read_text()
    assert [json.loads(line) for line in text.splitlines()] == [asdict(first), asdict(second)]
    assert text.endswith("\n")


def epochs(path):
    return [json.loads(line)["epoch"] for line in path.read_text().splitlines()]


@pytest.mark.parametrize(("done", "kept"), [(0, []), (2, [1, 2]), (4, [1, 2, 3, 4]), (6, [1, 2, 3, 4])])
def test_lines_beyond_a_resumed_epoch_are_dropped_and_a_new_training_starts_anew(tmp_path, done, kept):
    path = tmp_path / "train.jsonl"
    lines = JsonLines(path)
    lines.begin(9, 100, 0)
    for epoch in (1, 2, 3, 4):
        lines.epoch(record(epoch))
    again = JsonLines(path)
    again.begin(9, 100, done)
    assert epochs(path) == kept
    again.epoch(record(done + 1))
    assert epochs(path) == [*kept, done + 1]


def points(path, tag="loss/training"):
    return [(point.step, point.value) for point in EventAccumulator(str(path)).Reload().Scalars(tag)]


def test_tensorboard_gets_loss_speed_and_every_figure_of_the_memory(tmp_path):
    board = TensorBoard(tmp_path)
    board.begin(3, 100, 0)
    board.epoch(record(1, loss=0.5, held_out_loss=0.25, memory=health()))
    board.epoch(record(2, loss=0.125, held_out_loss=None))
    board.end()
    assert points(tmp_path) == [(1, 0.5), (2, 0.125)]
    assert points(tmp_path, "loss/held_out") == [(1, 0.25)]
    assert points(tmp_path, "speed/samples_per_second") == [(1, 12_345.0), (2, 12_345.0)]
    tags = EventAccumulator(str(tmp_path)).Reload().Tags()["scalars"]
    assert {tag for tag in tags if tag.startswith("memory/")} == {f"memory/{name}" for name in asdict(health())}
    assert points(tmp_path, "memory/items_used") == [(1, 41.0)]


@pytest.mark.parametrize(("done", "shown"), [(0, [(1, 0.25)]), (2, [(1, 0.5), (2, 0.5), (3, 0.25)])])
def test_tensorboard_shows_one_curve_after_a_resume_and_after_a_warm_up(tmp_path, done, shown):
    board = TensorBoard(tmp_path)
    board.begin(9, 100, 0)
    for epoch in (1, 2, 3, 4):
        board.epoch(record(epoch, loss=0.5))
    board.end()
    board.begin(9, 100, done)
    board.epoch(record(done + 1, loss=0.25))
    board.end()
    assert points(tmp_path) == shown


def test_tensorboard_reads_trainings_in_their_order(tmp_path):
    board = TensorBoard(tmp_path)
    for loss in (0.5, 0.25):
        board.begin(9, 100, 0)
        board.epoch(record(1, loss=loss))
        board.end()
    # within a second the order of the names hangs on a counter, and "10" comes before "9"
    assert len({file.name.split(".")[3] for file in tmp_path.glob("events.out.tfevents.*")}) == 2
    assert points(tmp_path) == [(1, 0.25)]


def test_logs_of_a_training_with_a_warm_up_hold_the_main_training(tmp_path):
    settings = {"train": {"epochs": 3}, "memory": {"num_items": 12, "warmup_epochs": 5}}
    monitor = Monitors([JsonLines(tmp_path / "train.jsonl"), TensorBoard(tmp_path)])
    detector = Detector("table-paper", settings=settings).fit(ROWS, monitor=monitor)
    losses = [line.loss for line in detector.history.records]
    assert epochs(tmp_path / "train.jsonl") == [1, 2, 3]
    assert [step for step, _ in points(tmp_path)] == [1, 2, 3]
    assert [value for _, value in points(tmp_path)] == pytest.approx(losses)


def test_without_the_package_the_message_is_the_install_command():
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
