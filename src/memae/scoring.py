"""From a model and encoded samples to error maps and scores: one finite number a sample, higher = more anomalous.

The scorer knows no label and no threshold.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from memae.data.encoded import Encoded, batches, fitting
from memae.data.samples import Key
from memae.losses import squared_error
from memae.models.autoencoder import Autoencoder
from memae.ops import MemoryRead

__all__ = ["ErrorMap", "Scores", "error_maps", "sample_scores"]

BATCH_BYTES = 8 << 20  # of encoded input per forward pass: large enough for the matrix units, small for memory


@dataclass(frozen=True)
class Scores:
    """Reconstruction errors, one a sample."""

    values: np.ndarray
    """(S,) float64: mean squared error over the elements of the encoded sample; higher = more anomalous."""
    keys: Sequence[Key]
    """(S,) the path, row number or index label of each sample."""

    def __len__(self) -> int:
        return len(self.values)


class ErrorMap(NamedTuple):
    """A batch as the scorer saw it."""

    reconstruction: Tensor
    """(B, ...) in encoded units."""
    errors: Tensor
    """(B, ...) squared error of each element; its mean over a sample is the sample's score."""
    read: MemoryRead | None

    @property
    def scores(self) -> np.ndarray:
        """(B,) float64: the score of each sample."""
        scores: np.ndarray = self.errors.flatten(1).mean(dim=1).double().cpu().numpy()
        return scores


@torch.inference_mode()
def error_maps(model: Autoencoder, x: Encoded) -> Iterator[ErrorMap]:
    """The error maps of encoded samples (S, ...), in batches, on the device of the model."""
    model.eval()
    device = next(model.parameters()).device
    for batch in batches(x, fitting(x, BATCH_BYTES)):
        batch = batch.to(device)  # noqa: PLW2901  the same batch, elsewhere
        rebuilt = model(batch)
        yield ErrorMap(rebuilt.x, squared_error(batch, rebuilt.x), rebuilt.read)


def sample_scores(model: Autoencoder, x: Encoded) -> np.ndarray:
    """(S,) float64 scores of encoded samples (S, ...)."""
    parts = [part.scores for part in error_maps(model, x)]
    return np.concatenate(parts) if parts else np.empty(0)
