"""How a training is followed: a bar on a terminal, JSON lines for machines, TensorBoard; any number at once."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from memae.errors import MissingExtraError
from memae.frame_scoring import ScoredFrame
from memae.train import EpochRecord, Monitor

__all__ = ["FrameCounter", "JsonLines", "Monitors", "ProgressBar", "TensorBoard"]

REFRESH_S = 0.2  # between two looks at the loss, each of which waits for the device


class Monitors:
    """Several monitors as one."""

    def __init__(self, members: Sequence[Monitor]) -> None:
        self._members = members

    def begin(self, epochs: int, samples: int, done: int) -> None:
        """Training starts."""
        for member in self._members:
            member.begin(epochs, samples, done)

    def step(self, samples: int, loss: Callable[[], float]) -> None:
        """A step is done."""
        for member in self._members:
            member.step(samples, loss)

    def epoch(self, record: EpochRecord) -> None:
        """An epoch is done."""
        for member in self._members:
            member.epoch(record)

    def end(self) -> None:
        """Training is over."""
        for member in self._members:
            member.end()


class _Bar(Progress):
    """The facts stand on a line of their own below the bar: beside it they would push out the time left."""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        for task in self.tasks:
            yield Text(task.fields["facts"], no_wrap=True, overflow="ellipsis")


class ProgressBar:
    """A bar over all epochs with loss, held-out loss, health of the memory, speed and time left.

    Off a terminal it prints nothing.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._bar: _Bar | None = None
        self._task = TaskID(0)
        self._epochs = self._done = 0
        self._looked = 0.0
        self._tail = ""

    def begin(self, epochs: int, samples: int, done: int) -> None:
        """Training starts."""
        self._epochs, self._done = epochs, done
        self._bar = _Bar(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=None),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not (self._console.is_terminal and epochs),
            expand=True,
        )
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

    def _show(self, loss: str) -> None:
        if self._bar:
            facts = ", ".join(filter(None, [loss, self._tail]))
            self._bar.update(self._task, description=self._epoch, facts=facts)

    @property
    def _epoch(self) -> str:
        return f"epoch {min(self._done + 1, self._epochs)}/{self._epochs}"


class FrameCounter:
    """How many frames are scored, how fast, and how far into which video; nothing off a terminal."""

    def __init__(self, console: Console | None = None) -> None:
        console = console or Console(stderr=True)
        self._bar = Progress(
            # no markup: a video may be called "gate [1].mp4"
            TextColumn("{task.completed:,.0f} frames, {task.fields[rate]}, {task.fields[place]}", markup=False),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("", total=None, rate="", place="")
        self._frames, self._begun, self._looked = 0, time.monotonic(), 0.0

    def __enter__(self) -> FrameCounter:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, frame: ScoredFrame) -> None:
        """A frame is scored."""
        self._frames += 1
        now = time.monotonic()
        if now - self._looked >= REFRESH_S:
            self._looked = now
            rate = f"{self._frames / max(1e-6, now - self._begun):,.0f}/s"
            place = f"{frame.key.video} at {frame.key.time_s:,.1f} s"
            self._bar.update(self._task, completed=self._frames, rate=rate, place=place)


class JsonLines:
    """One JSON object per epoch, appended to a file: the fields of `EpochRecord`."""

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
        with self._path.open("a") as file:
            file.write(json.dumps(asdict(record)) + "\n")

    def end(self) -> None:
        """Nothing is open."""


class TensorBoard:
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
        self._writer: Any = None

    def begin(self, epochs: int, samples: int, done: int) -> None:
        """Training starts; points of epochs beyond a resumed one, or of a warm-up before, are not shown."""
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
