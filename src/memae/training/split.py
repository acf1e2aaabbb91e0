"""Normal samples in three disjoint parts: for training, for early stopping, and for the threshold.

A threshold from scores that chose the epoch would promise too much, so no part serves two purposes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from memae.config import Config
from memae.threshold import check_parts
from memae.training.loop import local_seed

__all__ = ["Split", "counted", "split"]


class Split(NamedTuple):
    """The rows (B,) of each part."""

    train: Tensor
    validation: Tensor
    calibration: Tensor


def split(samples: int, config: Config, seed: int, origin: str) -> Split:
    """The parts of so many samples, in a seeded order.

    Raises:
        DataError: too few samples.
        ConfigError: a false-alarm rate that so few samples cannot promise.
    """
    calibration = round(samples * config.threshold.calibration_share)
    validation = round(samples * config.train.validation_share)
    training = samples - calibration - validation
    check_parts(
        training, validation, calibration, config, f"{origin}: holds {samples} sample{'s' * (samples != 1)}"
    )
    order = torch.randperm(samples, generator=torch.Generator().manual_seed(local_seed(seed, 0)))
    return Split(*torch.split(order, [training, validation, calibration]))


def counted(training: int, validation: int, calibration: int) -> dict[str, int]:
    """The sizes of the parts, as the facts of a model name them."""
    return {"training": training, "held_out": validation, "calibration": calibration}
