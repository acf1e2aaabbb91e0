"""The old place of `Watcher` and `stage`; it goes with 0.2.0."""

from memae.deprecated.watcher import Watcher
from memae.progress import Count, Stage, stage
from memae.progress import Done as Advance

__all__ = ["Advance", "Count", "Stage", "Watcher", "stage"]
