from inspect import signature

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from experiments.methods.dagmm import DIAGONAL, Mixture, MixtureNetwork, dagmm, likelihood, mixture_of


def a_mixture(components: int = 4, dims: int = 3) -> Mixture:
    torch.manual_seed(0)
    root = torch.randn(components, dims, dims, dtype=torch.float64)
    covariances = root @ root.mT + 0.1 * torch.eye(dims)
    return Mixture(torch.rand(components).double().softmax(0), torch.randn(components, dims).double(), covariances)


def test_the_energy_is_the_negative_log_likelihood_of_the_mixture() -> None:
    mixture = a_mixture()
    z = 3 * torch.randn(50, 3, dtype=torch.float64)
    oracle = MixtureSameFamily(Categorical(mixture.shares), MultivariateNormal(mixture.means, mixture.covariances))
    assert torch.allclose(mixture.energies(z), -oracle.log_prob(z), rtol=1e-10)


def test_the_moments_by_hand() -> None:
    z = torch.tensor([[0.0, 0.0], [2.0, 2.0], [10.0, 0.0]])
    membership = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    found = mixture_of(z, membership)
    assert found.shares.tolist() == pytest.approx([2 / 3, 1 / 3])
    assert found.means.tolist() == [[1, 1], [10, 0]]
    eye = DIAGONAL * torch.eye(2, dtype=torch.float64)
    assert torch.equal(found.covariances[0], torch.ones(2, 2, dtype=torch.float64) + eye)
    assert torch.equal(found.covariances[1], eye)


def test_soft_memberships_weigh_as_numpy_does() -> None:
    torch.manual_seed(0)
    z, membership = torch.randn(40, 3), torch.randn(40, 2).softmax(dim=1)
    found = mixture_of(z, membership)
    for k in range(2):
        expected = np.cov(z.double().T, aweights=membership[:, k].double().numpy(), ddof=0)
        assert found.covariances[k].numpy() == pytest.approx(expected + DIAGONAL * np.eye(3))


def test_an_empty_component_and_one_of_equal_rows_leave_finite_energies() -> None:
    z = torch.ones(20, 3)
    membership = torch.zeros(20, 2)
    membership[:, 0] = 1
    found = mixture_of(z, membership)
    far = torch.tensor([[1.0, 1, 1], [1e6, -1e6, 0]], dtype=torch.float64)
    assert found.energies(far).isfinite().all()
    assert found.energies(far)[1] > found.energies(far)[0]


@torch.no_grad()
def test_z_is_code_relative_distance_and_cosine() -> None:
    torch.manual_seed(0)
    model = MixtureNetwork(8, 4).eval()
    x = torch.randn(5, 8)
    out = model(x)
    for row, rebuilt, code, z in zip(x, out.x, model.encoder(x), out.z, strict=True):
        distance = (row - rebuilt).norm() / row.norm()
        cosine = row @ rebuilt / (row.norm() * rebuilt.norm())
        assert z.tolist() == pytest.approx([float(code), float(distance), float(cosine)], rel=1e-5)
    assert out.membership.sum(dim=1).tolist() == pytest.approx([1] * 5)
    assert model(torch.zeros(2, 8)).z.isfinite().all()


@torch.no_grad()
def test_the_loss_adds_the_three_published_terms() -> None:
    torch.manual_seed(0)
    model = MixtureNetwork(8, 4).eval()
    x = torch.randn(30, 8)
    out = model(x)
    mixture = mixture_of(out.z, out.membership)
    error = float(((x - out.x) ** 2).sum() / 30)
    energy = float(mixture.energies(out.z.double()).mean())
    singular = sum(1 / float(c[j, j]) for c in mixture.covariances for j in range(3))
    assert float(likelihood(0.0, 0.0)(model, x).loss) == pytest.approx(error)
    assert float(likelihood(0.1, 0.005)(model, x).loss) == pytest.approx(error + 0.1 * energy + 0.005 * singular)


def test_every_weight_gets_a_gradient() -> None:
    torch.manual_seed(0)
    model = MixtureNetwork(8, 4)
    likelihood(0.1, 0.005)(model, torch.randn(64, 8)).loss.backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


def test_the_published_numbers_are_the_defaults() -> None:
    widths = [
        (m.in_features, m.out_features) for m in MixtureNetwork(120, 4).modules() if isinstance(m, nn.Linear)
    ]
    assert widths[:4] == [(120, 60), (60, 30), (30, 10), (10, 1)]
    assert widths[4:] == [(1, 10), (10, 30), (30, 60), (60, 120), (3, 10), (10, 4)]
    rows = np.random.default_rng(0).normal(size=(30, 5)).astype(np.float32)
    settings = dagmm(epochs=1)(rows, 0).settings
    assert (settings["train"]["batch_size"], settings["train"]["learning_rate"]) == (1024, 1e-4)
    assert signature(dagmm).parameters["epochs"].default == 200
    own = {name: settings[name] for name in ("components", "energy_weight", "covariance_weight")}
    assert own == {"components": 4, "energy_weight": 0.1, "covariance_weight": 0.005}
