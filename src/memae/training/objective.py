"""What a training minimises: the only seam between the training loop and a method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from memae.losses import Reduction, squared_error, total_loss
from memae.memory.base import LossTerm, Memory, MemoryRead

__all__ = ["BatchLoss", "Objective", "ReconstructionObjective"]


class BatchLoss(NamedTuple):
    """What an objective makes of a batch."""

    loss: Tensor
    """The scalar to minimise: a mean over the samples of the batch."""
    read: MemoryRead | None
    """The memory read behind it, watched for health; None where there is no memory."""
    terms: tuple[LossTerm, ...] = ()
    """What of the loss comes from the memory, for the log."""


Objective: TypeAlias = Callable[[nn.Module, Tensor], BatchLoss]
"""From a model and samples (B, ...) to its loss; `model.training` tells training from validation."""


@dataclass(frozen=True, kw_only=True)
class ReconstructionObjective:
    """The objective of every autoencoder: the error of its reconstruction plus the terms of its memory."""

    reduction: Reduction
    """Of the error of one sample."""
    noise: float = 0.0
    """Standard deviation of the Gaussian noise on the input while training; the target stays clean."""

    def __call__(self, model: nn.Module, samples: Tensor) -> BatchLoss:
        """Loss and read of samples (B, ...)."""
        noisy = self.noise and model.training
        made = model(samples + self.noise * torch.randn_like(samples) if noisy else samples)
        terms = () if made.read is None else _memory(model).loss_terms(made.read)
        loss = total_loss(squared_error(made.against(samples), made.x), terms, reduction=self.reduction)
        return BatchLoss(loss, made.read, terms)


def _memory(model: nn.Module) -> Memory:
    """Of a model; several processes train it as the `module` of a wrapper."""
    autoencoder: Any = getattr(model, "module", model)
    memory: Memory = autoencoder.memory
    return memory
