"""memae as a detector of PyOD: for its ensembles, combinations and benchmarks. Needs the extra `pyod`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from memae.engine import Engine
from memae.errors import MissingExtraError
from memae.sklearn import MemAEDetector
from memae.training.loop import Device

try:
    from pyod.models.base import BaseDetector
except ImportError:
    raise MissingExtraError("memae.pyod", "pyod") from None

__all__ = ["MemAE"]


class MemAE(BaseDetector):
    """`memae.Detector` with PyOD's interface: higher scores are more anomalous, label 1 is an anomaly.

    PyOD takes the threshold from the scores of the training samples and `contamination`, the share of anomalies that it
    expects among them. memae's own threshold, from samples that no training saw, is minus `detector_.offset_`.

    Args:
        contamination: share of anomalies in the training data, in (0, 0.5].
        preset: as of `memae.Detector`.
        settings: as of `memae.Detector`.
        device: as of `memae.Detector`.
        engine: as of `memae.Detector`.
        random_state: an integer gives the same model each time.

    Attributes:
        detector_: the fitted `memae.sklearn.MemAEDetector`.
        decision_scores_: (n,) of the training samples.
        threshold_: of PyOD.
        labels_: (n,) 0 or 1 of the training samples.

    >>> rows = np.random.default_rng(0).normal(size=(200, 3))
    >>> detector = MemAE(contamination=0.01, settings={"train": {"epochs": 5}}, random_state=0).fit(rows)
    >>> detector.predict([[0.0, 0.0, 0.0], [9.0, -9.0, 9.0]])
    array([0, 1])
    """

    def __init__(
        self,
        contamination: float = 0.1,
        preset: str | None = None,
        settings: Mapping[str, Any] | None = None,
        device: Device = "auto",
        engine: Engine = "auto",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        super().__init__(contamination=contamination)
        self.preset = preset
        self.settings = settings
        self.device = device
        self.engine = engine
        self.random_state = random_state

    def fit(self, X: Any, y: object = None) -> Self:
        """Trains on samples, of which most are normal; `y` is ignored.

        Raises:
            ValueError: samples or settings that cannot be used.
        """
        self._set_n_classes(None)
        self.detector_ = MemAEDetector(
            preset=self.preset,
            settings=self.settings,
            device=self.device,
            engine=self.engine,
            random_state=self.random_state,
        ).fit(X)
        self.decision_scores_ = self.decision_function(X)
        self._process_decision_scores()
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """(n,) scores, higher = more anomalous.

        Raises:
            ValueError: samples that do not fit the model.
        """
        check_is_fitted(self, "detector_")
        return -self.detector_.score_samples(X)
