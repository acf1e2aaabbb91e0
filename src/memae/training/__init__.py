"""The training loop, what it minimises, and the state it can be resumed from."""

from memae.training.history import EpochRecord, History
from memae.training.loop import Device, local_seed, train
from memae.training.objective import Batch, BatchLoss, Objective, ReconstructionObjective, Task

__all__ = [
    "Batch",
    "BatchLoss",
    "Device",
    "EpochRecord",
    "History",
    "Objective",
    "ReconstructionObjective",
    "Task",
    "local_seed",
    "train",
]
