import numpy as np
import pytest
from sklearn.svm import OneClassSVM

from experiments.methods.one_class_svm import one_class_svm

RNG = np.random.default_rng(0)


def test_distinct_rows_with_weights_are_the_problem_of_all_rows() -> None:
    distinct = RNG.random((60, 4), dtype=np.float32)
    distinct[0], distinct[1] = 0, 1  # the ranges, so that rows are scaled to themselves
    rows = distinct[RNG.integers(0, 60, 400)]
    rows[:2] = distinct[:2]
    test = RNG.random((50, 4), dtype=np.float32)

    fitted = one_class_svm(nu=0.3)(rows, 0)
    plain = OneClassSVM(nu=0.3, gamma="scale", tol=1e-6).fit(rows.astype(np.float64))

    assert fitted.facts["gamma"] == pytest.approx(plain._gamma)
    assert fitted.score(test) == pytest.approx(-plain.score_samples(test), rel=2e-3)


def test_at_most_a_share_of_nu_lies_outside_and_at_least_that_share_is_stored() -> None:
    fit = RNG.integers(0, 256, (200, 1, 4, 4), dtype=np.uint8)
    offset = OneClassSVM(nu=0.2, gamma="scale").fit(fit.reshape(200, -1) / 255).offset_[0]
    fitted = one_class_svm(nu=0.2)(fit, 0)
    assert (fitted.score(fit) > -offset + 1e-3).mean() <= 0.2 <= fitted.stored / 200
