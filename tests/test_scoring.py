import numpy as np
import pytest
import torch
from torch import nn

import memae.scoring
from memae.losses import squared_error
from memae.memory import MemoryModule
from memae.models.autoencoder import Autoencoder
from memae.scoring import Scores, error_maps, sample_scores


@pytest.fixture
def halving():
    """Rebuilds x as x / 2."""
    net = Autoencoder(nn.Linear(4, 4, bias=False), None, nn.Identity())
    nn.init.eye_(net.encoder.weight).data.mul_(0.5)
    return net


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Autoencoder(
        nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3)),
        MemoryModule(10, 3, temperature=0.1),
        nn.Linear(3, 6),
    )


def test_a_score_is_the_mean_squared_error_over_the_sample(halving):
    x = torch.tensor([[2.0, 4.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [-6.0, 0.0, 0.0, 0.0]])
    assert sample_scores(halving, x).tolist() == [(1 + 4) / 4, 0.0, 9 / 4]
    assert sample_scores(halving, x).dtype == np.float64


def test_the_error_map_is_that_of_training(halving):
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    (part,) = error_maps(halving, x)
    assert torch.equal(part.errors, squared_error(x, x / 2))
    assert torch.equal(part.reconstruction, x / 2)
    assert part.read is None
    assert np.array_equal(part.scores, sample_scores(halving, x))


def test_small_batches_give_the_same_scores_in_order(net, monkeypatch):
    x = torch.randn(23, 6, generator=torch.Generator().manual_seed(0))
    whole = sample_scores(net, x)
    monkeypatch.setattr(memae.scoring, "BATCH_BYTES", 5 * 6 * 4)
    parts = list(error_maps(net, x))
    assert [len(part.errors) for part in parts] == [5, 5, 5, 5, 3]
    assert all(part.read.weights.shape == (len(part.errors), 10) for part in parts)
    assert sample_scores(net, x) == pytest.approx(whole, rel=1e-5)


def test_a_sample_scores_the_same_alone_and_in_a_batch(net):
    x = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
    alone = np.concatenate([sample_scores(net, row[None]) for row in x])
    assert alone == pytest.approx(sample_scores(net, x), rel=1e-5)


def test_scoring_changes_nothing(net):
    x = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    net.train()
    first, second = sample_scores(net, x), sample_scores(net, x)
    assert np.array_equal(first, second)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(part.errors.requires_grad for part in error_maps(net, x))


def test_no_samples_have_no_scores(net):
    assert sample_scores(net, torch.empty(0, 6)).shape == (0,)


def test_the_length_of_scores_is_their_number():
    assert len(Scores(np.zeros(3), ["a", "b", "c"])) == 3
