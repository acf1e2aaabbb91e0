"""Objects with methods in place of a callback, and the modules that their classes were in."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from memae import Detector, progress
from memae.progress import Count, EpochRecord, Stage, Warn, stage

if TYPE_CHECKING:
    from memae.deprecated.watcher import Monitor, Watcher
else:  # as 0.1.0 had them
    from memae.history import Monitor
    from memae.stages import Watcher

ROWS = np.random.default_rng(0).normal(size=(60, 6))
SETTINGS = {"train": {"epochs": 3}, "memory": {"num_items": 12, "warmup_epochs": 2}}


class Told(Watcher):
    """Written for 0.1.0."""

    def __init__(self) -> None:
        self.stages: list[Stage] = []
        self.counts: list[int] = []
        self.warnings: list[str] = []
        self.ended = 0

    def begin_stage(self, stage: Stage) -> None:
        self.stages.append(stage)

    def advance(self, count: int, place: object = None) -> None:
        self.counts.append(count)

    def end_stage(self) -> None:
        self.ended += 1

    def warn(self, message: str) -> None:
        self.warnings.append(message)


class Training(Told, Monitor):
    def __init__(self) -> None:
        super().__init__()
        self.begun: list[tuple[int, int, int]] = []
        self.records: list[EpochRecord] = []
        self.samples = self.over = 0

    def begin(self, epochs: int, samples: int, done: int) -> None:
        self.begun.append((epochs, samples, done))

    def step(self, samples: int, loss: Callable[[], float]) -> None:
        assert loss() > 0
        self.samples += samples

    def epoch(self, record: EpochRecord) -> None:
        self.records.append(record)

    def end(self) -> None:
        self.over += 1


def test_a_monitor_of_before_hears_of_the_training_and_of_all_around_it() -> None:
    told, detector = Training(), Detector("table-paper", settings=SETTINGS)
    old_name: dict[str, Any] = {"monitor": told}
    with pytest.warns(FutureWarning, match="the argument monitor is now called progress"):
        detector.fit(ROWS, **old_name)
    samples = detector.facts["samples"]["training"]
    assert told.begun == [(2, samples, 0), (3, samples, 0)]
    assert told.samples == 5 * samples
    assert detector.history
    assert tuple(told.records[2:]) == detector.history.records
    assert (told.over, told.ended) == (2, len(told.stages))
    assert {"reading", "warming up", "setting the threshold"} <= {stage.name for stage in told.stages}
    assert sum(told.counts) > 0


def test_a_watcher_of_before_hears_of_scoring() -> None:
    detector, told = Detector("table", settings={"train": {"epochs": 1}}).fit(ROWS), Told()
    old_name: dict[str, Any] = {"watcher": told}
    with pytest.warns(FutureWarning, match="the argument watcher is now called progress"):
        detector.score(ROWS, **old_name)
    assert told.stages == [Stage("scoring", "rows", Count(60))]
    assert (sum(told.counts), told.ended) == (60, 1)


def test_several_monitors_of_before_and_a_callback_are_told_as_one() -> None:
    events: list[progress.Event] = []
    first, second = Told(), Told()
    with pytest.warns(FutureWarning, match="Monitors"):
        both = progress.Monitors([first, second, events.append])
    with stage(both, "scoring", "rows", 4) as done:
        done(4)
    both(Warn("slow"))
    assert first.counts == second.counts == [4]
    assert first.warnings == second.warnings == ["slow"]
    assert len(events) == 4


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("memae.history", "memae.progress", "EpochRecord"),
        ("memae.history", "memae.training", "History"),
        ("memae.stages", "memae.progress", "Stage"),
        ("memae.events", "memae.video.events", "EventRule"),
        ("memae.data.known", "memae.datasets", "digits"),
        ("memae.data.video", "memae.video.source", "VideoSource"),
        ("memae.report.watching", "memae.video.pipeline", "Outputs"),
    ],
)
def test_modules_under_their_old_names_have_the_classes_of_today(old: str, new: str, name: str) -> None:
    assert getattr(importlib.import_module(old), name) is getattr(importlib.import_module(new), name)


def test_the_old_place_of_overlays_has_the_function_of_today() -> None:
    old, new = importlib.import_module("memae.report.maps"), importlib.import_module("memae.image.render")
    assert old.save_map is new.save_overlay
