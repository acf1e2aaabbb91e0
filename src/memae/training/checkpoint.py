"""The state of a training on disk, so that it can be resumed: safetensors and JSON, no pickle."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from memae.errors import ArtifactError, ConfigError
from memae.files.atomic import atomic_directory
from memae.types import Encoded, fitting

__all__ = ["Checkpoint", "checkpoint_of"]

FINGERPRINT_CLIPS = 16
FINGERPRINT_BYTES = 1 << 20


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
        return (self.path / "state.json").exists()

    def remove(self) -> None:
        """Forgets the saved state."""
        shutil.rmtree(self.path, ignore_errors=True)

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
        except (OSError, ValueError, LookupError, TypeError, SafetensorError) as error:
            raise ArtifactError(
                f"{self.path}: this checkpoint cannot be read ({error}); remove it and train anew"
            ) from None
        if fingerprint != self.fingerprint:
            raise ConfigError(
                f"{self.path}: the checkpoint is of a training with other data, settings or seed; resume with the "
                "same ones, or remove it to train anew"
            )
        return tensors, facts


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
