"""The events, and the blocks that send them."""

from typing import Any, NoReturn

import numpy as np
import pytest

from memae import Detector, progress
from memae.errors import WriteError
from memae.progress import Advance, Count, End, Event, Stage, Warn, several, stage, tell


def test_a_block_is_a_stage_and_sends_its_parts() -> None:
    told: list[Any] = []
    with stage(told.append, "encoding", "rows", 10) as done:
        done(4)
        done(6, "row 9")
    begun = Stage("encoding", "rows", Count(10))
    assert told == [begun, Advance(4), Advance(6, "row 9"), End(begun)]


@pytest.mark.parametrize("total", [None, Count(7, exact=False)])
def test_a_total_may_be_unknown_or_about(total: Count | None) -> None:
    told: list[Any] = []
    with stage(told.append, "scoring", "frames", total):
        pass
    begun = Stage("scoring", "frames", total)
    assert told == [begun, End(begun)]


def test_a_stage_ends_when_its_block_fails() -> None:
    told: list[Any] = []
    with pytest.raises(KeyboardInterrupt), stage(told.append, "scoring", "frames"):
        raise KeyboardInterrupt
    assert told[-1] == End(told[0])


def test_without_a_callback_nothing_is_told_and_nothing_is_asked_of_the_place(
    capfd: pytest.CaptureFixture[str],
) -> None:
    class Never:
        def __str__(self) -> NoReturn:
            raise AssertionError("nobody shows it")

    with stage(None, "scoring", "frames", 3) as done:
        done(3, Never())
    tell(None, Warn("nobody hears it"))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("done", "epochs_done"), [(0, 0), (200, 2), (500, 5)])
def test_a_resumed_training_knows_its_epochs(done: int, epochs_done: int) -> None:
    assert Stage("training", "samples", Count(500), done, 5).epochs_done == epochs_done


def test_a_training_of_no_epochs_has_done_none() -> None:
    assert Stage("training", "samples", Count(0), 0, 0).epochs_done == 0


def test_several_callbacks_are_told_in_turn() -> None:
    first: list[Event] = []
    second: list[Event] = []
    both = several(first.append, second.append)
    with stage(both, "warming up", "epochs") as done:
        done(2, "here")
    both(Warn("slow"))
    begun = Stage("warming up", "epochs", None)
    assert first == second == [begun, Advance(2, "here"), End(begun), Warn("slow")]


@pytest.mark.parametrize(
    "error", [WriteError("x.jsonl: cannot be written"), OSError("x.jsonl: cannot be written")]
)
def test_a_log_that_cannot_be_written_is_left_out_and_the_others_are_warned(error: Exception) -> None:
    def full(event: Event) -> None:
        calls.append(event)
        raise error

    calls: list[Event] = []
    told: list[Event] = []
    both = several(full, told.append)
    with stage(both, "scoring", "rows", 2) as done:
        done(2)
    begun = Stage("scoring", "rows", Count(2))
    warned = Warn("x.jsonl: cannot be written; the work goes on without this log")
    assert calls == [begun]
    assert told == [warned, begun, Advance(2), End(begun)]


def test_what_a_callback_raises_else_ends_the_work() -> None:
    def stop(event: Event) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        several(stop)(Warn("slow"))


def test_the_old_name_of_several_is_accepted_with_a_warning() -> None:
    told: list[Any] = []
    with pytest.warns(FutureWarning, match=r"memae\.progress\.Monitors is now called memae\.progress\.several"):
        both = progress.Monitors([told.append])
    both(Warn("slow"))
    assert told == [Warn("slow")]


def test_every_public_name_is_there_and_no_other() -> None:
    assert all(getattr(progress, name) for name in progress.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Bar'"):
        progress.Bar


@pytest.mark.parametrize(("verb", "old"), [("fit", "monitor"), ("score", "watcher")])
def test_the_argument_is_accepted_under_its_old_names_with_a_warning(verb: str, old: str) -> None:
    told: list[Event] = []
    rows = np.random.default_rng(0).normal(size=(60, 6))
    detector = Detector("table", settings={"train": {"epochs": 1}}).fit(rows)
    with pytest.warns(FutureWarning, match=f"the argument {old} is now called progress") as warned:
        getattr(detector, verb)(rows, **{old: told.append})
    assert any(isinstance(event, Stage) for event in told)
    assert {one.filename for one in warned} == {__file__}
