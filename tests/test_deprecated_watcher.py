"""Objects with methods in place of a callback, and the modules that their classes were in."""

import numpy as np
import pytest
from memae.history import EpochRecord, History, Monitor
from memae.stages import Watcher

from memae import Detector, progress
from memae.progress import Count, Stage, Warn, stage

ROWS = np.random.default_rng(0).normal(size=(60, 6))
SETTINGS = {"train": {"epochs": 3}, "memory": {"num_items": 12, "warmup_epochs": 2}}


class Told(Watcher):
    """Written for 0.1.0: the methods that it leaves out do nothing."""

    def __init__(self):
        self.stages, self.counts, self.ended, self.warnings = [], [], 0, []

    def begin_stage(self, stage):
        self.stages.append(stage)

    def advance(self, count, place=None):
        self.counts.append(count)

    def end_stage(self):
        self.ended += 1


class Training(Told, Monitor):
    def __init__(self):
        super().__init__()
        self.begun, self.samples, self.records, self.over = [], 0, [], 0

    def begin(self, epochs, samples, done):
        self.begun.append((epochs, samples, done))

    def step(self, samples, loss):
        assert loss() > 0
        self.samples += samples

    def epoch(self, record):
        self.records.append(record)

    def end(self):
        self.over += 1


def test_a_monitor_of_before_hears_of_the_training_and_of_all_around_it():
    told = Training()
    detector = Detector("table-paper", settings=SETTINGS)
    with pytest.warns(FutureWarning, match="the argument monitor is now called progress"):
        detector.fit(ROWS, monitor=told)
    samples = detector.facts["samples"]["training"]
    assert told.begun == [(2, samples, 0), (3, samples, 0)]
    assert told.samples == 5 * samples
    assert tuple(told.records[2:]) == detector.history.records
    assert (told.over, told.ended) == (2, len(told.stages))
    assert {"reading", "warming up", "setting the threshold"} <= {stage.name for stage in told.stages}
    assert sum(told.counts) > 0


def test_a_watcher_of_before_hears_of_scoring():
    detector, told = Detector("table", settings={"train": {"epochs": 1}}).fit(ROWS), Told()
    with pytest.warns(FutureWarning, match="the argument watcher is now called progress"):
        detector.score(ROWS, watcher=told)
    assert told.stages == [Stage("scoring", "rows", Count(60))]
    assert (sum(told.counts), told.ended) == (60, 1)


def test_several_monitors_of_before_and_a_callback_are_told_as_one():
    class Warned(Told):
        def warn(self, message):
            self.warnings.append(message)

    first, second, events = Warned(), Told(), []
    with pytest.warns(FutureWarning, match="Monitors"):
        both = progress.Monitors([first, second, events.append])
    with stage(both, "scoring", "rows", 4) as done:
        done(4)
    both(Warn("slow"))
    assert first.counts == second.counts == [4]
    assert first.warnings == ["slow"]
    assert len(events) == 4


def test_modules_under_their_old_names_have_the_classes_of_today():
    from memae import events
    from memae.training import history
    from memae.video.events import EventRule

    assert EpochRecord is progress.EpochRecord
    assert History is history.History
    assert events.EventRule is EventRule
