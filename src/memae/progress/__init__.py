"""How far a longer piece of work is: the library sends events to one callback, or to none.

    detector.fit("parts/ok", progress=ProgressBar())
    detector.score("parts/new", progress=print)  # any function of an event

`ProgressBar` draws on a terminal, `ProgressLines` logs a line now and then, `JsonLog` is for machines, `JsonLines` and
`TensorBoard` keep the epochs of a training; `several` makes one callback of them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from memae.errors import WriteError

if TYPE_CHECKING:
    from memae.progress.bar import ProgressBar as ProgressBar
    from memae.progress.logs import JsonLines as JsonLines
    from memae.progress.logs import JsonLog as JsonLog
    from memae.progress.logs import ProgressLines as ProgressLines
    from memae.progress.logs import TensorBoard as TensorBoard

_HOME = {
    "ProgressBar": "bar",
    "ProgressLines": "logs",
    "JsonLines": "logs",
    "JsonLog": "logs",
    "TensorBoard": "logs",
}
_EVENTS = [
    "Advance",
    "Count",
    "Done",
    "End",
    "EpochRecord",
    "Event",
    "Plan",
    "Planned",
    "Progress",
    "Stage",
    "Warn",
]
__all__ = [*_EVENTS, *_HOME, "fold_name", "several", "stage", "tell", "within"]  # noqa: PLE0604  all are strings


class Event:
    """Something that happens in the course of the work."""


Progress: TypeAlias = Callable[[Event], None]
"""The callback. Of a launch of several processes the main one alone calls it."""


@dataclass(frozen=True)
class Count:
    """How many samples there are."""

    samples: int
    exact: bool = True
    """False: estimated from the size of a file, or stated by the container of a video."""


@dataclass(frozen=True)
class Stage(Event):
    """A piece of the work begins. Stages may be nested; what follows belongs to the innermost."""

    name: str
    """What is done, such as "scoring"."""
    unit: str
    """What is counted, in the plural: rows, images, frames, rounds."""
    total: Count | None
    """How many there are in all; None where only the end tells."""
    done: int = 0
    """How many of them an earlier run has done that is now resumed."""
    epochs: int | None = None
    """Of a training, which counts each sample once an epoch."""

    @property
    def epochs_done(self) -> int:
        """By the earlier run."""
        return round(self.done * (self.epochs or 0) / self.total.samples) if self.total and self.done else 0


@dataclass(frozen=True, slots=True)
class Advance(Event):
    """So many more are done."""

    count: int
    place: object = None
    """Where the work is; `str(place)` is for the reader."""
    loss: Callable[[], float] | None = None
    """Of a training: the mean loss of the epoch so far. The call waits for the device."""


@dataclass(frozen=True)
class EpochRecord(Event):
    """An epoch of a training is done: one line of its log."""

    epoch: int
    """Counted from 1."""
    loss: float
    held_out_loss: float | None
    seconds: float
    samples_per_second: float
    memory: Any
    """The figures of the memory, a dataclass of numbers; None of a network without one."""
    held_out_terms: Mapping[str, float] = field(default_factory=dict)
    """The mean of each term that the memory adds to the held-out loss, by its name, not yet weighted."""


@dataclass(frozen=True)
class End(Event):
    """The innermost stage is over, however it ended."""

    stage: Stage


@dataclass(frozen=True)
class Warn(Event):
    """Something went another way than asked for; the result stands."""

    message: str


@dataclass(frozen=True)
class Planned:
    """A stage that a job has before it."""

    name: str
    seconds: float
    """An estimate. What stages of a sort turn out to take in place of it corrects that of the others of the sort."""
    training: bool = False
    """The sort: a training, or scoring."""


@dataclass(frozen=True)
class Plan(Event):
    """The stages of a job, so that the time left can be that of the whole job."""

    stages: tuple[Planned, ...] = ()
    """In their order, without those that take next to no time; empty while the job knows too little."""


class Done(Protocol):
    """Tells that so many more of a stage are done."""

    def __call__(self, count: int, place: object = None, loss: Callable[[], float] | None = None, /) -> None:
        """See `Advance`."""


@contextmanager
def stage(
    progress: Progress | None,
    name: str,
    unit: str,
    total: Count | int | None = None,
    *,
    done: int = 0,
    epochs: int | None = None,
) -> Iterator[Done]:
    """A `Stage` as a block, which ends it however it is left; gives the function to call after each part of it."""
    begun = Stage(name, unit, Count(total) if isinstance(total, int) else total, done, epochs)
    tell(progress, begun)
    try:
        yield lambda *part: tell(progress, Advance(*part))
    finally:
        tell(progress, End(begun))


def tell(progress: Progress | None, event: Event) -> None:
    """Sends an event, if somebody listens."""
    if progress is not None:
        progress(event)


def fold_name(number: int, folds: int) -> str:
    """What a fold is called in the names of stages and of a plan."""
    return f"fold {number} of {folds}"


def within(progress: Progress | None, place: str) -> Progress | None:
    """The same callback, told of each stage with a place before its name, such as "fold 1 of 2, training"."""
    if progress is None:
        return None

    def told(event: Event) -> None:
        if isinstance(event, Stage):
            progress(replace(event, name=f"{place}, {event.name}"))
        elif isinstance(event, End):
            progress(End(replace(event.stage, name=f"{place}, {event.stage.name}")))
        else:
            progress(event)

    return told


def several(*callbacks: Progress) -> Progress:
    """One callback in place of several. A log that cannot be written any more is left out, with a warning."""
    members = list(callbacks)

    def tell_all(event: Event) -> None:
        for member in tuple(members):
            try:
                member(event)
            except (OSError, WriteError) as error:
                members.remove(member)
                tell_all(Warn(f"{error}; the work goes on without this log"))

    return tell_all


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"memae.progress.{_HOME[name]}"), name)
    if name == "Monitors":
        from memae.deprecated import warn_renamed
        from memae.deprecated.watcher import callback_of

        warn_renamed("memae.progress.Monitors", "memae.progress.several")
        return lambda members: several(*map(callback_of, members))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
