import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from experiments.methods.dsebm import EnergyModel, denoising, dsebm, softplus_units
from memae.modality import build, preset_config
from memae.training import History
from memae.training.loop import train


def a_model(kind: str, dtype: torch.dtype = torch.float64) -> tuple[EnergyModel, tuple[int, ...]]:
    torch.manual_seed(0)
    network, shape = {"rows": ("kddcup", (6,)), "images": ("cifar10", (3, 4, 4))}[kind]
    return EnergyModel(softplus_units(network, shape), torch.randn(shape)).to(dtype).eval(), shape


@pytest.mark.parametrize("kind", ["rows", "images"])
def test_the_reconstruction_is_x_less_the_slope_of_the_energy_by_finite_differences(kind: str) -> None:
    model, shape = a_model(kind)
    x = torch.randn(3, *shape, dtype=torch.float64)
    slope = x - model(x)
    step = 1e-5
    for place in np.ndindex(*shape):
        moved = torch.zeros_like(x)
        moved[(slice(None), *place)] = step
        with torch.no_grad():
            expected = (model.energies(x + moved) - model.energies(x - moved)) / (2 * step)
        assert torch.allclose(slope[(slice(None), *place)], expected, rtol=1e-5, atol=1e-8)


def test_one_layer_is_the_autoencoder_with_tied_weights() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(6, 4).double()
    model = EnergyModel(nn.Sequential(layer, nn.Softplus()), torch.randn(6).double())
    x = torch.randn(5, 6).double()
    # the slope of softplus is the logistic function
    tied = torch.sigmoid(layer(x)) @ layer.weight + model.centre
    assert torch.allclose(model(x), tied)


def test_the_energy_by_hand() -> None:
    model, shape = a_model("rows")
    x = h = torch.randn(3, *shape, dtype=torch.float64)
    for layer in model.features[::2]:
        h = (1 + layer(h).exp()).log()
    expected = ((x - model.centre) ** 2).sum(dim=1) / 2 - h.sum(dim=1)
    assert torch.allclose(model.energies(x), expected)


@pytest.mark.parametrize(
    ("network", "shape"), [("mnist", (1, 28, 28)), ("cifar10", (3, 32, 32)), ("kddcup", (120,))]
)
def test_the_layers_are_those_of_the_autoencoders_encoder(network: str, shape: tuple[int, ...]) -> None:
    def weights(module: nn.Module) -> list[torch.Size]:
        return [p.shape for name, p in module.named_parameters() if p.ndim > 1]

    config = preset_config(f"{network}-paper", "table" if network == "kddcup" else "image")
    encoder = build(config, shape).encoder
    units = softplus_units(network, shape)
    assert weights(units) == weights(encoder)
    x = torch.zeros(2, *shape)
    assert units(x).shape == encoder(x).shape


@pytest.mark.parametrize("kind", ["rows", "images"])
def test_training_differentiates_through_the_slope(kind: str) -> None:
    model, shape = a_model(kind)
    model.train()
    x = torch.randn(4, *shape, dtype=torch.float64)
    objective = denoising(0.0)  # no noise: the loss is a function of the weights alone
    objective(model, x).loss.backward()
    for parameter in model.parameters():
        place = tuple(int(i) for i in torch.unravel_index(parameter.grad.abs().argmax(), parameter.shape))
        found, step = float(parameter.grad[place]), 1e-6
        assert found != 0
        with torch.no_grad():
            parameter[place] += step
            more = float(objective(model, x).loss)
            parameter[place] -= 2 * step
            less = float(objective(model, x).loss)
            parameter[place] += step
        assert found == pytest.approx((more - less) / (2 * step), rel=1e-4)


def test_the_target_of_the_noisy_sample_is_the_clean_one() -> None:
    class Seen(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.x = x
            return x

    seen, x = Seen(), torch.zeros(2000, 3)
    torch.manual_seed(0)
    loss = denoising(0.5)(seen, x).loss
    assert float(seen.x.std()) == pytest.approx(0.5, rel=0.05)
    assert float(loss) == pytest.approx(3 * 0.25, rel=0.05)


def test_a_sample_has_its_energy_whatever_is_beside_it() -> None:
    model, shape = a_model("images")
    model.train()
    x = torch.randn(4, *shape, dtype=torch.float64)
    assert torch.allclose(model(x)[:1], model(x[:1]))


def test_the_two_criteria_are_two_scores_of_one_training() -> None:
    rows = np.random.default_rng(0).normal(size=(80, 5)).astype(np.float32)
    energy, error = (dsebm(criterion, epochs=2)(rows, 0) for criterion in ("energy", "reconstruction"))
    assert energy.facts == error.facts
    assert not np.allclose(energy.score(rows), error.score(rows))
    assert error.score(rows).min() >= 0


def test_both_scores_of_the_same_samples_and_seed_come_from_one_training(monkeypatch: pytest.MonkeyPatch) -> None:
    trainings = []

    def noted(*given: Any, **named: Any) -> History:
        trainings.append(named["seed"])
        return train(*given, **named)

    monkeypatch.setattr(sys.modules[EnergyModel.__module__], "train", noted)
    rows = np.random.default_rng(0).random((60, 5), dtype=np.float32)
    energy = dsebm("energy", epochs=1)(rows, 3)
    reconstruction = dsebm("reconstruction", epochs=1)(rows.copy(), 3)
    assert trainings == [3]
    assert energy.fit_seconds == reconstruction.fit_seconds > 0  # each is told what it would have taken alone
    assert energy.facts == reconstruction.facts
    assert not np.allclose(energy.score(rows), reconstruction.score(rows))
    dsebm("energy", epochs=1)(rows, 4)
    dsebm("energy", epochs=1)(rows + 1, 4)
    dsebm("energy", epochs=1, noise=0.5)(rows + 1, 4)
    assert trainings == [3, 4, 4, 4]
