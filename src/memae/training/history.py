"""How a training went, epoch by epoch."""

from __future__ import annotations

from dataclasses import dataclass

from memae.progress import EpochRecord

__all__ = ["EpochRecord", "History"]


@dataclass(frozen=True)
class History:
    """How a training went."""

    records: tuple[EpochRecord, ...]
    kept_epoch: int
    """The epoch whose weights the model has now, counted from 1."""
    interrupted: bool = False
    samples_at_once: int | None = None
    """Where memory ran out: how many samples of a batch went through the model at once; None where it did not."""
