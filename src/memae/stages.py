"""The names of before, until all modules say `progress`."""

from memae.progress import Count, Done, Progress, Stage, stage

__all__ = ["Advance", "Count", "Stage", "Watcher", "stage"]

Advance = Done
Watcher = Progress
