"""Detectors of PyOD (Zhao, Nasrullah and Li, JMLR 2019) at its defaults; `pip install memae[bench]` brings it."""

from __future__ import annotations

import importlib.util
from typing import Any, Literal

import numpy as np

from experiments.methods.method import Fitted, Method
from memae.errors import MemaeError

__all__ = ["pyod"]

Name = Literal["knn", "iforest", "autoencoder"]


def pyod(name: Name, scaled: bool = True) -> Method:
    """A detector of PyOD.

    Args:
        name: "knn" (distance to the fifth neighbour), "iforest" or "autoencoder".
        scaled: columns to mean 0 and deviation 1 first; the autoencoder always does that by itself.
    """

    def run(fit: np.ndarray, seed: int) -> Fitted:
        centre, spread = (fit.mean(axis=0), fit.std(axis=0)) if scaled else (0.0, 1.0)
        spread = np.where(spread > 0, spread, 1.0)
        model = _model(name, seed).fit((fit - centre) / spread)
        return Fitted(
            lambda x: np.asarray(model.decision_function((x - centre) / spread), dtype=np.float64),
            settings={"name": name, "scaled": scaled},
        )

    return run


def _model(name: Name, seed: int) -> Any:
    if importlib.util.find_spec("pyod") is None:
        raise MemaeError("PyOD is not installed; run  pip install 'memae[bench]'")
    if name == "knn":
        from pyod.models.knn import KNN

        return KNN()
    if name == "iforest":
        from pyod.models.iforest import IForest

        return IForest(random_state=seed)
    from pyod.models.auto_encoder import AutoEncoder

    return AutoEncoder(random_state=seed, verbose=0)
