"""Leaves out of a training what may be anomalies, where its owner says that some are among the normal samples.

A network rebuilds what it was trained on, an anomaly too. So each half of the samples is scored by a model that was
trained on the other half, and the stated share of the highest scores is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memae.config import Config
from memae.threshold import highest
from memae.types import Encoded, Key

__all__ = ["chosen", "first_training", "halves", "left_out", "suspects"]

NAMED = 20  # samples that the facts of a model name
BLOCKS = 8  # neighbours stay together: clips of one second of video are nearly the same


def halves(samples: int) -> tuple[Tensor, Tensor]:
    """The numbers of the samples in the odd and the even of eight equal blocks."""
    block = torch.arange(samples) * min(BLOCKS, samples) // samples
    return torch.nonzero(block % 2 == 0)[:, 0], torch.nonzero(block % 2 == 1)[:, 0]


def suspects(scores: np.ndarray, share: float) -> np.ndarray:
    """The numbers of the samples with scores (S,) that are to be left out, the highest score first.

    Args:
        scores: each by a model that did not see the sample.
        share: of anomalies among the samples.
    """
    order: np.ndarray = np.argsort(-scores, kind="stable")
    return order[: highest(len(scores), share)]


def first_training(config: Config) -> Config:
    """The settings of the models that only score the other half: half as many epochs, the last of them kept."""
    epochs = config.train.epochs
    brief = {"epochs": epochs and max(1, epochs // 2), "patience": 0, "contamination": 0.0}
    return config.model_copy(update={"train": config.train.model_copy(update=brief)})


def left_out(suspect: np.ndarray, samples: int, key_of: Callable[[int], Key] | None) -> dict[str, Any]:
    """What the facts of a model say of the samples that it was not trained on, the most suspect first."""
    keys = dict.fromkeys(_text(key_of(int(number))) for number in suspect[:NAMED]) if key_of else {}
    return {"count": len(suspect), "samples": samples, "first": list(keys)}


def _text(key: Key) -> str:
    """A path of other bytes than UTF-8 has no place in JSON as it is."""
    return str(key).encode(errors="surrogateescape").decode(errors="backslashreplace")


def chosen(x: Encoded, rows: Tensor) -> Encoded:
    """The samples of these numbers (B,), in that order."""
    return x[rows] if isinstance(x, Tensor) else _Chosen(x, rows)


@dataclass(frozen=True)
class _Chosen:
    """Some of the samples of a data set that encodes them when they are asked for."""

    base: Encoded
    rows: Tensor
    """(B,) on the CPU."""

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Tensor:
        rows = self.rows[index.cpu() if isinstance(index, Tensor) else index]
        return self.base[rows.to(self.device)]

    @property
    def shape(self) -> Sequence[int]:
        return len(self), *self.base.shape[1:]

    @property
    def device(self) -> torch.device:
        return self.base.device

    def to(self, device: torch.device) -> Encoded:
        return _Chosen(self.base.to(device), self.rows)
