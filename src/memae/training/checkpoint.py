"""What a training carries from epoch to epoch, and its copy on disk for a resume: safetensors and JSON, no pickle."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from memae.errors import ArtifactError, ConfigError, first_line
from memae.files.atomic import atomic_directory
from memae.files.parts import recover, remove
from memae.memory.usage import MemoryHealth
from memae.training.history import EpochRecord
from memae.types import Encoded, fitting

__all__ = ["Checkpoint", "TrainingState", "checkpoint_of", "restore", "save"]

FINGERPRINT_CLIPS = 16
FINGERPRINT_BYTES = 1 << 20


@dataclass
class TrainingState:
    """What changes from epoch to epoch besides the weights and the optimiser."""

    records: list[EpochRecord] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    best_loss: float = float("inf")
    best_epoch: int = 0


@dataclass(frozen=True)
class Checkpoint:
    """Where the state of a training lives.

    Accelerate's own checkpoints pickle the optimiser and the random state, so they are not used.
    """

    path: Path
    fingerprint: str
    """Says which run this is: data, settings, seed. Another run's checkpoint is refused."""

    def exists(self) -> bool:
        """A state was saved."""
        recover(self.path)
        return (self.path / "state.json").exists()

    def remove(self) -> None:
        """Forgets the saved state."""
        remove(self.path)

    def save(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Replaces the saved state, atomically."""
        with atomic_directory(self.path) as part:
            save_file(
                # copies, as parameters may lie side by side in one block of memory, which the format does not know
                {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()},
                part / "state.safetensors",
            )
            (part / "state.json").write_text(json.dumps({"fingerprint": self.fingerprint, **facts}))

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The saved state.

        Raises:
            ConfigError: it is of another run.
            ArtifactError: it is damaged.
        """
        try:
            facts = json.loads((self.path / "state.json").read_text())
            fingerprint = facts["fingerprint"]
            tensors = load_file(self.path / "state.safetensors")
        except (OSError, ValueError, LookupError, TypeError, RecursionError, SafetensorError) as error:
            raise self.damaged(error) from None
        if fingerprint != self.fingerprint:
            raise ConfigError(
                f"{self.path}: the checkpoint is of a training with other data, settings or seed; resume with the "
                "same ones, or remove it to train anew"
            )
        return tensors, facts

    def damaged(self, error: BaseException) -> ArtifactError:
        """The error for a state that cannot be read, with its reason."""
        return ArtifactError(
            f"{self.path}: this checkpoint cannot be read ({first_line(error)}); remove it and train anew"
        )


def checkpoint_of(path: Path, training: Encoded, run: Any) -> Checkpoint:
    """The checkpoint at `path` of a training on these samples with these plain settings."""
    digest = hashlib.sha256(json.dumps([run, list(training.shape)]).encode())
    if isinstance(training, Tensor):
        digest.update(training.numpy().tobytes())
    else:  # clips or rows in a file: some from all over tell the data
        count = min(len(training), max(FINGERPRINT_CLIPS, fitting(training, FINGERPRINT_BYTES)))
        some = torch.linspace(0, len(training) - 1, count, dtype=torch.float64).long()
        digest.update(training[some].numpy().tobytes())
    return Checkpoint(path, digest.hexdigest())


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
    """Reads what `save` wrote: into the model and the optimiser, and the state.

    Raises:
        ConfigError: it is of another run.
        ArtifactError: it is damaged.
    """
    tensors, facts = checkpoint.load()
    try:
        return _restored(tensors, facts, model, optimizer, device)
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RuntimeError) as error:
        raise checkpoint.damaged(error) from None


def _restored(
    tensors: dict[str, Tensor], facts: dict[str, Any], model: nn.Module, optimizer: Any, device: torch.device
) -> TrainingState:
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "adam": {}}
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise ValueError(f"{name} holds NaN or infinite values")  # a training ends before it saves such
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
        records=[_record(epoch, stored) for epoch, stored in enumerate(facts["records"], 1)],
        best={name: tensor.to(device) for name, tensor in parts["best"].items()},
        best_loss=float(facts["best_loss"]),
        best_epoch=int(facts["best_epoch"]),
    )


def _record(epoch: int, stored: dict[str, Any]) -> EpochRecord:
    """The record of an epoch; a ValueError for one of another or of other types."""
    record = TypeAdapter(EpochRecord).validate_python(stored)
    if record.epoch != epoch:
        raise ValueError(f"the record of epoch {epoch} is of epoch {record.epoch}")
    if not record.memory:
        return replace(record, memory=None)
    return replace(
        record, memory=TypeAdapter(MemoryHealth).validate_python(asdict(MemoryHealth.of(record.memory)))
    )
