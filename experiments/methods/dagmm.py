"""Deep autoencoding Gaussian mixture model (Zong et al., ICLR 2018) at its setting for KDDCUP.

Published: a compression network FC(D, 60)-(60, 30)-(30, 10)-(10, 1) with tanh between, and its mirror; z is the code,
the relative Euclidean distance ||x - x^|| / ||x|| and the cosine similarity of x and x^; an estimation network FC(3,
10, tanh)-dropout 0.5-FC(10, 4, softmax) says which of four Gaussians z belongs to, and their parameters are the moments
of the batch under that. The loss is ||x - x^||^2 + 0.1 E(z) + 0.005 sum 1 / Sigma_jj, where E is the negative log
likelihood. Adam at 1e-4, batches of 1024, 200 epochs. The score is E(z).

Ours: after training the mixture is estimated once more, from all training rows and without dropout; columns are scaled
to [0, 1]; the mixture is reckoned in float64, by Cholesky factors, with 1e-6 on the diagonal of each covariance.
"""

from __future__ import annotations

from math import log, pi
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.methods.method import Fitted, Method
from experiments.methods.neural import Problem, facts_of, paper, with_weights_of
from memae.losses import squared_error
from memae.table.networks import fully_connected
from memae.training import BatchLoss, Objective, train

__all__ = ["Mixture", "MixtureNetwork", "dagmm", "likelihood", "mixture_of"]

WIDTHS = (60, 30, 10, 1)
DIAGONAL = 1e-6
LEAST = 1e-12  # of a norm or a count that is divided by


class Mixture(NamedTuple):
    """K Gaussians in d dimensions."""

    shares: Tensor
    """(K,) that add up to 1."""
    means: Tensor
    """(K, d)"""
    covariances: Tensor
    """(K, d, d)"""

    def energies(self, z: Tensor) -> Tensor:
        """(B,) negative log likelihood of z (B, d), both float64."""
        factors = torch.linalg.cholesky(self.covariances)
        apart = z.unsqueeze(1) - self.means  # (B, K, d)
        whitened = torch.linalg.solve_triangular(factors, apart.permute(1, 2, 0), upper=False)  # (K, d, B)
        distances = whitened.square().sum(dim=1).T
        log_volumes = 2 * factors.diagonal(dim1=1, dim2=2).log().sum(dim=1) + z.shape[1] * log(2 * pi)
        return -torch.logsumexp(self.shares.log() - (distances + log_volumes) / 2, dim=1)


def mixture_of(z: Tensor, membership: Tensor) -> Mixture:
    """The moments of z (B, d) under memberships (B, K), rows of which add up to 1; in float64."""
    z, membership = z.double(), membership.double()
    counts = membership.sum(dim=0).clamp_min(LEAST)
    means = membership.T @ z / counts.unsqueeze(1)
    apart = z.unsqueeze(1) - means
    covariances = torch.einsum("bk,bki,bkj->kij", membership, apart, apart) / counts.view(-1, 1, 1)
    return Mixture(counts / len(z), means, covariances + DIAGONAL * torch.eye(z.shape[1]).to(z))


class Estimated(NamedTuple):
    """What the networks make of a batch."""

    x: Tensor
    """The rebuilt rows (B, D)."""
    z: Tensor
    """(B, 3) code, relative distance, cosine."""
    membership: Tensor
    """(B, K)"""


class MixtureNetwork(nn.Module):
    """Compression and estimation network for rows of so many features."""

    def __init__(self, features: int, components: int) -> None:
        super().__init__()
        widths = (features, *WIDTHS)
        self.encoder, self.decoder = fully_connected(widths), fully_connected(widths[::-1])
        self.estimation = nn.Sequential(
            nn.Linear(WIDTHS[-1] + 2, 10), nn.Tanh(), nn.Dropout(0.5), nn.Linear(10, components), nn.Softmax(dim=1)
        )

    def forward(self, x: Tensor) -> Estimated:
        """Rows (B, D)."""
        code = self.encoder(x)
        rebuilt = self.decoder(code)
        distance = torch.linalg.vector_norm(x - rebuilt, dim=1) / torch.linalg.vector_norm(x, dim=1).clamp_min(
            LEAST
        )
        z = torch.cat([code, distance.unsqueeze(1), F.cosine_similarity(x, rebuilt).unsqueeze(1)], dim=1)
        return Estimated(rebuilt, z, self.estimation(z))


def likelihood(energy_weight: float, covariance_weight: float) -> Objective:
    """The published loss; the squared error is summed over a row."""

    def objective(model: nn.Module, x: Tensor) -> BatchLoss:
        out = model(x)
        mixture = mixture_of(out.z, out.membership)
        rebuilt = squared_error(x, out.x).sum(dim=1).mean()
        energy = mixture.energies(out.z.double()).mean()
        singular = mixture.covariances.diagonal(dim1=1, dim2=2).reciprocal().sum()
        return BatchLoss(rebuilt + energy_weight * energy + covariance_weight * singular, None)

    return objective


def dagmm(
    *,
    epochs: int = 200,
    batch_size: int = 1024,
    learning_rate: float = 1e-4,
    components: int = 4,
    energy_weight: float = 0.1,
    covariance_weight: float = 0.005,
) -> Method:
    """The mixture model of rows (S, D); the defaults are the published ones for KDDCUP."""

    def run(fit: np.ndarray, seed: int) -> Fitted:
        problem = Problem.of(fit, seed, paper, epochs=epochs, batch_size=batch_size, learning_rate=learning_rate)
        training, settings = problem.prepared.training, problem.config.train
        assert isinstance(training, Tensor)
        model = with_weights_of(seed, lambda: MixtureNetwork(training.shape[1], components))
        objective = likelihood(energy_weight, covariance_weight)
        # no held-out loss: of a batch of few rows, the moments say nothing
        history = train(
            model, training, None, objective=objective, settings=settings, seed=seed, small_step=problem.small_step
        )
        with torch.no_grad():
            out = model(training.to(next(model.parameters()).device))
            mixture = mixture_of(out.z, out.membership)
        own = {"components": components, "energy_weight": energy_weight, "covariance_weight": covariance_weight}
        return Fitted(
            lambda x: problem.scores(model, lambda part: mixture.energies(model(part).z.double()), x),
            stored=components,
            settings={**problem.config.model_dump(), **own},
            facts={**facts_of(history, model), "shares": mixture.shares.tolist()},
        )

    return run
