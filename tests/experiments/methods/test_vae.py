from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, Normal, kl_divergence

from experiments.methods.vae import VAE, divergence, gaussian_log_likelihood, negative_bound, vae

NETWORK = {"mnist": (1, 28, 28), "cifar10": (3, 32, 32), "kddcup": (120,)}


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def test_the_divergence_is_that_of_diagonal_gaussians() -> None:
    mean, log_variance = torch.randn(5, 3), torch.randn(5, 3)
    normal = Normal(mean, (log_variance / 2).exp())
    wanted = kl_divergence(normal, Normal(torch.zeros(3), torch.ones(3))).sum(dim=1)
    assert torch.allclose(divergence(mean, log_variance), wanted, rtol=1e-5)


def test_the_gaussian_likelihood_is_that_of_independent_values() -> None:
    x, mean, log_variance = torch.randn(3, 4, 2, 2, 2).unbind()
    wanted = Normal(mean, (log_variance / 2).exp()).log_prob(x).flatten(1).sum(dim=1)
    assert torch.allclose(gaussian_log_likelihood(x, mean, log_variance), wanted, rtol=1e-5)


def test_the_bound_of_a_bernoulli_decoder() -> None:
    model = VAE(2, nn.Linear(6, 4), nn.Linear(2, 6), "bernoulli")
    x, noise = torch.rand(5, 6), torch.randn(1, 2)
    bound = model(x, noise)
    mean, log_variance = model.encoder(x).chunk(2, dim=1)
    decoded = Bernoulli(logits=model.decoder(mean + noise * (log_variance / 2).exp()), validate_args=False)
    assert torch.allclose(bound.log_likelihood, decoded.log_prob(x).sum(dim=1), rtol=1e-5)
    assert torch.allclose(bound.divergence, divergence(mean, log_variance))


def test_no_deviation_is_less_than_a_twentieth() -> None:
    decoder = nn.Linear(2, 12)
    nn.init.constant_(decoder.bias, -100.0)
    model = VAE(2, nn.Linear(6, 4), decoder, "gaussian-pixels")
    x = torch.zeros(1, 6)  # what a sigmoid of -100 gives: nothing but the deviation is left
    assert float(model(x).log_likelihood.detach()) == pytest.approx(
        6 * float(Normal(0.0, 0.05).log_prob(torch.tensor(0.0)))
    )


def test_training_draws_anew_for_every_sample_and_scoring_does_not() -> None:
    model = VAE(2, nn.Linear(6, 4), nn.Linear(2, 6), "bernoulli")
    x = torch.rand(1, 6).repeat(2, 1)
    drawn, given = model(x).log_likelihood, model(x, torch.ones(1, 2)).log_likelihood
    assert drawn[0] != drawn[1]
    assert given[0] == given[1]
    assert negative_bound(model, x).loss != negative_bound(model, x).loss


@pytest.mark.parametrize(("network", "shape"), NETWORK.items())
def test_it_stands_on_the_papers_network(network: str, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (20, *shape), dtype=np.uint8)
    fit = pixels.astype(np.float32) if len(shape) == 1 else pixels
    fitted = vae(epochs=1)(fit, 0)
    assert fitted.settings["network"] == network
    assert fitted.settings["latent"] == (3 if network == "kddcup" else 64)
    assert fitted.score(fit).shape == (20,)
