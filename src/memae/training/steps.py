"""How many steps an epoch has, at which rate they learn and on how many threads they run."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from fractions import Fraction
from math import ceil

import torch
from torch import nn

from memae.config import Config, TrainConfig
from memae.engine import one_thread
from memae.types import Encoded

__all__ = [
    "as_many_steps",
    "epochs_of",
    "few_threads",
    "learning_rate",
    "learns_from_one",
    "steps_of",
    "usual_batch_size",
]

LEAST_STEPS = 500  # where the settings leave the length of a training to the data


def usual_batch_size(samples: int) -> int:
    """A power of two that makes 32 to 64 steps an epoch, and never less than 32 or more than 2048 samples."""
    return min(2048, max(32, 1 << max(0, (samples // 32).bit_length() - 1)))


def epochs_of(settings: TrainConfig, samples: int) -> int:
    """The epochs of a training, where the settings may leave them to the number of samples."""
    if settings.epochs is not None:
        return settings.epochs
    return max(settings.least_epochs, -(-LEAST_STEPS // steps_of(samples, settings)))


def steps_of(samples: int, settings: TrainConfig) -> int:
    """Steps of one epoch."""
    return -(-samples // (settings.batch_size or usual_batch_size(samples)))


def as_many_steps(config: Config, samples: int, whole: int) -> Config:
    """The settings with which a training on `samples` takes at least the steps of one on `whole` samples.

    A model of a fold stands for the model of all samples, and a model that was trained for fewer steps leaves other
    errors. So everything that is counted in epochs grows by the ratio of the steps of an epoch.
    """
    train, memory = config.train, config.memory
    ratio = Fraction(steps_of(whole, train), steps_of(samples, train))

    def grown(epochs: int) -> int:
        return ceil(epochs * ratio)

    return config.model_copy(
        update={
            "train": train.model_copy(
                update={"epochs": grown(epochs_of(train, whole)), "patience": grown(train.patience)}
            ),
            "memory": memory.model_copy(
                update={
                    "warmup_epochs": grown(memory.warmup_epochs),
                    "revive_epochs": grown(memory.revive_epochs),
                }
            ),
        }
    )


def learning_rate(settings: TrainConfig, epochs_done: float) -> float:
    """Constant, then in a straight line to zero over the last `decay_share` of the training."""
    if not settings.decay_share or not settings.epochs:
        return settings.learning_rate
    left = (1 - epochs_done / settings.epochs) / settings.decay_share
    return settings.learning_rate * min(1.0, left)


def few_threads(model: nn.Module, batch: int, small: int) -> AbstractContextManager[None]:
    """A block of one thread where a step is so small that waking a second one costs more than it brings.

    Args:
        model: what is trained.
        batch: samples of a step.
        small: parameters times samples of the least step that is worth all threads.
    """
    tiny = sum(p.numel() for p in model.parameters()) * batch < small
    return one_thread() if tiny else nullcontext()


@torch.no_grad()
def learns_from_one(model: nn.Module, x: Encoded) -> bool:
    """Whether a network can be trained on a single sample; nothing is learnt here."""
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    try:
        model(x[:1])
    except ValueError:  # "Expected more than 1 value per channel when training"
        return False
    finally:
        for name, buffer in model.named_buffers():
            buffer.copy_(before[name])
    return True
