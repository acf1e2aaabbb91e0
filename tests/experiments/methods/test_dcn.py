import numpy as np
import pytest
import torch
from torch import nn

from experiments.methods.dcn import FIRST_COUNT, ClusteringNetwork, clustering, dcn
from memae import Autoencoder


def a_network(centres: list[list[float]]) -> ClusteringNetwork:
    torch.manual_seed(0)
    return ClusteringNetwork(Autoencoder(nn.Linear(4, 2), None, nn.Linear(2, 4)), torch.tensor(centres))


def test_centres_move_as_the_published_formula_says_code_by_code() -> None:
    model = a_network([[0.0, 0.0], [5.0, 5.0], [9.0, 9.0]])
    code = torch.randn(30, 2)
    nearest = torch.randint(0, 2, (30,))
    centres, counts = model.centres.double(), model.counts.double()
    for one, k in zip(code.double(), nearest, strict=True):
        counts[k] += 1
        centres[k] -= (centres[k] - one) / counts[k]
    model.move(code, nearest)
    assert torch.allclose(model.centres.double(), centres, rtol=1e-5)
    assert torch.equal(model.counts.double(), counts)
    assert model.centres[2].tolist() == [9, 9]  # no code was its
    assert model.counts[2] == FIRST_COUNT


def test_each_code_goes_to_its_nearest_centre() -> None:
    model = a_network([[0.0, 0.0], [3.0, 4.0]])
    code = torch.tensor([[0.0, 0.0], [3.0, 4.0], [1.0, 1.0]])
    distances = model.distances(code)
    assert distances.tolist() == [[0, 5], [5, 0], [pytest.approx(2**0.5), pytest.approx(13**0.5)]]


@torch.no_grad()
def test_the_loss_pulls_codes_to_their_centres_and_leaves_the_centres_fixed() -> None:
    model = a_network([[0.0, 0.0], [3.0, 4.0]]).eval()
    x = torch.randn(6, 4)
    out = model(x)
    rebuilt = ((x - out.x) ** 2).sum(dim=1).mean()
    apart = model.distances(out.code).amin(dim=1).square().mean()
    assert float(clustering(0.0)(model, x).loss) == pytest.approx(float(rebuilt))
    assert float(clustering(0.5)(model, x).loss) == pytest.approx(float(rebuilt + 0.25 * apart))


def test_only_training_moves_the_centres() -> None:
    model = a_network([[0.0, 0.0], [3.0, 4.0]])
    x = torch.randn(6, 4)
    before = model.centres.clone()
    model.eval()(x)
    assert torch.equal(model.centres, before)
    model.train()(x)
    assert not torch.equal(model.centres, before)
    assert model.counts.sum() == 2 * FIRST_COUNT + 6


def test_a_step_of_the_network_is_taken_with_the_centres_of_the_batch() -> None:
    model = a_network([[0.0, 0.0], [3.0, 4.0]])
    out = model(torch.randn(6, 4))  # the centres move before the loss
    assert torch.equal(out.centre, model.centres[model.distances(out.code).argmin(dim=1)])
    assert not out.centre.requires_grad
    clustering(0.5)(model, torch.randn(6, 4)).loss.backward()
    assert model.autoencoder.encoder.weight.grad.abs().max() > 0


def test_rows_between_the_clusters_score_high() -> None:
    rng = np.random.default_rng(0)
    corners = np.array([[0, 0, 0, 0, 0], [1, 1, 0, 0, 1], [0, 1, 1, 1, 0], [1, 0, 1, 0, 1]])
    fit = (corners[rng.integers(4, size=600)] + 0.02 * rng.normal(size=(600, 5))).astype(np.float32)
    fitted = dcn()(fit, 0)
    odd = np.full((20, 5), 0.5, dtype=np.float32)
    assert fitted.stored == 4
    assert np.median(fitted.score(odd)) > np.quantile(fitted.score(fit), 0.95)
