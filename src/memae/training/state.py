"""What a training carries from epoch to epoch, and how a checkpoint keeps it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from memae.memory.usage import MemoryHealth
from memae.training.checkpoint import Checkpoint
from memae.training.history import EpochRecord

__all__ = ["TrainingState", "restore", "save"]


@dataclass
class TrainingState:
    """What changes from epoch to epoch besides the weights and the optimiser."""

    records: list[EpochRecord] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    best_loss: float = float("inf")
    best_epoch: int = 0


def save(checkpoint: Checkpoint, model: nn.Module, optimizer: Any, state: TrainingState) -> None:
    """Writes weights, moments of Adam and state.

    Raises:
        OSError, SafetensorError, WriteError: it cannot be written.
    """
    stored = optimizer.state_dict()["state"]
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in state.best.items()}
    tensors |= {f"adam.{i}.{name}": tensor for i, part in stored.items() for name, tensor in part.items()}
    checkpoint.save(
        tensors,
        {
            "records": [asdict(record) for record in state.records],
            "best_loss": state.best_loss,
            "best_epoch": state.best_epoch,
        },
    )


def restore(checkpoint: Checkpoint, model: nn.Module, optimizer: Any, device: torch.device) -> TrainingState:
    """Reads what `save` wrote: into the model and the optimiser, and the state."""
    tensors, facts = checkpoint.load()
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "adam": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = tensor
    model.load_state_dict(parts["model"])
    moments: dict[int, dict[str, Tensor]] = {}
    parameters = optimizer.param_groups[0]["params"]
    for name, tensor in parts["adam"].items():
        place, _, moment = name.partition(".")
        like = parameters[int(place)]
        # fused Adam goes by memory and not by strides, and a file knows none
        alike = torch.empty_like(like, dtype=tensor.dtype).copy_(tensor) if tensor.shape == like.shape else tensor
        moments.setdefault(int(place), {})[moment] = alike
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    return TrainingState(
        records=[_record(stored) for stored in facts["records"]],
        best={name: tensor.to(device) for name, tensor in parts["best"].items()},
        best_loss=facts["best_loss"],
        best_epoch=facts["best_epoch"],
    )


def _record(stored: dict[str, Any]) -> EpochRecord:
    health = stored["memory"]
    return EpochRecord(**(stored | {"memory": MemoryHealth.of(health) if health else None}))
