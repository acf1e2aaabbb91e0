"""Squared residual of a principal component analysis."""

from __future__ import annotations

import numpy as np

from experiments.methods.method import Fitted, Method, flat

__all__ = ["pca"]


def pca(components: int) -> Method:
    """The residual behind the first `components` principal components of the fit samples."""

    def run(fit: np.ndarray, seed: int) -> Fitted:
        from sklearn.decomposition import PCA

        model = PCA(components, random_state=seed).fit(flat(fit, fit))

        def score(x: np.ndarray) -> np.ndarray:
            rows = flat(x, fit)
            residual: np.ndarray = rows - model.inverse_transform(model.transform(rows))
            scores: np.ndarray = np.square(residual).sum(axis=1)
            return scores

        return Fitted(score, stored=components, settings={"components": components})

    return run
