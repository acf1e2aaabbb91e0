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
from memae.data.samples import FrameKey
from memae.frame_scoring import ScoredFrame
from memae.memory import MemoryHealth
from memae.progress import FrameCounter, JsonLines, Monitors, ProgressBar, TensorBoard
from memae.train import EpochRecord

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


def scored(number, video="gate.mp4"):
    return ScoredFrame(FrameKey(video, number, number / 10), 1.0, np.zeros((1, 1), np.float32), None, 0)


def test_the_counter_shows_frames_speed_and_how_far_into_which_video(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr("memae.progress.time.monotonic", lambda: float(next(clock)))  # a second a frame
    console = terminal()
    with FrameCounter(console) as counter:
        for number in range(30):
            counter(scored(number))
    assert any(
        re.fullmatch(r"30 frames, 1/s, gate\.mp4 at 2\.9 s +\d:\d\d:\d\d", line) for line in screens(console)
    )


def test_the_counter_looks_at_the_clock_and_not_at_every_frame_at_the_screen():
    counter, shown = FrameCounter(terminal()), []
    counter._bar.update = lambda *_, **fields: shown.append(fields["completed"])
    for number in range(5000):
        counter(scored(number))
    assert shown[0] == 1
    assert len(shown) < 100


@pytest.mark.parametrize("video", ["gate [1].mp4", "[/b].mp4", "[red]gate.mp4", "x" * 200, "ümlaut 門.mp4"])
def test_the_counter_shows_any_name_of_a_video(video):
    console = terminal(120)
    with FrameCounter(console) as counter:
        counter(scored(3, video))
    shown = "".join(screens(console)).replace(" ", "")
    assert video[:80].replace(" ", "") in shown


def test_off_a_terminal_the_counter_is_silent():
    console = Console(file=io.StringIO())
    with FrameCounter(console) as counter:
        counter(scored(0))
    assert console.file.getvalue() == ""


def test_no_epochs_make_no_bar():
    console = terminal()
    bar = ProgressBar(console)
    bar.begin(epochs=0, samples=100, done=0)
    bar.end()
    assert console.file.getvalue() == ""


def test_a_real_training_moves_the_bar_to_its_end():
    console = terminal()
    settings = {"train": {"epochs": 3, "patience": 0}, "memory": {"num_items": 12, "warmup_epochs": 0}}
    detector = Detector(settings=settings).fit(ROWS, monitor=ProgressBar(console))
    last = detector.history.records[-1]
    *_, first, second = screens(console)
    assert first.startswith("epoch 3/3 ━")
    assert first.endswith("left 0:00:00")
    assert f"loss {last.loss:.4g}, held-out {last.held_out_loss:.4g}, items {last.memory.items_used}/12" in second


def test_several_monitors_are_told_in_turn():
    class Told(list):
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
    both.begin(3, 100, 1)
    both.step(10, lambda: 0.5)
    both.epoch(record(2))
    both.end()
    assert first == second == [("begin", 3, 100, 1), ("step", 10, 0.5), ("epoch", record(2)), ("end",)]


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


def test_logs_of_a_training_with_a_warm_up_hold_the_main_training(tmp_path):
    settings = {"train": {"epochs": 3, "patience": 0}, "memory": {"num_items": 12, "warmup_epochs": 5}}
    monitor = Monitors([JsonLines(tmp_path / "train.jsonl"), TensorBoard(tmp_path)])
    detector = Detector(settings=settings).fit(ROWS, monitor=monitor)
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
