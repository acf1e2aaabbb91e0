"""Progress as lines: for a log, for machines, and the epochs of a training in a file."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from memae.errors import MissingExtraError, WriteError
from memae.files.atomic import unwritten
from memae.progress import Advance, End, EpochRecord, Event, Stage, Warn
from memae.progress.work import Pace, Work

__all__ = ["JsonLines", "JsonLog", "ProgressLines", "TensorBoard"]

logger = logging.getLogger("memae")


class ProgressLines:
    """A line at least every 30 seconds, as INFO to the logger "memae"; warnings at once, as WARNING.

    It is for where there is no terminal, such as a job on a cluster. Of what is over sooner it says nothing.
    """

    def __init__(self, every_s: float = 30.0) -> None:
        self._work, self._every_s = Work(), every_s
        self._next = time.monotonic() + every_s
        self._over = threading.Event()

    def __call__(self, event: Event) -> None:
        """Takes an event."""
        first = not self._work.paces
        self._work.follow(event)
        if isinstance(event, Warn):
            logger.warning(event.message)
        elif isinstance(event, Stage) and first:
            self._over = threading.Event()
            with suppress(RuntimeError):  # no room for a thread: the work goes on without its lines
                threading.Thread(target=self._speak, args=(self._over,), daemon=True).start()
        elif not self._work.paces:
            self._over.set()

    def _speak(self, over: threading.Event) -> None:
        while not over.wait(max(0.0, self._next - time.monotonic())):
            for pace in self._work.paces[-1:]:
                logger.info(", ".join(filter(None, [pace.title, self._work.facts, pace.details])))
            self._next = time.monotonic() + self._every_s


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """The facts of `JsonLog.say` as one JSON object; a record of another library as a warning or a note."""
        kind = "warning" if record.levelno >= logging.WARNING else "note"
        facts = getattr(record, "facts", None) or {"event": kind, "message": record.getMessage()}
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return finite_json({"time": at, **facts})


def finite_json(value: Any) -> str:
    """JSON with null for NaN and infinity, which JSON does not have."""
    return json.dumps(json.loads(json.dumps(value), parse_constant=lambda _: None))


class JsonLog:
    """One JSON object a line for a machine that watches: stages, progress, epochs, warnings, results and errors.

    Every line has `time` (UTC, ISO 8601) and `event`; docs/log-json.md lists what else. Numbers that JSON cannot hold
    (NaN, infinity) are null. The lines go to `stream`, left out: stderr. `handler` takes the records of other loggers.
    """

    def __init__(self, stream: IO[str] | None = None) -> None:
        self.handler = logging.StreamHandler(stream)
        self.handler.setFormatter(_JsonFormatter())
        self._work = Work()
        self._told = 0.0

    def say(self, event: str, **facts: Any) -> None:
        """Writes one line."""
        self.handler.handle(logging.makeLogRecord({"levelno": logging.INFO, "facts": {"event": event, **facts}}))

    def __call__(self, event: Event) -> None:
        """Takes an event."""
        pace = self._work.follow(event)
        match event:
            case Warn():
                self.say("warning", message=event.message)
            case Stage():
                self._told = time.monotonic()
                self._begin(event)
            case Advance() if pace and time.monotonic() - self._told >= 1.0:
                self._told = time.monotonic()
                self._progress(pace)
            case EpochRecord() if pace:
                self.say("epoch", stage=pace.name, **asdict(event))
            case End() if pace:
                kind = "stage_end" if event.stage.epochs is None else "training_end"
                self.say(kind, stage=pace.name, done=pace.done, seconds=round(pace.seconds, 3))

    def _begin(self, stage: Stage) -> None:
        name, total = self._work.paces[-1].name, stage.total
        if stage.epochs is None:
            known = {"total": total and total.samples, "exact": total and total.exact}
            self.say("stage", stage=name, unit=stage.unit, **known)
        else:
            samples = total.samples // max(1, stage.epochs) if total else None
            self.say("training", stage=name, epochs=stage.epochs, samples=samples, epochs_done=stage.epochs_done)

    def _progress(self, pace: Pace) -> None:
        left_s, job_left_s = (None if s is None else round(s, 1) for s in (pace.left_s, self._work.job_left_s))
        self.say(
            "progress",
            stage=pace.name,
            unit=pace.stage.unit,
            done=pace.done,
            total=pace.stage.total and pace.stage.total.samples,
            rate=round(pace.rate, 3),
            left_s=left_s,
            job_left_s=job_left_s,
            **({} if pace.place is None else {"place": str(pace.place)}),
            **({"loss": pace.loss()} if pace.loss else {}),
        )


class JsonLines:
    """One JSON object per epoch, appended to a file: the fields of `EpochRecord`.

    Raises:
        WriteError: a line cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, event: Event) -> None:
        """Takes an event."""
        try:
            if isinstance(event, Stage) and event.epochs is not None:
                self._begin(event.epochs_done)
            elif isinstance(event, EpochRecord):
                with self._path.open("a") as file:
                    file.write(json.dumps(asdict(event)) + "\n")
        except OSError as error:
            raise WriteError(unwritten(self._path, error)) from None

    def _begin(self, done: int) -> None:
        """Drops the lines of epochs beyond a resumed one, or of a warm-up before."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        kept = self._path.read_text().splitlines()[:done] if done and self._path.exists() else []
        self._path.write_text("".join(line + "\n" for line in kept))


class TensorBoard:
    """Loss, held-out loss, speed and memory health as TensorBoard scalars, in the folder `path`.

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

    def __call__(self, event: Event) -> None:
        """Takes an event."""
        if isinstance(event, Stage) and event.epochs is not None:
            self._begin(event.epochs_done)
        elif isinstance(event, EpochRecord):
            for name, value in _scalars(event).items():
                self._writer.add_scalar(name, value, event.epoch)
        elif isinstance(event, End) and event.stage.epochs is not None:
            self._writer.close()

    def _begin(self, done: int) -> None:
        """Opens a file; points of epochs beyond a resumed one, or of a warm-up before, are not shown."""
        # files are read in the order of their names, which is that of time only from one second to the next
        while any(self._path.glob(f"events.out.tfevents.{int(time.time()):010d}.*")):
            time.sleep(0.05)
        self._writer = self._open(done + 1)


def _scalars(record: EpochRecord) -> dict[str, float]:
    scalars = {"loss/training": record.loss, "speed/samples_per_second": record.samples_per_second}
    if record.held_out_loss is not None:
        scalars["loss/held_out"] = record.held_out_loss
        scalars |= {f"loss/held_out_{name}": value for name, value in record.held_out_terms.items()}
    memory = asdict(record.memory) if record.memory else {}
    return scalars | {f"memory/{name}": value for name, value in memory.items()}
