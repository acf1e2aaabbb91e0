"""What the events add up to: how far the work is, how fast, and how long it still takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

from memae.progress import Advance, End, EpochRecord, Event, Plan, Planned, Stage

__all__ = ["Pace", "Work"]

RECENT_S = 10.0  # that a speed is measured over, and up to twice that


class Pace:
    """How far a stage is, how fast, and how long it still takes."""

    def __init__(self, stage: Stage, name: str) -> None:
        self.stage, self.name, self.done = stage, name, stage.done
        self.place: object = None
        self.loss: Callable[[], float] | None = None
        self.record: EpochRecord | None = None
        self._begun = time.monotonic()
        self._before = self._mark = (self._begun, self.done)

    def advance(self, part: Advance) -> None:
        """Counts a part."""
        self.done += part.count
        self.place, self.loss = part.place or self.place, part.loss
        if (now := time.monotonic()) - self._mark[0] >= RECENT_S:
            self._before, self._mark = self._mark, (now, self.done)

    @property
    def seconds(self) -> float:
        """Since the stage began."""
        return time.monotonic() - self._begun

    @property
    def rate(self) -> float:
        """Of the unit, a second, of late: a first part often takes longer than the others."""
        since, done = self._before
        return (self.done - done) / max(1e-6, time.monotonic() - since)

    @property
    def left_s(self) -> float | None:
        """None where the total is not known, nothing is done yet, or an estimated total was too low."""
        total = self.stage.total
        if total is None or not self.rate or (self.done > total.samples and not total.exact):
            return None
        return max(0, total.samples - self.done) / self.rate

    @property
    def share(self) -> float | None:
        """Of the whole, 0 to 1; of an estimated total at most 0.99."""
        total = self.stage.total
        if total is None or not total.samples:
            return None
        return min(1.0 if total.exact else 0.99, self.done / total.samples)

    @property
    def title(self) -> str:
        """The name, of a training with the epoch."""
        if self.stage.epochs is None:
            return self.name
        done = self.record.epoch if self.record else self.stage.epochs_done
        return f"{self.name}, epoch {min(done + 1, self.stage.epochs)}/{self.stage.epochs}"

    @property
    def details(self) -> str:
        """The place, or the loss of a training and the state of its memory."""
        place = "" if self.place is None else str(self.place)
        loss = self.loss() if self.loss else self.record and self.record.loss
        figures = [place, "" if loss is None else f"loss {loss:.4g}"]
        if self.record and self.record.held_out_loss is not None:
            figures.append(f"held-out {self.record.held_out_loss:.4g}")
        if health := self.record and self.record.memory:
            figures.append(f"items {health.items_used}/{health.items}, {health.items_per_query:.1f} a query")
            figures.append(f"{health.fallback_share:.0%} fallback" if health.fallback_share > 0.01 else "")
        return ", ".join(filter(None, figures))


class Work:
    """All stages that are on, and what a job still has before it."""

    def __init__(self) -> None:
        self.paces: list[Pace] = []
        """The innermost stage last."""
        self._plan: tuple[Planned, ...] | None = None
        """What is not over yet; None without a job."""
        self._scale = {True: 1.0, False: 1.0}
        """Of trainings and of scoring: how long they take, as a multiple of the estimate."""

    def follow(self, event: Event) -> Pace | None:
        """Takes an event in, and gives the stage that it concerns."""
        if isinstance(event, Plan):
            self._plan, self._scale = event.stages, {True: 1.0, False: 1.0}
        elif isinstance(event, Stage):
            nested = self.paces and event.epochs is not None  # a warm-up is a training within a stage
            self.paces.append(Pace(event, self.paces[-1].name if nested else event.name))
            self._begin(self.paces[-1].name)
        elif isinstance(event, End):
            return self._end(self.paces.pop())
        pace = self.paces[-1] if self.paces else None
        if pace and isinstance(event, Advance):
            pace.advance(event)
        elif pace and isinstance(event, EpochRecord):
            pace.record, pace.loss = event, None
        return pace

    @property
    def facts(self) -> str:
        """Of the innermost stage: how much is done, how long the job still takes, how fast it goes."""
        pace, unit = self.paces[-1], self.paces[-1].stage.unit
        if not pace.done:
            return self._time()
        about = "" if pace.stage.total and pace.stage.total.exact else "~"
        done = f"{pace.done:,} {unit}" if pace.share is None else f"{about}{pace.share:.0%}"
        return f"{done}, {self._time()}, {pace.rate:{',.0f' if pace.rate >= 10 else '.2g'}} {unit}/s"

    @property
    def job_left_s(self) -> float | None:
        """Of a job with a plan: seconds until all its stages are done; None while that cannot be told."""
        if not (self.paces and self._plan):
            return None
        self._measure(self.paces[-1])
        on = {pace.name: pace for pace in self.paces}
        return sum(self._left_s(stage, on.get(stage.name)) for stage in self._plan)

    def _left_s(self, stage: Planned, pace: Pace | None) -> float:
        """Of a stage of the plan: by its own rate where it has one, else what is left of the estimate."""
        if pace and pace.left_s is not None:
            return pace.left_s
        estimate = stage.seconds * self._scale[stage.training]
        return max(0.0, estimate - pace.seconds) if pace else estimate

    def _time(self) -> str:
        pace, left_s = self.paces[-1], self.job_left_s
        words = "left" if left_s is not None or self._plan is None else "left of this step"
        left_s = pace.left_s if left_s is None else left_s
        return _clock(pace.seconds) if left_s is None else f"{_clock(left_s)} {words}"

    def _begin(self, name: str) -> None:
        names = [stage.name for stage in self._plan or ()]
        if self._plan and name in names:  # a run that is resumed passes over what was done before
            self._plan = self._plan[names.index(name) :]

    def _end(self, pace: Pace) -> Pace:
        self._measure(pace)
        if self._plan:
            self._plan = tuple(stage for stage in self._plan if stage.name != pace.name) or None
        return pace

    def _measure(self, pace: Pace) -> None:
        for stage in self._plan or ():
            if stage.name == pace.name and pace.stage.total and pace.rate:
                self._scale[stage.training] = pace.stage.total.samples / pace.rate / stage.seconds


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
