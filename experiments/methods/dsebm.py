"""Deep structured energy-based models (Zhai, Cheng, Lu and Zhang, ICML 2016), "DSEBM-e" and "DSEBM-r".

Published: the energy of a sample is E(x) = 1/2 ||x - b'||^2 - sum_j h_j(x), where h(x) is the last layer of a network
of softplus units, fully connected for rows and convolutional for images. With f(x) = x - grad E(x), a decoder that has
the encoder's weights, score matching is the training of a denoising autoencoder: the loss is ||x - f(x + noise)||^2.
The scores are E(x), and the reconstruction error ||x - f(x)||^2 = ||grad E(x)||^2.

Ours, where the paper is silent: the layers are those of MemAE's encoders, without BatchNorm, behind which the energy of
a sample would depend on its batch, and with a bias in its place. The noise has deviation 1, at which f is the denoiser
that score matching means, on samples scaled to [0, 1]. b' starts at the mean of the training samples. Adam; epochs,
batches and rate of the network's preset. Mind that MNIST's first layer, 1 px wide at a stride of 2, sees one pixel in
four: of the others E knows the distance to b' alone.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from experiments.methods.method import Fitted, Method
from experiments.methods.neural import Problem, facts_of, paper, with_weights_of
from memae.image.config import CIFAR10_LAYERS, MNIST_LAYERS
from memae.losses import squared_error
from memae.table.config import KDDCUP_WIDTHS
from memae.training import BatchLoss, History, Objective, train

__all__ = ["EnergyModel", "denoising", "dsebm", "softplus_units"]

Criterion = Literal["energy", "reconstruction"]


class EnergyModel(nn.Module):
    """A density by its energy, up to a constant: high where samples are rare.

    Args:
        features: from samples (B, ...) to h (B, ...), twice differentiable.
        centre: b' (...), of the shape of one sample; it is learnt from there.
    """

    def __init__(self, features: nn.Module, centre: Tensor) -> None:
        super().__init__()
        self.features = features
        self.centre = nn.Parameter(centre.clone())

    def energies(self, x: Tensor) -> Tensor:
        """E (B,) of samples (B, ...)."""
        apart = (x - self.centre).square().flatten(1).sum(dim=1)
        features: Tensor = self.features(x)
        return apart / 2 - features.flatten(1).sum(dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """f(x) = x - grad E(x), of the shape of x; while training it can itself be differentiated by the weights."""
        with torch.enable_grad():  # a gradient is part of the network, under no_grad too
            seen = x.detach().requires_grad_()
            # samples do not meet in E, so the gradient of the sum is each one's own
            (slope,) = torch.autograd.grad(self.energies(seen).sum(), seen, create_graph=self.training)
        return x - slope


def softplus_units(network: str, shape: tuple[int, ...]) -> nn.Sequential:
    """The layers of the encoder of "mnist", "cifar10" or "kddcup" for samples of `shape`, softplus behind each."""
    layers: list[nn.Module] = []
    if network == "kddcup":
        layers += (nn.Linear(into, out) for into, out in pairwise((*shape, *KDDCUP_WIDTHS)))
    else:
        channels = shape[0]
        for layer in CIFAR10_LAYERS if network == "cifar10" else MNIST_LAYERS:
            layers.append(nn.Conv2d(channels, layer.channels, layer.kernel, layer.stride, layer.padding))
            channels = layer.channels
    return nn.Sequential(*(stage for layer in layers for stage in (layer, nn.Softplus())))


def denoising(noise: float) -> Objective:
    """Score matching by denoising: ||x - f(x + noise)||^2, summed over a sample."""

    def objective(model: nn.Module, x: Tensor) -> BatchLoss:
        rebuilt = model(x + noise * torch.randn_like(x))
        return BatchLoss(squared_error(x, rebuilt).flatten(1).sum(dim=1).mean(), None)

    return objective


def dsebm(criterion: Criterion, *, epochs: int | None = None, noise: float = 1.0) -> Method:
    """The model, scored by its "energy" (DSEBM-e) or its "reconstruction" error (DSEBM-r).

    Args:
        criterion: the score; the training is the same, and done once for two methods that follow each other.
        epochs: None is the network's own number.
        noise: its standard deviation, on samples in [0, 1].
    """

    def run(fit: np.ndarray, seed: int) -> Fitted:
        problem, model, history, seconds = _trained(_Samples.of(fit), seed, epochs, noise)

        def reconstruction_error(x: Tensor) -> Tensor:
            return squared_error(x, model(x)).flatten(1).sum(dim=1)

        score = model.energies if criterion == "energy" else reconstruction_error
        return Fitted(
            lambda x: problem.scores(model, score, x),
            settings={**problem.config.model_dump(), "criterion": criterion, "noise": noise},
            facts=facts_of(history, model),
            fit_seconds=seconds,
        )

    return run


@dataclass(frozen=True)
class _Samples:
    """Samples that are the same where their bytes are."""

    digest: str
    values: np.ndarray = field(compare=False)

    @classmethod
    def of(cls, values: np.ndarray) -> _Samples:
        found = hashlib.sha256(f"{values.dtype} {values.shape}".encode())
        found.update(np.ascontiguousarray(values).data)
        return cls(found.hexdigest(), values)


class _Trained(NamedTuple):
    problem: Problem
    model: EnergyModel
    history: History
    seconds: float


@lru_cache(maxsize=1)
def _trained(samples: _Samples, seed: int, epochs: int | None, noise: float) -> _Trained:
    started = time.perf_counter()
    problem = Problem.of(samples.values, seed, paper, epochs=epochs)
    training = problem.prepared.training
    assert isinstance(training, Tensor)
    units = with_weights_of(seed, lambda: softplus_units(problem.config.network, tuple(training.shape[1:])))
    model = EnergyModel(units, training.mean(dim=0))
    history = train(
        model,
        training,
        problem.prepared.validation,
        objective=denoising(noise),
        settings=problem.config.train,
        seed=seed,
        small_step=problem.small_step,
    )
    return _Trained(problem, model, history, time.perf_counter() - started)
