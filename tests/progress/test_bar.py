"""The bar on a terminal, as it stands on the screen."""

import io
import re
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
import pytest
from rich.console import Console, Group

from memae import Detector
from memae.progress import ProgressBar, Warn, stage
from memae.video.frames import FrameKey
from tests.progress.following import Clock, health, record, screens, terminal

ROWS = np.random.default_rng(0).normal(size=(60, 6))


def shown(bar: ProgressBar, width: int = 80) -> list[str]:
    """The lines that would stand on the screen now."""
    screen = terminal(width)
    screen.print(Group(*bar._display.get_renderables()))
    return screens(screen)


@pytest.mark.parametrize("width", [80, 120])
def test_a_stage_is_one_line(clock: Clock, width: int) -> None:
    bar = ProgressBar(terminal(width))
    with stage(bar, "encoding", "rows", 10_000) as done:
        clock.now += 2
        done(2_500)
        (line,) = shown(bar, width)
        assert re.fullmatch(r"encoding +[━╸╺ ]{20,} +25%, 0:00:06 left, 1,250 rows/s", line)
        assert width - 2 <= len(line) <= width


def test_a_total_that_is_not_known_has_a_bar_without_a_share(clock: Clock) -> None:
    bar = ProgressBar(terminal())
    with stage(bar, "scoring", "frames") as done:
        clock.now += 2
        done(30, FrameKey("gate [1].mp4", 29, 2.9))
        first, second = shown(bar)
        assert re.fullmatch(r"scoring [━╸╺ ]{20,} 30 frames, 0:00:02, 15 frames/s", first)
        assert second == "gate [1].mp4 at 2.9 s"


def test_a_training_has_a_second_line_of_loss_and_memory_on_a_usual_screen(clock: Clock) -> None:
    bar = ProgressBar(terminal(80))
    with stage(bar, "training", "samples", 50_000, epochs=5) as done:
        clock.now += 1
        done(10_000, None, lambda: 0.7)
        bar(record(1, memory=health(fallback_share=0.25)))
        first, second = shown(bar)
    assert re.fullmatch(r"training, epoch 2/5 [━╸╺ ]{18,} 20%, 0:00:04 left, 10,000 samples/s", first)
    assert second == "loss 0.5, held-out 0.625, items 41/50, 4.2 a query, 25% fallback"
    assert max(len(first), len(second)) <= 80


def test_of_a_training_a_line_stays(clock: Clock) -> None:
    bar = ProgressBar(terminal(200))
    with stage(bar, "warming up", "epochs", 5), stage(bar, "training", "samples", 500, epochs=5) as done:
        done(100, None, lambda: 0.7)
        bar(record(1, memory=health()))
    last = screens(bar._console)[-1]
    assert last == "warming up: 1 of 5 epochs, loss 0.5, held-out 0.625, items 41/50, 4.2 a query"


def test_the_loss_is_not_asked_for_at_every_step() -> None:
    asked = []

    def loss() -> Any:
        asked.append(1)
        return 0.5

    with stage(ProgressBar(terminal()), "training", "samples", 50_000, epochs=5) as done:
        for _ in range(1000):
            done(10, None, loss)
    assert len(asked) <= 20  # each waits for the device


def test_a_narrow_screen_cuts_the_facts_and_nothing_breaks(clock: Clock) -> None:
    bar = ProgressBar(terminal(40))
    with stage(bar, "training", "samples", 500, epochs=5) as done:
        clock.now += 1
        done(100)
        bar(record(1, memory=health()))
        first, second = shown(bar, 40)
    assert first.startswith("training, ep")
    assert "left" in first
    assert second.startswith("loss 0.5, held-out")
    assert second.endswith("…")
    assert max(len(first), len(second)) <= 40


def test_what_is_over_soon_is_not_shown(clock: Clock) -> None:
    bar = ProgressBar(terminal())
    with stage(bar, "encoding", "rows", 100) as done:
        clock.now += 0.4
        done(50)
        assert shown(bar) == []
        clock.now += 0.2
        assert len(shown(bar)) == 1


def test_the_inner_of_two_stages_is_shown_and_then_the_outer_one_again(clock: Clock) -> None:
    bar = ProgressBar(terminal())
    with stage(bar, "outer", "things"):
        clock.now += 1
        with stage(bar, "inner", "parts"):
            clock.now += 1
            assert [line.split()[0] for line in shown(bar)] == ["inner"]
        assert [line.split()[0] for line in shown(bar)] == ["outer"]
    assert bar._display is None


@pytest.mark.parametrize("place", ["gate [1].mp4", "[/b].mp4", "[red]gate.mp4", "x" * 200, "ümlaut 門.mp4"])
@pytest.mark.parametrize("total", [None, 10])
def test_any_name_of_a_place_is_shown_as_it_is_and_cut_at_the_edge(
    clock: Clock, place: str, total: int | None
) -> None:
    bar = ProgressBar(terminal())
    with stage(bar, "scoring", "frames", total) as done:
        clock.now += 1
        done(3, place)
        lines = shown(bar)
    assert place[:20] in lines[-1]
    assert all(len(line) <= 80 for line in lines)


def test_a_stage_leaves_nothing_on_the_screen() -> None:
    console = terminal()
    with stage(ProgressBar(console), "scoring", "rows", 100) as done:
        done(100)
    assert screens(console) == []


def test_a_second_stage_draws_on_lines_of_its_own(clock: Clock) -> None:
    console, ends = terminal(), []
    bar = ProgressBar(console)
    for name in ("reading", "encoding"):
        with stage(bar, name, "rows", 100) as done:
            clock.now += 1
            done(50, "somewhere")
            bar._display.refresh()
        ends.append(console.file.tell())
    assert isinstance(console.file, io.StringIO)
    second = console.file.getvalue()[ends[0] :]
    assert "\x1b[1A" not in second[: second.index("encoding")], "the cursor would go up into what stands there"


def test_a_stage_that_fails_ends_as_well() -> None:
    bar = ProgressBar(terminal())
    with pytest.raises(ValueError, match="no"), stage(bar, "scoring", "rows"):
        raise ValueError("no")
    assert bar._display is None


@pytest.mark.parametrize(
    "bar",
    [lambda file: ProgressBar(Console(file=file)), lambda file: ProgressBar(terminal(file=file), silent=True)],
    ids=["off a terminal", "silent"],
)
def test_off_a_terminal_or_silent_there_are_only_warnings(bar: Callable[..., Any], clock: Clock) -> None:
    def never() -> NoReturn:
        raise AssertionError("it waited for the device")

    file = io.StringIO()
    progress = bar(file)
    with stage(progress, "scoring", "rows", 10) as done:
        clock.now += 5
        done(10, "somewhere")
        with stage(progress, "training", "samples", 500, epochs=5) as step:
            step(50, None, never)
            progress(record(1, memory=health()))
        assert file.getvalue() == ""
        progress(Warn("out of memory with 512 [samples] at once"))
    assert file.getvalue() == "warning: out of memory with 512 [samples] at once\n"


def test_no_epochs_leave_no_line() -> None:
    console = terminal()
    with stage(ProgressBar(console), "training", "samples", 0, epochs=0):
        pass
    assert screens(console) == []


def test_a_real_training_leaves_the_line_of_its_last_epoch() -> None:
    console = terminal(200)
    settings = {"train": {"epochs": 3}, "memory": {"num_items": 12, "warmup_epochs": 0}}
    detector = Detector("table-paper", settings=settings).fit(ROWS, progress=ProgressBar(console))
    last = detector.history.records[-1]
    line = screens(console)[-1]
    assert line.startswith("training: 3 of 3 epochs, ")
    assert f"loss {last.loss:.4g}, held-out {last.held_out_loss:.4g}, items {last.memory.items_used}/12" in line
