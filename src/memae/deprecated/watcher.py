"""`Watcher` and `Monitor` of before: objects with a method for each kind of event, in place of one callback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from memae.progress import Advance, End, EpochRecord, Event, Stage, Warn

__all__ = ["Monitor", "Watcher", "callback_of"]


class Watcher(Protocol):
    """Who is told how far the work is."""

    def begin_stage(self, stage: Stage) -> None:
        """A stage begins."""

    def advance(self, count: int, place: object = None) -> None:
        """So many more are done."""

    def end_stage(self) -> None:
        """The innermost stage is over, however it ended."""

    def warn(self, message: str) -> None:
        """Something went another way than asked for; the result stands."""


class Monitor(Watcher, Protocol):
    """Who is told how a training goes, too."""

    def begin(self, epochs: int, samples: int, done: int) -> None:
        """Training starts: so many epochs in all, samples in each, epochs done before a resume."""

    def step(self, samples: int, loss: Callable[[], float]) -> None:
        """A step is done; `loss` gives the mean loss of the epoch so far."""

    def epoch(self, record: EpochRecord) -> None:
        """An epoch is done."""

    def end(self) -> None:
        """Training is over, however it ended."""


def callback_of(listener: Any) -> Any:
    """A callback that calls the methods of a `Watcher` or `Monitor`; anything else is given back as it is."""
    if not hasattr(listener, "begin_stage"):
        return listener

    def tell(event: Event) -> None:
        match event:
            case Stage(epochs=None):
                listener.begin_stage(event)
            case Stage(total=total, epochs=int(epochs)):
                listener.begin(epochs, total.samples // max(1, epochs) if total else 0, event.epochs_done)
            case Advance(loss=None):
                listener.advance(event.count, event.place)
            case Advance():
                listener.step(event.count, event.loss)
            case EpochRecord():
                listener.epoch(event)
            case End(stage=Stage(epochs=None)):
                listener.end_stage()
            case End():
                listener.end()
            case Warn():
                listener.warn(event.message)

    return tell
