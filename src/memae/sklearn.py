"""memae as a scikit-learn estimator: for Pipeline, GridSearchCV, clone, joblib and `set_output`.

Needs scikit-learn alone, which memae installs. `memae.Detector` does the work; this file changes names and signs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from memae.detector import Detector
from memae.engine import Engine
from memae.errors import MemaeError
from memae.threshold import FEWEST
from memae.training.loop import Device

__all__ = ["MemAEDetector"]


class MemAEDetector(OutlierMixin, BaseEstimator):
    """Finds anomalies among rows or small images, after training on normal ones.

    As in all outlier detectors of scikit-learn, higher scores are more *normal*: `score_samples` is minus the score of
    `memae.Detector`, and `predict` gives 1 for normal samples and -1 for anomalies.

    Args:
        preset: as of `memae.Detector`; None decides by the data.
        false_alarm_rate: wanted share of normal samples flagged; None: 0.01, or the lowest rate that the number of
            samples can promise.
        settings: changes to the preset, as of `memae.Detector`.
        categorical: columns of a frame whose numbers are names of categories.
        device: as of `memae.Detector`.
        engine: as of `memae.Detector`.
        random_state: an integer gives the same model each time.

    Attributes:
        detector_: the fitted `memae.Detector`: explanations, saving, memory items.
        offset_: minus the threshold; `decision_function` is `score_samples` less it.
        n_features_in_: columns of `X`.
        feature_names_in_: their names, where `X` was a frame with names.

    >>> import numpy as np
    >>> rows = np.random.default_rng(0).normal(size=(200, 3))
    >>> detector = MemAEDetector(settings={"train": {"epochs": 5}}, random_state=0).fit(rows)
    >>> detector.predict([[0.0, 0.0, 0.0], [9.0, -9.0, 9.0]])
    array([ 1, -1])
    """

    def __init__(
        self,
        *,
        preset: str | None = None,
        false_alarm_rate: float | None = None,
        settings: Mapping[str, Any] | None = None,
        categorical: Sequence[str] = (),
        device: Device = "auto",
        engine: Engine = "auto",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.preset = preset
        self.false_alarm_rate = false_alarm_rate
        self.settings = settings
        self.categorical = categorical
        self.device = device
        self.engine = engine
        self.random_state = random_state

    def fit(self, X: Any, y: object = None) -> Self:
        """Trains on normal samples, and sets the threshold on a held-out part of them.

        Args:
            X: an array (n, columns), a frame, or images (n, H, W) or (n, C, H, W).
            y: ignored.

        Raises:
            ValueError: samples or settings that cannot be used, in the words of memae.
        """
        X = self._checked(X, reset=True)
        seed = check_random_state(self.random_state).randint(np.iinfo(np.int32).max)
        with _value_errors():
            detector = Detector(
                self.preset, seed=seed, settings=self._settings(), device=self.device, engine=self.engine
            )
            self.detector_ = detector.fit(X, categorical=tuple(self.categorical))
        self.offset_ = -self.detector_.threshold.value
        return self

    def score_samples(self, X: Any) -> np.ndarray:
        """(n,) minus the anomaly scores of samples.

        Raises:
            ValueError: samples that do not fit the model.
        """
        check_is_fitted(self)
        X = self._checked(X, reset=False)
        with _value_errors():
            return -self.detector_.score(X).values

    def decision_function(self, X: Any) -> np.ndarray:
        """(n,) `score_samples` less `offset_`: below 0 is an anomaly."""
        scores: np.ndarray = self.score_samples(X) - self.offset_
        return scores

    def predict(self, X: Any) -> np.ndarray:
        """(n,) 1 for normal samples, -1 for anomalies."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and joblib: the fitted detector as the two files of a model directory."""
        state: dict[str, Any] = super().__getstate__()
        if "detector_" in state:
            with TemporaryDirectory() as folder:
                self.detector_.save(Path(folder) / "model")
                files = {file.name: file.read_bytes() for file in (Path(folder) / "model").iterdir()}
            state = {**state, "detector_": files}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Takes what `__getstate__` gave."""
        if "detector_" in state:
            with TemporaryDirectory() as folder:
                for name, content in state["detector_"].items():
                    (Path(folder) / name).write_bytes(content)
                state = {
                    **state,
                    "detector_": Detector.load(folder, device=state["device"], engine=state["engine"]),
                }
        super().__setstate__(state)

    def _settings(self) -> dict[str, Any]:
        settings = {name: dict(section) for name, section in (self.settings or {}).items()}
        if self.false_alarm_rate is not None:
            settings["threshold"] = {**settings.get("threshold", {}), "false_alarm_rate": self.false_alarm_rate}
        return settings

    def _checked(self, X: Any, *, reset: bool) -> Any:
        """A frame as it is, as memae reads its columns; else an array of finite numbers."""
        if hasattr(X, "columns"):
            validate_data(self, X, reset=reset, skip_check_array=True)
            return X
        return validate_data(self, X, reset=reset, allow_nd=True, ensure_min_samples=FEWEST if reset else 1)


@contextmanager
def _value_errors() -> Iterator[None]:
    """Errors of memae as the ValueError that users of scikit-learn expect."""
    try:
        yield
    except MemaeError as error:
        raise ValueError(str(error)) from error
