"""The training loop, what it minimises, and the state it can be resumed from."""

from memae.training.history import EpochRecord, History
from memae.training.loop import Device, local_seed, train
from memae.training.objective import BatchLoss, Objective, ReconstructionObjective

__all__ = [
    "BatchLoss",
    "Device",
    "EpochRecord",
    "History",
    "Objective",
    "ReconstructionObjective",
    "local_seed",
    "train",
]
