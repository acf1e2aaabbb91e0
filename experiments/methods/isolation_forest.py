"""Isolation Forest (Liu et al., ICDM 2008)."""

from __future__ import annotations

import numpy as np

from experiments.methods.method import Fitted

__all__ = ["isolation_forest"]


def isolation_forest(fit: np.ndarray, seed: int) -> Fitted:
    """scikit-learn's at its defaults: 100 trees of 256 samples."""
    from sklearn.ensemble import IsolationForest

    model = IsolationForest(random_state=seed).fit(fit.reshape(len(fit), -1))
    return Fitted(lambda x: -model.score_samples(x.reshape(len(x), -1)), settings={"n_estimators": 100})
