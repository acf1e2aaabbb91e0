"""How the work is followed: a bar on a terminal, JSON lines for machines, TensorBoard; any number at once."""

from __future__ import annotations

import json
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress_bar import ProgressBar as _Rule
from rich.table import Table
from rich.text import Text

from memae.errors import MissingExtraError, WriteError
from memae.files import unwritten
from memae.stages import Count, Stage
from memae.training.history import EpochRecord, Monitor

__all__ = ["JsonLines", "JsonLog", "Monitors", "ProgressBar", "TensorBoard"]

REFRESH_S = 0.2  # between two looks at the loss, each of which waits for the device
RECENT_S = 10.0  # that a speed is measured over
SHOWN_AFTER_S = 0.5  # what is over sooner would only flicker


class _Pace:
    """How far a stage is, how fast, and how long it still takes."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.done = 0
        self.place: object = None
        self.told = self._begun = time.monotonic()
        self._recent = deque([(self._begun, 0)])
        """(time, done), the first of them before RECENT_S, the others a tenth of that apart."""

    def advance(self, count: int, place: object = None) -> None:
        self.done += count
        now = time.monotonic()
        if now - self._recent[-1][0] >= RECENT_S / 10:
            self._recent.append((now, self.done))
            while len(self._recent) > 2 and now - self._recent[1][0] >= RECENT_S:
                self._recent.popleft()
        self.place = place if place is not None else self.place

    def due(self, every_s: float) -> bool:
        """Whether it was told about so long ago that it is to be told again; then it counts as told."""
        now = time.monotonic()
        if due := now - self.told >= every_s:
            self.told = now
        return due

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._begun

    @property
    def rate(self) -> float:
        """Of the unit, a second, of late: the first part often pays for more than itself."""
        since, before = self._recent[0]
        return (self.done - before) / max(1e-6, time.monotonic() - since)

    @property
    def left_s(self) -> float | None:
        """None where the total is not known, nothing is done, or more is done than was thought to be there."""
        total = self.stage.total
        if total is None or not self.done or (self.done > total.samples and not total.exact):
            return None
        return max(0, total.samples - self.done) / self.rate if self.rate else None

    @property
    def share(self) -> float | None:
        """Of the whole, 0 to 1; of a total that is not exact never quite 1."""
        total = self.stage.total
        if total is None or not total.samples:
            return None
        return min(1.0 if total.exact else 0.99, self.done / total.samples)


class Monitors(Monitor):
    """Several monitors as one. A log that can no longer be written is left out, as the training is worth more."""

    def __init__(self, members: Sequence[Monitor]) -> None:
        self._members = list(members)

    def begin_stage(self, stage: Stage) -> None:
        """A stage begins."""
        for member in self._members:
            member.begin_stage(stage)

    def advance(self, count: int, place: object = None) -> None:
        """So many more are done."""
        for member in self._members:
            member.advance(count, place)

    def end_stage(self) -> None:
        """The innermost stage is over."""
        for member in self._members:
            member.end_stage()

    def warn(self, message: str) -> None:
        """Something went another way than asked for."""
        for member in self._members:
            member.warn(message)

    def begin(self, epochs: int, samples: int, done: int) -> None:
        """Training starts."""
        self._logged(lambda member: member.begin(epochs, samples, done))

    def step(self, samples: int, loss: Callable[[], float]) -> None:
        """A step is done."""
        for member in self._members:
            member.step(samples, loss)

    def epoch(self, record: EpochRecord) -> None:
        """An epoch is done."""
        self._logged(lambda member: member.epoch(record))

    def end(self) -> None:
        """Training is over."""
        self._logged(lambda member: member.end())

    def _logged(self, tell: Callable[[Monitor], None]) -> None:
        for member in tuple(self._members):
            try:
                tell(member)
            except (OSError, WriteError) as error:
                self._members.remove(member)
                self.warn(f"{error}; the training goes on without this log")


class _Bar(Progress):
    """The facts stand on a line of their own below the bar: beside it they would push out the time left."""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        for task in self.tasks:
            yield Text(task.fields["facts"], no_wrap=True, overflow="ellipsis")


class ProgressBar(Monitor):
    """A line for what takes longer than half a second: what, how far, how fast, how long still; gone when it is over.

    A training has a bar over all epochs, with loss, held-out loss, health of the memory and speed, which stays. Off a
    terminal, or with `silent`, there are only warnings.
    """

    def __init__(self, console: Console | None = None, *, silent: bool = False) -> None:
        self._console = console or Console(stderr=True)
        self._on = self._console.is_terminal and not silent
        self._stages: list[_Pace] = []
        self._live: Live | None = None
        self._bar: _Bar | None = None
        self._task = TaskID(0)
        self._epochs = self._done = 0
        self._looked = 0.0
        self._tail = ""

    def begin_stage(self, stage: Stage) -> None:
        """Shows it in place of the one around it."""
        self._stages.append(_Pace(stage))
        self._show_stage()

    def advance(self, count: int, place: object = None) -> None:
        """The line shows it when it is drawn next."""
        self._stages[-1].advance(count, place)

    def end_stage(self) -> None:
        """Shows the one around it again."""
        self._stages.pop()
        self._show_stage()

    def warn(self, message: str) -> None:
        """A line that stays, on a terminal or not."""
        self._console.print(f"warning: {message}", markup=False, highlight=False, emoji=False, soft_wrap=True)

    def _show_stage(self) -> None:
        if not self._on:
            return
        if self._live:
            self._live.stop()
            self._live = None
        if self._stages and not self._bar:
            self._live = Live(
                get_renderable=self._line,
                console=self._console,
                transient=True,
                refresh_per_second=1 / REFRESH_S,
                redirect_stdout=False,  # where rows may go, past this proxy
            )
            self._live.start()

    def _line(self) -> RenderableType:
        pace = self._stages[-1] if self._stages else None
        return Group() if pace is None or pace.seconds < SHOWN_AFTER_S else _stage_line(pace)

    def begin(self, epochs: int, samples: int, done: int) -> None:
        """Training starts."""
        self._epochs, self._done, self._tail = epochs, done, ""
        self._bar = _Bar(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=None),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not (self._on and epochs),
            expand=True,
        )
        self._show_stage()
        self._task = self._bar.add_task(self._epoch, total=epochs * samples, completed=done * samples, facts="")
        self._bar.start()

    def step(self, samples: int, loss: Callable[[], float]) -> None:
        """A step is done."""
        if self._bar is None or self._bar.disable:
            return
        self._bar.advance(self._task, samples)
        now = time.monotonic()
        if now - self._looked >= REFRESH_S:
            self._looked = now
            self._show(f"loss {loss():.4g}")

    def epoch(self, record: EpochRecord) -> None:
        """An epoch is done."""
        self._done = record.epoch
        parts = [] if record.held_out_loss is None else [f"held-out {record.held_out_loss:.4g}"]
        if health := record.memory:
            parts.append(f"items {health.items_used}/{health.items}, {health.items_per_query:.1f} a query")
            if health.rescued_share > 0.01:
                parts.append(f"{health.rescued_share:.0%} rescued")
        parts.append(f"{record.samples_per_second:,.0f}/s")
        self._tail = ", ".join(parts)
        self._show(f"loss {record.loss:.4g}")

    def end(self) -> None:
        """Training is over."""
        if self._bar:
            self._bar.stop()
            self._bar = None  # the stage around it, if any, is shown again when the next one in it begins

    def _show(self, loss: str) -> None:
        if self._bar:
            facts = ", ".join(filter(None, [loss, self._tail]))
            self._bar.update(self._task, description=self._epoch, facts=facts)

    @property
    def _epoch(self) -> str:
        what = f"{self._stages[-1].stage.name}, " if self._stages else ""
        return f"{what}epoch {min(self._done + 1, self._epochs)}/{self._epochs}"


def _stage_line(pace: _Pace) -> RenderableType:
    """One line: with a bar, a share and the time left where the total is known, else the count and the time so far."""
    unit, share = pace.stage.unit, pace.share
    speed = f"{_rounded(pace.rate)} {unit}/s" if pace.done else ""
    place = "" if pace.place is None else str(pace.place)
    if share is None or not pace.done:
        counted = f"{pace.done:,} {unit}" if pace.done else ""
        facts = ", ".join(filter(None, [counted, speed, place, str(timedelta(seconds=int(pace.seconds)))]))
        return Text(f"{pace.stage.name}  {facts}", no_wrap=True, overflow="ellipsis")
    left = "" if pace.left_s is None else f"{timedelta(seconds=round(pace.left_s))} left"
    about = "" if pace.stage.total and pace.stage.total.exact else "~"
    grid = Table.grid(expand=True, padding=(0, 1, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(ratio=1, min_width=8)
    grid.add_column(no_wrap=True, overflow="ellipsis")
    facts = ", ".join(filter(None, [f"{about}{share:.0%}", speed, left]))
    grid.add_row(Text(pace.stage.name), _Rule(total=1.0, completed=share), Text(facts))
    if place:
        return Group(grid, Text(place, no_wrap=True, overflow="ellipsis"))
    return grid


def _rounded(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity."""
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class JsonLog(Monitor):
    """One JSON object a line for a machine that watches: stages, progress, epochs, warnings, results and errors.

    Every line has `time` (UTC, ISO 8601) and `event`; docs/log-json.md lists what else. Numbers that JSON cannot hold
    (NaN, infinity) are null.
    """

    def __init__(self, stream: IO[str] | None = None) -> None:
        self._stream = stream or sys.stderr
        self._stages: list[_Pace] = []
        self._training: _Pace | None = None
        self._epochs = 0

    def say(self, event: str, **facts: Any) -> None:
        """Writes one line."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self._stream.write(json.dumps(_finite({"time": now, "event": event, **facts})) + "\n")
        self._stream.flush()

    def begin_stage(self, stage: Stage) -> None:
        """A line."""
        self._stages.append(pace := _Pace(stage))
        total = stage.total
        self.say(
            "stage",
            stage=stage.name,
            unit=stage.unit,
            total=total and total.samples,
            exact=total.exact if total else None,
        )
        pace.told = time.monotonic()

    def advance(self, count: int, place: object = None) -> None:
        """A line at most once a second."""
        pace = self._stages[-1]
        pace.advance(count, place)
        self._progress(pace)

    def end_stage(self) -> None:
        """A line."""
        pace = self._stages.pop()
        self.say("stage_end", stage=pace.stage.name, done=pace.done, seconds=round(pace.seconds, 3))

    def warn(self, message: str) -> None:
        """A line."""
        self.say("warning", message=message)

    def begin(self, epochs: int, samples: int, done: int) -> None:
        """A line."""
        name = self._stages[-1].stage.name if self._stages else "training"
        self._training = _Pace(Stage(name, "samples", Count((epochs - done) * samples)))
        self.say("training", stage=name, epochs=epochs, samples=samples, epochs_done=done)

    def step(self, samples: int, loss: Callable[[], float]) -> None:
        """A line at most once a second."""
        if self._training:
            self._training.advance(samples)
            self._progress(self._training, lambda: {"loss": loss()})

    def epoch(self, record: EpochRecord) -> None:
        """A line with the fields of the record."""
        name = self._training.stage.name if self._training else "training"
        self.say("epoch", stage=name, **asdict(record))

    def end(self) -> None:
        """A line."""
        if pace := self._training:
            self.say("training_end", stage=pace.stage.name, done=pace.done, seconds=round(pace.seconds, 3))
        self._training = None

    def _progress(self, pace: _Pace, more: Callable[[], dict[str, Any]] = dict) -> None:
        if not pace.due(1.0):
            return
        self.say(
            "progress",
            stage=pace.stage.name,
            unit=pace.stage.unit,
            done=pace.done,
            total=pace.stage.total and pace.stage.total.samples,
            rate=round(pace.rate, 3),
            left_s=None if pace.left_s is None else round(pace.left_s, 1),
            **({"place": str(pace.place)} if pace.place is not None else {}),
            **more(),
        )


class _EpochsOnly(Monitor):
    """A monitor that stages do not concern."""

    def begin_stage(self, stage: Stage) -> None:
        """Nothing."""

    def advance(self, count: int, place: object = None) -> None:
        """Nothing."""

    def end_stage(self) -> None:
        """Nothing."""

    def warn(self, message: str) -> None:
        """Nothing."""


class JsonLines(_EpochsOnly):
    """One JSON object per epoch, appended to a file: the fields of `EpochRecord`.

    Raises:
        WriteError: a line cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def begin(self, epochs: int, samples: int, done: int) -> None:
        """Training starts; lines of epochs beyond a resumed one are dropped."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        kept = self._path.read_text().splitlines()[:done] if done and self._path.exists() else []
        self._path.write_text("".join(line + "\n" for line in kept))

    def step(self, samples: int, loss: Callable[[], float]) -> None:
        """Nothing: one line an epoch."""

    def epoch(self, record: EpochRecord) -> None:
        """Adds the line."""
        try:
            with self._path.open("a") as file:
                file.write(json.dumps(asdict(record)) + "\n")
        except OSError as error:
            raise WriteError(unwritten(self._path, error)) from None

    def end(self) -> None:
        """Nothing is open."""


class TensorBoard(_EpochsOnly):
    """Loss, held-out loss, speed and memory health as TensorBoard scalars.

    Raises:
        MissingExtraError: the package tensorboard is not installed.
    """

    def __init__(self, path: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise MissingExtraError("writing TensorBoard logs", "tensorboard") from None
        self._open: Callable[[int], Any] = lambda step: SummaryWriter(str(path), purge_step=step)
        self._path = path
        self._writer: Any = None

    def begin(self, epochs: int, samples: int, done: int) -> None:
        """Training starts; points of epochs beyond a resumed one, or of a warm-up before, are not shown."""
        # files are read in the order of their names, which is that of time only from one second to the next
        while any(self._path.glob(f"events.out.tfevents.{int(time.time()):010d}.*")):
            time.sleep(0.05)
        self._writer = self._open(done + 1)

    def step(self, samples: int, loss: Callable[[], float]) -> None:
        """Nothing: one point an epoch."""

    def epoch(self, record: EpochRecord) -> None:
        """Adds the points."""
        scalars = {"loss/training": record.loss, "speed/samples_per_second": record.samples_per_second}
        if record.held_out_loss is not None:
            scalars["loss/held_out"] = record.held_out_loss
        if record.memory:
            scalars |= {f"memory/{name}": value for name, value in asdict(record.memory).items()}
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, record.epoch)

    def end(self) -> None:
        """Writes what is left."""
        self._writer.close()
