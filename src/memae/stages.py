"""How far a longer piece of work is: what the library tells whoever watches, and nobody where nobody does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Advance", "Count", "Stage", "Watcher", "stage"]


@dataclass(frozen=True)
class Count:
    """How many samples there are."""

    samples: int
    exact: bool = True
    """False: told from the size of a file, or from what a container states."""


@dataclass(frozen=True)
class Stage:
    """One longer piece of work."""

    name: str
    """What is done, such as "scoring"."""
    unit: str
    """What is counted, in the plural: rows, images, frames, rounds."""
    total: Count | None
    """How many there will be; None where only the end tells."""


class Watcher(Protocol):
    """Who is told how far the work is. Stages may lie in each other; what is told belongs to the innermost."""

    def begin_stage(self, stage: Stage) -> None:
        """A stage begins."""

    def advance(self, count: int, place: object = None) -> None:
        """So many more are done; `str(place)` says where the work is, and is asked for only when it is shown."""

    def end_stage(self) -> None:
        """The innermost stage is over, however it ended."""

    def warn(self, message: str) -> None:
        """Something went another way than asked for; the result stands."""


class Advance(Protocol):
    """Tells that so many more of a stage are done."""

    def __call__(self, count: int, place: object = None, /) -> None:
        """See `Watcher.advance`."""


@contextmanager
def stage(watcher: Watcher | None, name: str, unit: str, total: Count | int | None = None) -> Iterator[Advance]:
    """A stage of the work as a block; gives the function to call after each part. Without a watcher it is silent."""
    if watcher is None:
        yield _silent
        return
    watcher.begin_stage(Stage(name, unit, Count(total) if isinstance(total, int) else total))
    try:
        yield watcher.advance
    finally:
        watcher.end_stage()


def _silent(count: int, place: object = None, /) -> None:
    pass
