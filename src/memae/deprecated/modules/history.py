"""The old place of `Monitor`, `EpochRecord` and `History`; it goes with 0.2.0."""

from memae.deprecated.watcher import Monitor
from memae.training.history import EpochRecord, History

__all__ = ["EpochRecord", "History", "Monitor"]
