"""What the neural baselines share with the detector: preprocessing, split, weights of a seed, scoring in batches.

So a row of a table differs from the autoencoder's row by its method and by nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from experiments.methods.detectors import VALIDATION, network_of
from memae import Autoencoder
from memae.config import Config, override
from memae.modality import Artifact, Prepared, build, collect, modality_of, open_source, prepare, preset_config
from memae.predict import predict
from memae.training import History, local_seed
from memae.types import batches, fitting

__all__ = ["Problem", "facts_of", "paper", "with_weights_of"]

BATCH_BYTES = 8 << 20  # of encoded input per forward pass while scoring

Net = TypeVar("Net", bound=nn.Module)


def paper(network: str) -> str:
    """The preset of MemAE's paper for a network: pixels and columns in [0, 1], no scaling of single images."""
    return f"{network}-paper"


@dataclass(frozen=True)
class Problem:
    """The normal samples of one fit as a `memae.Detector` of a preset would train on them."""

    config: Config
    prepared: Prepared
    seed: int

    @classmethod
    def of(cls, fit: np.ndarray, seed: int, preset: Callable[[str], str], **train: Any) -> Problem:
        """Two thirds of `fit` to train on, encoded by the preset; `train` overrides its section of that name.

        Args:
            fit: images (S, C, H, W) or rows (S, D).
            seed: of the split, as the detector's.
            preset: from a network to the preset.
            **train: settings of `memae.config.TrainConfig`; None leaves the preset's own.
        """
        source = open_source(fit)
        given = {name: value for name, value in train.items() if value is not None}
        settings: Mapping[str, Any] = {
            **VALIDATION,
            "memory": {"enabled": False},
            "train": {**VALIDATION["train"], **given},
        }
        config = override(preset_config(preset(network_of(fit)), source.modality), settings, "the baseline")
        return cls(config, prepare(source, config, seed), seed)

    @property
    def small_step(self) -> int:
        """See `memae.training.loop.train`."""
        return modality_of(self.config.network).small_step

    def autoencoder(self) -> Autoencoder:
        """The paper's encoder and decoder for these samples, without a memory; as fresh as the detector's."""
        return with_weights_of(self.seed, lambda: build(self.config, self.prepared.preprocess.shape))

    def encoded(self, x: np.ndarray) -> Tensor:
        """Raw samples (T, ...) as the networks see them."""
        preprocess, kind = self.prepared.preprocess, modality_of(self.config.network)
        encoded: Tensor = preprocess.encode(collect(open_source(x, kind, preprocess)))
        return encoded

    def reconstruction_scores(self, model: Autoencoder, x: np.ndarray) -> np.ndarray:
        """(T,) float64 of raw samples (T, ...): the score that a detector with this network gives them."""
        artifact = Artifact(self.config, self.prepared.preprocess, model, None, np.empty(0), {})
        source = open_source(x, artifact.modality, artifact.preprocess)
        return np.concatenate([part.scores for part in predict(artifact, source)])

    def scores(self, model: nn.Module, score: Callable[[Tensor], Tensor], x: np.ndarray) -> np.ndarray:
        """(T,) float64 of raw samples (T, ...): `score` takes encoded ones (B, ...) on the device of `model`."""
        encoded = self.encoded(x)
        device = next(model.parameters()).device
        with torch.no_grad():
            parts = [score(part.to(device)) for part in batches(encoded, fitting(encoded, BATCH_BYTES))]
        found: np.ndarray = torch.cat(parts).double().cpu().numpy()
        return found


def with_weights_of(seed: int, make: Callable[[], Net]) -> Net:
    """A new network whose random weights are the seed's; the global random state is untouched."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(local_seed(seed))
        return make()


def facts_of(history: History, model: nn.Module) -> dict[str, Any]:
    """What is worth keeping of a training: its loss by epoch, and the size of the network."""
    return {
        "loss": [record.loss for record in history.records],
        "held_out_loss": [record.held_out_loss for record in history.records],
        "parameters": sum(p.numel() for p in model.parameters()),
    }
