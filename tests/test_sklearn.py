"""The scikit-learn estimator: scikit-learn's own checks, and the company it is used in."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import make_scorer, roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from skrub import TableVectorizer

from memae import Detector
from memae.sklearn import MemAEDetector

BRIEF = {"train": {"epochs": 3}}


def brief(**changes: Any) -> MemAEDetector:
    return MemAEDetector(**{"settings": BRIEF, "device": "cpu", "engine": "torch", "random_state": 0, **changes})


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(300, 4)) @ np.diag([1.0, 2, 3, 4])


@pytest.fixture(scope="module")
def fitted(rows: np.ndarray) -> MemAEDetector:
    return brief().fit(rows)


@parametrize_with_checks([brief()])  # type: ignore[untyped-decorator]
def test_the_checks_of_scikit_learn(estimator: Any, check: Callable[[Any], None]) -> None:
    check(estimator)


def test_scores_and_verdicts_are_those_of_a_detector(fitted: MemAEDetector, rows: np.ndarray) -> None:
    seed = fitted.detector_.seed
    plain = Detector(seed=seed, settings=BRIEF, device="cpu", engine="torch").fit(rows)
    found = plain.detect(rows)
    assert np.array_equal(fitted.score_samples(rows), -found.scores)
    assert np.array_equal(fitted.predict(rows) == -1, found.is_anomaly)
    assert fitted.offset_ == -plain.threshold.value
    assert fitted.predict(50 * rows[:5]).tolist() == [-1] * 5


def test_the_false_alarm_rate_is_that_of_the_threshold(rows: np.ndarray) -> None:
    strict, loose = (brief(false_alarm_rate=rate).fit(rows).detector_.threshold for rate in (0.02, 0.2))
    assert (strict.false_alarm_rate, loose.false_alarm_rate) == (0.02, 0.2)
    assert strict.value > loose.value


def test_a_clone_and_a_stored_one_score_the_same(fitted: MemAEDetector, rows: np.ndarray, tmp_path: Any) -> None:
    joblib.dump(fitted, tmp_path / "model.joblib")
    for again in (
        clone(fitted).fit(rows),
        pickle.loads(pickle.dumps(fitted)),
        joblib.load(tmp_path / "model.joblib"),
    ):
        assert np.array_equal(again.score_samples(rows), fitted.score_samples(rows))


def test_it_ends_a_pipeline_and_searches_a_grid_in_processes(rows: np.ndarray) -> None:
    scaler = StandardScaler().set_output(transform="pandas")
    pipeline = make_pipeline(scaler, brief())
    labels = np.r_[np.ones(len(rows)), -np.ones(30)]
    mixed = np.r_[rows, 9 * rows[:30]]
    scorer = make_scorer(roc_auc_score, response_method="decision_function")
    grid = {"memaedetector__settings": [BRIEF, {"train": {"epochs": 1}}]}
    every = np.arange(len(mixed))
    splits = [(every[:200], every[200:]), (every[100:300], np.r_[every[:100], every[300:]])]
    search = GridSearchCV(pipeline, grid, scoring=scorer, cv=splits, n_jobs=2, refit=False).fit(mixed, labels)
    assert search.best_score_ > 0.9
    assert pipeline.set_params(**search.best_params_).fit(rows).predict(mixed[-3:]).tolist() == [-1, -1, -1]


def test_it_takes_frames_of_mixed_columns_alone_and_behind_a_vectorizer(rows: np.ndarray) -> None:
    frame = pd.DataFrame(rows[:, :2], columns=["width", "height"])
    frame["colour"] = np.where(rows[:, 2] > 0, "red", "blue")
    alone = brief().fit(frame)
    assert alone.feature_names_in_.tolist() == ["width", "height", "colour"]
    behind = make_pipeline(TableVectorizer(), brief()).fit(frame)
    odd = frame.head(3).assign(width=99.0)
    assert alone.predict(odd).tolist() == behind.predict(odd).tolist() == [-1, -1, -1]
    with pytest.raises(ValueError, match="feature names"):
        alone.predict(frame.rename(columns={"width": "breadth"}))


def test_it_takes_images(rows: np.ndarray) -> None:
    images = np.random.default_rng(0).integers(90, 110, (60, 12, 12)).astype(np.uint8)
    detector = brief().fit(images)
    assert detector.detector_.modality.name == "image"
    assert detector.score_samples(images).shape == (60,)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preset": "no-such"}, "no-such"),
        ({"false_alarm_rate": 0.0001}, "takes at least 9,999 held-out normal samples"),
        ({"device": "tpu"}, "device = 'tpu'"),
    ],
)
def test_what_cannot_be_is_a_value_error(rows: np.ndarray, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        brief(**changes).fit(rows)


def test_it_has_to_be_fitted(rows: np.ndarray) -> None:
    with pytest.raises(NotFittedError):
        brief().predict(rows)
