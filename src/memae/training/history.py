"""How a training went, epoch by epoch, and who is told while it goes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from memae.memory.usage import MemoryHealth
from memae.stages import Watcher

__all__ = ["EpochRecord", "History", "Monitor"]


@dataclass(frozen=True)
class EpochRecord:
    """One line of the training log."""

    epoch: int
    """Counted from 1."""
    loss: float
    held_out_loss: float | None
    seconds: float
    samples_per_second: float
    memory: MemoryHealth | None


@dataclass(frozen=True)
class History:
    """How a training went."""

    records: tuple[EpochRecord, ...]
    kept_epoch: int
    """The epoch whose weights the model has now, counted from 1."""
    interrupted: bool = False
    samples_at_once: int | None = None
    """Where memory ran out: how many samples of a batch went through the model at once; None where it did not."""


class Monitor(Watcher, Protocol):
    """Who is told how the training goes, in the main process only, and how far all work around it is."""

    def begin(self, epochs: int, samples: int, done: int) -> None:
        """Training starts: so many epochs in all, samples in each, epochs done before a resume."""

    def step(self, samples: int, loss: Callable[[], float]) -> None:
        """A step is done; call `loss` for the mean loss of the epoch so far, which waits for the device."""

    def epoch(self, record: EpochRecord) -> None:
        """An epoch is done."""

    def end(self) -> None:
        """Training is over, however it ended."""
