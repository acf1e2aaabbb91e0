"""Variational autoencoder.

Published: Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014: minimise the negative evidence lower bound
-E_q(z|x)[log p(x|z)] + KL(q(z|x) || N(0, 1)) with one draw of z a sample and step, q a diagonal Gaussian; p(x|z) is
Bernoulli for the digits of MNIST, pixels in [0, 1], and else a diagonal Gaussian whose mean and variance the decoder
gives, with the mean of a pixel in (0, 1). The score is that of An and Cho, "Variational Autoencoder based Anomaly
Detection using Reconstruction Probability", 2015: -E_q(z|x)[log p(x|z)] over some draws, without the divergence.

Ours: the encoder and decoder are the layers of the memory paper's networks; 64 latent variables for images, 3 for rows;
a standard deviation of at least 0.05, so that a pixel that never changes cannot outweigh all others; 10 draws, the same
for every sample, so that a score depends on its sample alone; preprocessing, split, epochs, batch and rate of the
autoencoder's paper preset.
"""

from __future__ import annotations

from math import log, pi, prod
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.methods.method import Fitted, Method
from experiments.methods.neural import Problem, facts_of, paper, with_weights_of
from memae.image.config import CIFAR10_LAYERS, MNIST_LAYERS
from memae.image.networks import conv_decoder, conv_encoder, encoded_shape
from memae.table.config import KDDCUP_WIDTHS
from memae.table.networks import fully_connected
from memae.training import BatchLoss, local_seed, train

__all__ = ["VAE", "Bound", "divergence", "gaussian_log_likelihood", "vae"]

IMAGE_LATENT = 64
DRAWS = 10
LEAST_LOG_VARIANCE = 2 * log(0.05)

Likelihood = Literal["bernoulli", "gaussian", "gaussian-pixels"]


class Bound(NamedTuple):
    """The two parts of the evidence lower bound, sample by sample."""

    log_likelihood: Tensor
    """(B,) log p(x|z) of the z that was drawn, nats."""
    divergence: Tensor
    """(B,) KL(q(z|x) || N(0, 1)), nats."""


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """(B,) KL divergence of diagonal Gaussians (B, L) from the standard one (Kingma and Welling, appendix B)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1)


def gaussian_log_likelihood(x: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """(B,) log density of x (B, ...) under diagonal Gaussians of that shape."""
    terms = log_variance + (x - mean).square() * (-log_variance).exp() + log(2 * pi)
    return -0.5 * terms.flatten(1).sum(dim=1)


class VAE(nn.Module):
    """Encoder to the mean and log-variance of z side by side, decoder to the parameters of p(x|z).

    Args:
        latent: L, the variables in z.
        encoder: (B, ...) to (B, 2 L).
        decoder: (B, L) to the logits (B, ...) of a Bernoulli, or to means and log-variances (B, 2 C, ...).
        likelihood: "gaussian-pixels" is the Gaussian with its mean in (0, 1).
    """

    def __init__(self, latent: int, encoder: nn.Module, decoder: nn.Module, likelihood: Likelihood) -> None:
        super().__init__()
        self.latent, self.likelihood = latent, likelihood
        self.encoder, self.decoder = encoder, decoder

    def forward(self, x: Tensor, noise: Tensor | None = None) -> Bound:
        """Both parts of the bound for a batch, with z = mean + deviation * noise; noise (B or 1, L), drawn if None."""
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        noise = torch.randn_like(mean) if noise is None else noise
        decoded = self.decoder(mean + noise * (log_variance / 2).exp())
        return Bound(self._log_likelihood(x, decoded), divergence(mean, log_variance))

    def _log_likelihood(self, x: Tensor, decoded: Tensor) -> Tensor:
        if self.likelihood == "bernoulli":
            return -F.binary_cross_entropy_with_logits(decoded, x, reduction="none").flatten(1).sum(dim=1)
        mean, raw = decoded.chunk(2, dim=1)
        mean = mean.sigmoid() if self.likelihood == "gaussian-pixels" else mean
        return gaussian_log_likelihood(x, mean, LEAST_LOG_VARIANCE + F.softplus(raw - LEAST_LOG_VARIANCE))


def negative_bound(model: nn.Module, x: Tensor) -> BatchLoss:
    """The objective: the negative evidence lower bound, one draw a sample."""
    bound = model(x)
    return BatchLoss((bound.divergence - bound.log_likelihood).mean(), None)


def vae(*, epochs: int | None = None) -> Method:
    """The VAE on the paper's network for the data; `epochs` None is the network's own number."""

    def run(fit: np.ndarray, seed: int) -> Fitted:
        problem = Problem.of(fit, seed, paper, epochs=epochs)
        prepared = problem.prepared
        model = with_weights_of(seed, lambda: _build(problem.config.network, prepared.preprocess.shape))
        history = train(
            model,
            prepared.training,
            prepared.validation,
            objective=negative_bound,
            settings=problem.config.train,
            seed=seed,
            small_step=problem.small_step,
        )
        noise = torch.randn(DRAWS, model.latent, generator=torch.Generator().manual_seed(local_seed(seed, 1)))

        def improbability(x: Tensor) -> Tensor:
            draws = [model(x, draw[None]).log_likelihood for draw in noise.to(x.device)]
            return -torch.stack(draws).mean(dim=0)

        return Fitted(
            lambda x: problem.scores(model, improbability, x),
            settings={
                **problem.config.model_dump(),
                "likelihood": model.likelihood,
                "latent": model.latent,
                "draws": DRAWS,
            },
            facts=facts_of(history, model),
        )

    return run


def _build(network: str, shape: tuple[int, ...]) -> VAE:
    if network == "kddcup":
        *hidden, latent = KDDCUP_WIDTHS
        encoder = fully_connected((*shape, *hidden, 2 * latent))
        return VAE(latent, encoder, fully_connected((latent, *hidden[::-1], 2 * shape[0])), "gaussian")
    channels, height, width = shape
    layers = CIFAR10_LAYERS if network == "cifar10" else MNIST_LAYERS
    likelihood: Likelihood = "gaussian-pixels" if network == "cifar10" else "bernoulli"
    code = encoded_shape(layers, height, width)
    outputs = channels if likelihood == "bernoulli" else 2 * channels
    encoder = nn.Sequential(conv_encoder(channels, layers), nn.Flatten(), nn.Linear(prod(code), 2 * IMAGE_LATENT))
    decoder = nn.Sequential(
        nn.Linear(IMAGE_LATENT, prod(code)), nn.Unflatten(1, code), conv_decoder(outputs, layers, height, width)
    )
    return VAE(IMAGE_LATENT, encoder, decoder, likelihood)
