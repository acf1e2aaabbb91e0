"""The reconstruction objective is equation 10 of the paper, on noisy input while it trains."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from memae.autoencoder import Autoencoder
from memae.config import Reduction, TrainConfig
from memae.losses import squared_error
from memae.memory.memae import MemAE
from memae.table.networks import fully_connected
from memae.training.loop import train
from memae.training.objective import ReconstructionObjective


def a_model(*, memory: bool = False, alpha: float = 0.0) -> Autoencoder:
    torch.manual_seed(0)
    items = MemAE(10, 2, temperature=0.1, entropy_weight=alpha) if memory else None
    return Autoencoder(fully_connected((6, 4, 2)), items, fully_connected((2, 4, 6)))


def samples() -> Tensor:
    return torch.randn(20, 6, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("reduction", "divisor"), [("sum", 1), ("mean", 6)])
def test_the_loss_is_the_error_of_a_sample_and_alpha_times_the_entropy(reduction: Reduction, divisor: int) -> None:
    model, x = a_model(memory=True, alpha=0.5).eval(), samples()
    found = ReconstructionObjective(reduction=reduction)(model, x)
    rebuilt = model(x)
    errors = (x - rebuilt.x).square().sum(dim=1) / divisor
    assert_close(found.loss, (errors + 0.5 * rebuilt.read.entropy[:, 0]).mean())
    assert found.read is not None
    assert found.read.weights is not None
    assert torch.equal(found.read.weights, rebuilt.read.weights)


def test_without_a_memory_it_is_the_error_alone() -> None:
    model, x = a_model(), samples()
    found = ReconstructionObjective(reduction="sum")(model, x)
    assert_close(found.loss, squared_error(x, model(x).x).sum(dim=1).mean())
    assert found.read is None


def test_noise_is_on_the_input_of_training_only() -> None:
    model, x = a_model(), samples()
    noisy = ReconstructionObjective(reduction="sum", noise=0.5)
    clean = ReconstructionObjective(reduction="sum")
    model.train()
    assert not torch.equal(noisy(model, x).loss, clean(model, x).loss)
    torch.manual_seed(3)
    seen = x + 0.5 * torch.randn_like(x)
    torch.manual_seed(3)
    assert_close(noisy(model, x).loss, squared_error(x, model(seen).x).sum(dim=1).mean())  # the target is clean
    model.eval()
    assert torch.equal(noisy(model, x).loss, clean(model, x).loss)


class Stem(nn.Module):
    """Encodes all steps of a sequence (B, 1, T) but the last, and hands the first past the memory if asked."""

    def __init__(self, skips: bool) -> None:
        super().__init__()
        self.layers, self.skips = fully_connected((4, 8, 2)), skips

    def forward(self, x: Tensor) -> Any:
        encoding = self.layers(x[:, 0, :4])
        return (encoding, (x[:, 0, :1],)) if self.skips else encoding


class Joined(nn.Module):
    """Makes the last two steps."""

    def __init__(self, skips: bool) -> None:
        super().__init__()
        self.layers = fully_connected((3 if skips else 2, 8, 2))

    def forward(self, values: Tensor, skips: tuple[Tensor, ...] = ()) -> Any:
        return self.layers(torch.cat([values, *skips], dim=1))[:, None]


@pytest.mark.parametrize("skips", [True, False])
@pytest.mark.parametrize("memory", [True, False])
def test_a_prediction_is_learnt(memory: bool, skips: bool) -> None:
    torch.manual_seed(0)
    items = MemAE(30, 2, temperature=0.05, entropy_weight=0.0) if memory else None
    model = Autoencoder(Stem(skips), items, Joined(skips))
    rows = samples().repeat(10, 1)
    rows[:, 4:] = rows[:, :2].tanh()  # which the rest tells
    sequences = rows[:, None]
    objective = ReconstructionObjective(reduction="sum")
    found = objective(model, sequences).loss
    assert_close(found, (model(sequences).x - sequences[:, :, 4:]).square().sum(dim=(1, 2)).mean())
    settings = TrainConfig(epochs=30, batch_size=50, learning_rate=1e-2)
    history = train(model, sequences, sequences[:20], objective=objective, settings=settings, seed=0, device="cpu")
    assert model(sequences).x.shape == (200, 1, 2)
    assert history.records[-1].loss < 0.3 * float(found.detach())
