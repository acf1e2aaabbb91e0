from typing import Any

import numpy as np
import pytest
from scipy.special import logsumexp
from sklearn.decomposition import PCA

from experiments.methods.kde import kde

RNG = np.random.default_rng(0)
FIT = RNG.integers(0, 256, (80, 1, 3, 3), dtype=np.uint8)
TEST = RNG.integers(0, 256, (20, 1, 3, 3), dtype=np.uint8)


def log_density(known: np.ndarray, x: np.ndarray, bandwidth: float) -> Any:
    """The mean of Gaussian kernels at the rows of `known`, summed up directly."""
    squares = ((x[:, None] - known) ** 2).sum(axis=2)
    norm = np.log(len(known)) + known.shape[1] * np.log(bandwidth * np.sqrt(2 * np.pi))
    return logsumexp(-squares / (2 * bandwidth**2), axis=1) - norm


def components(fit: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    found = PCA(0.95, svd_solver="full").fit(fit.reshape(len(fit), -1) / 255)
    return [found.transform(x.reshape(len(x), -1) / 255) for x in (fit, *others)]


def test_scores_are_the_direct_sum_over_principal_components() -> None:
    known, asked = components(FIT, TEST)
    scores = kde(bandwidths=(0.3,))(FIT, 0).score(TEST)
    assert scores == pytest.approx(-log_density(known, asked, 0.3), rel=1e-4)


def test_a_sample_far_from_all_others_has_a_finite_density() -> None:
    narrow = kde(bandwidths=(0.001,))(FIT, 0).score(TEST)
    known, asked = components(FIT, TEST)
    assert narrow == pytest.approx(-log_density(known, asked, 0.001), rel=1e-4)
    assert narrow.min() > 1000


def test_the_bandwidth_is_the_likeliest_of_the_held_out_folds() -> None:
    rows = RNG.normal(size=(300, 2)).astype(np.float32)
    grid = (0.001, 0.1, 10.0)
    facts = kde(bandwidths=grid)(rows, 0).facts
    assert facts["bandwidth"] == 0.1
    assert np.argmax(facts["log_likelihood"]) == 1
    assert facts["components"] == 2
