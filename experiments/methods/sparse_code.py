"""The autoencoder with an L1 penalty on its encoding: Table 4 of Gong et al. (ICCV 2019), "AE-L1".

Published: the plain autoencoder whose encoding is made sparse by its L1 norm and not by a memory, the baseline for
MemAE's sparse addressing. The paper gives no weight.

Ours: the weight at which the penalty is a tenth of the loss of the untrained network on training samples, so that no
label and no test sample decides it. All else is the plain autoencoder of our default ("autoencoder" of
`experiments.methods.detectors`), and with a share of 0 it is that one, bit for bit.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from experiments.methods.method import Fitted, Method
from experiments.methods.neural import Problem, facts_of
from memae import Autoencoder
from memae.losses import Reduction, squared_error, total_loss
from memae.training import BatchLoss, Objective, train
from memae.types import Encoded, fitting

__all__ = ["penalised", "sparse_code", "weight_for"]

STARTING_SAMPLES = 1024  # whose loss under the untrained network sets the weight
STARTING_BYTES = 16 << 20  # of them at most: clips are large


def penalised(weight: float, reduction: Reduction) -> Objective:
    """Reconstruction error plus `weight` times the L1 norm of the encoding, both per sample."""

    def objective(model: nn.Module, x: Tensor) -> BatchLoss:
        error, norm = _terms(model, x, reduction)
        return BatchLoss(error + weight * norm if weight else error, None)

    return objective


@torch.no_grad()
def weight_for(share: float, model: Autoencoder, training: Encoded, reduction: Reduction) -> float:
    """The weight at which the penalty is `share` of the loss of `model` as it is, on some training samples.

    The model is left as it was, BatchNorm's statistics included.
    """
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model.train()  # BatchNorm by the batch, as the first step will be
    some = training[: min(STARTING_SAMPLES, fitting(training, STARTING_BYTES))]
    error, norm = _terms(model, some, reduction)
    for name, buffer in model.named_buffers():
        buffer.copy_(before[name])
    return float(share / (1 - share) * error / norm)


def sparse_code(share: float = 0.1, *, epochs: int | None = None) -> Method:
    """The autoencoder whose penalty is `share` (0 to below 1) of its loss at the start; `epochs` as the preset's."""

    def run(fit: np.ndarray, seed: int) -> Fitted:
        problem = Problem.of(fit, seed, lambda network: network, epochs=epochs)
        prepared, settings = problem.prepared, problem.config.train
        model = problem.autoencoder()
        weight = weight_for(share, model, prepared.training, settings.reduction)
        history = train(
            model,
            prepared.training,
            prepared.validation,
            objective=penalised(weight, settings.reduction),
            settings=settings,
            seed=seed,
            small_step=problem.small_step,
        )
        return Fitted(
            lambda x: problem.reconstruction_scores(model, x),
            settings={**problem.config.model_dump(), "share": share},
            facts={**facts_of(history, model), "weight": weight},
        )

    return run


def _terms(model: nn.Module, x: Tensor, reduction: Reduction) -> tuple[Tensor, Tensor]:
    """Mean over the batch (B, ...) of a sample's error, and of the L1 norm of its encoding."""
    assert isinstance(model, Autoencoder)
    encoding = model.encoder(x)
    error = total_loss(squared_error(x, model.decoder(encoding)), reduction=reduction)
    return error, encoding.abs().flatten(1).sum(dim=1).mean()
