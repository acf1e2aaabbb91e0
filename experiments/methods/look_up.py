"""What no training is needed for: the nearest stored sample, and whether the sample is stored at all."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from experiments.methods.method import Fitted, Method, flat

__all__ = ["exact_match", "nearest_neighbour"]

SMOOTH_PX = 1.0


def nearest_neighbour(metric: str, neighbours: int = 1) -> Method:
    """Distance to the nearest of the fit samples, or to a later one; duplicate rows are looked up once.

    Args:
        metric: "l2" (columns or pixels from 0 to 1), "standard" (L2 of columns of mean 0 and deviation 1), "cosine",
            "centred" (cosine of samples less their own mean), or "smooth" (cosine of images (S, C, H, W) smoothed by
            a Gaussian of 1 px, as our default for MNIST smooths its errors).
        neighbours: 1 for the distance to the nearest, 5 for that to the fifth.
    """

    def vectors(x: np.ndarray, fit: np.ndarray) -> np.ndarray:
        rows = flat(x, fit)
        if metric == "standard":
            centre, spread = fit.mean(axis=0), fit.std(axis=0)
            scaled: np.ndarray = (x - centre) / np.where(spread > 0, spread, 1)
            return scaled
        if metric == "smooth":
            rows = gaussian_filter(rows.reshape(x.shape), (0, 0, SMOOTH_PX, SMOOTH_PX)).reshape(rows.shape)
        if metric == "centred":
            rows = rows - rows.mean(axis=1, keepdims=True)
        return rows if metric == "l2" else _unit(rows)  # the L2 order of unit vectors is their cosine order

    def run(fit: np.ndarray, seed: int) -> Fitted:
        from sklearn.neighbors import NearestNeighbors

        known = np.unique(vectors(fit, fit), axis=0)
        found = NearestNeighbors(n_neighbors=neighbours, algorithm="brute").fit(known)

        def score(x: np.ndarray) -> np.ndarray:
            rows, place = np.unique(vectors(x, fit), axis=0, return_inverse=True)
            parts = np.array_split(rows, max(1, len(rows) // 4096))
            distances = np.concatenate([found.kneighbors(part)[0][:, -1] for part in parts])
            return distances[place.ravel()]

        return Fitted(
            score,
            stored=len(known),
            settings={"metric": metric, **({"neighbours": neighbours} if neighbours > 1 else {})},
        )

    return run


def exact_match(fit: np.ndarray, seed: int) -> Fitted:
    """0 for a sample that stands in the fit samples, 1 for any other."""
    known = {row.tobytes() for row in fit}
    return Fitted(lambda x: np.array([float(row.tobytes() not in known) for row in x]), stored=len(known))


def _unit(x: np.ndarray) -> np.ndarray:
    unit: np.ndarray = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    return unit
