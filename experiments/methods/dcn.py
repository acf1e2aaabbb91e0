"""Deep clustering network (Yang, Fu, Sidiropoulos and Hong, ICML 2017), scored as DAGMM's authors did.

Published: an autoencoder is pretrained, k-means on its codes gives the first centres, and then three steps alternate,
batch by batch: assign each code to its nearest centre; one step of the network on ||x - x^||^2 + lambda / 2 ||code -
centre||^2; move each centre towards each code that it was given, m <- m - (m - code) / c, where c counts them. For
MNIST 50 epochs of pretraining, 50 of clustering, lambda 0.05. For anomalies (Zong et al., ICLR 2018): the distance of a
code to its nearest centre.

Ours, where both are silent: four centres, as many as DAGMM has components on the same data; network, batches and rate
of MemAE's KDDCUP autoencoder; Adam, pretraining of the whole network and not layer by layer; counts start at 100, so
that the first codes do not throw the centres about. The steps of a batch begin with the assignment: the published
cycle, entered one step later.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from experiments.methods.method import Fitted, Method
from experiments.methods.neural import Problem, facts_of, paper
from memae import Autoencoder
from memae.losses import squared_error
from memae.training import BatchLoss, Objective, ReconstructionObjective, local_seed, train

__all__ = ["ClusteringNetwork", "clustering", "dcn"]

FIRST_COUNT = 100.0


class Clustered(NamedTuple):
    """What the network makes of a batch."""

    x: Tensor
    """The rebuilt batch (B, ...)."""
    code: Tensor
    """(B, C)"""
    centre: Tensor
    """(B, C) the centre of each code; no gradient goes there."""


class ClusteringNetwork(nn.Module):
    """An autoencoder and the centres of its codes; in training mode every batch moves the centres.

    Args:
        autoencoder: with codes (B, C).
        centres: (K, C) to start from.
    """

    centres: Tensor
    counts: Tensor

    def __init__(self, autoencoder: Autoencoder, centres: Tensor) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.register_buffer("centres", centres.clone())
        self.register_buffer("counts", torch.full((len(centres),), FIRST_COUNT))

    def forward(self, x: Tensor) -> Clustered:
        """Encodes, assigns, moves the centres if training, and decodes."""
        code = self.autoencoder.encoder(x)
        nearest = self.distances(code.detach()).argmin(dim=1)
        if self.training:
            self.move(code.detach(), nearest)
        return Clustered(self.autoencoder.decoder(code), code, self.centres[nearest])

    def distances(self, code: Tensor) -> Tensor:
        """(B, K) from codes (B, C) to the centres."""
        # not by inner products, which are fast and lose the distance of a code to a centre that it lies on
        return torch.cdist(code, self.centres, compute_mode="donot_use_mm_for_euclid_dist")

    @torch.no_grad()
    def move(self, code: Tensor, nearest: Tensor) -> None:
        """The published update of the centres by codes (B, C) that are assigned to centres (B,).

        One code after the other at a rate of 1 / count is the running mean of all codes: one step here.
        """
        sums = torch.zeros_like(self.centres).index_add_(0, nearest, code)
        given = torch.bincount(nearest, minlength=len(self.counts)).to(self.counts.dtype)
        total = self.counts + given
        # new tensors: the loss of this batch keeps those that it used
        self.centres = (self.counts[:, None] * self.centres + sums) / total[:, None]
        self.counts = total


def clustering(pull: float) -> Objective:
    """||x - x^||^2 + pull / 2 ||code - centre||^2, summed over a sample."""

    def objective(model: nn.Module, x: Tensor) -> BatchLoss:
        out = model(x)
        rebuilt = squared_error(x, out.x).flatten(1).sum(dim=1)
        apart = (out.code - out.centre).square().sum(dim=1)
        return BatchLoss((rebuilt + pull / 2 * apart).mean(), None)

    return objective


def dcn(*, clusters: int = 4, pull: float = 0.05, pretraining: int = 50, epochs: int = 50) -> Method:
    """The clustering network of rows (S, D).

    Args:
        clusters: K.
        pull: lambda, the weight of the distance to the centre.
        pretraining: epochs as an autoencoder alone.
        epochs: with clusters, after that.
    """

    def run(fit: np.ndarray, seed: int) -> Fitted:
        from sklearn.cluster import KMeans

        problem = Problem.of(fit, seed, paper, epochs=epochs)
        training, settings = problem.prepared.training, problem.config.train
        assert isinstance(training, Tensor)
        autoencoder = problem.autoencoder()
        warm = train(
            autoencoder,
            training,
            None,
            objective=ReconstructionObjective(reduction=settings.reduction),
            settings=settings.model_copy(update={"epochs": pretraining}),
            seed=local_seed(seed, 1),
            small_step=problem.small_step,
        )
        device = next(autoencoder.parameters()).device
        with torch.no_grad():
            codes = autoencoder.encoder(training.to(device))
        found = KMeans(clusters, n_init=10, random_state=seed).fit(codes.cpu().numpy())
        centres = torch.from_numpy(found.cluster_centers_).to(codes)
        model = ClusteringNetwork(autoencoder, centres)
        history = train(
            model,
            training,
            problem.prepared.validation,
            objective=clustering(pull),
            settings=settings,
            seed=seed,
            small_step=problem.small_step,
        )

        def distance(x: Tensor) -> Tensor:
            return model.distances(autoencoder.encoder(x)).amin(dim=1)

        own = {"clusters": clusters, "pull": pull, "pretraining": pretraining}
        return Fitted(
            lambda x: problem.scores(model, distance, x),
            stored=clusters,
            settings={**problem.config.model_dump(), **own},
            facts={**facts_of(history, model), "pretraining_loss": [record.loss for record in warm.records]},
        )

    return run
