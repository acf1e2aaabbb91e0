"""The PyOD detector, in PyOD's own company."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from pyod.models.base import BaseDetector
from pyod.models.knn import KNN
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from memae.pyod import MemAE


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(300, 4))


def brief(**changes: Any) -> MemAE:
    return MemAE(settings={"train": {"epochs": 3}}, device="cpu", engine="torch", random_state=0, **changes)


def test_it_honours_the_interface(rows: np.ndarray) -> None:
    detector = brief(contamination=0.05).fit(rows)
    assert isinstance(detector, BaseDetector)
    assert np.array_equal(detector.decision_scores_, detector.decision_function(rows))
    assert detector.labels_.sum() == 15
    assert np.array_equal(detector.labels_, (detector.decision_scores_ > detector.threshold_).astype(int))
    odd = 20 * rows[:3]
    assert detector.predict(odd).tolist() == [1, 1, 1]
    _, confidence = detector.predict(odd, return_confidence=True)
    assert (confidence > 0.9).all()
    for method in ("linear", "unify"):
        shares = detector.predict_proba(odd, method=method)
        assert shares.shape == (3, 2)
        assert (shares[:, 1] > 0.9).all()


def test_it_combines_with_others(rows: np.ndarray) -> None:
    both = [one.fit(rows) for one in (brief(), KNN())]
    odd = np.r_[rows[:5], 20 * rows[:5]]
    ranks = np.mean([one.predict_proba(odd)[:, 1] for one in both], axis=0)
    assert ranks[:5].max() < ranks[5:].min()


def test_a_clone_gives_the_same(rows: np.ndarray) -> None:
    first = brief().fit(rows)
    assert np.array_equal(clone(first).fit(rows).decision_scores_, first.decision_scores_)


def test_bad_input_is_refused(rows: np.ndarray) -> None:
    with pytest.raises(ValueError, match="contamination"):
        brief(contamination=0.7)
    with pytest.raises(NotFittedError):
        brief().predict(rows)
    with pytest.raises(ValueError, match="features"):
        brief().fit(rows).predict(rows[:, :2])


def test_without_pyod_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['pyod'] = None; import memae.pyod"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stderr
    assert "MissingExtraError: memae.pyod needs the extra 'pyod': run  pip install 'memae[pyod]'" in said
