"""k-means centres for the start of a memory, with word of how far they are."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memae.stages import Advance, Watcher, stage

__all__ = ["kmeans"]


def kmeans(points: Tensor, count: int, seed: int, watcher: Watcher | None = None) -> Tensor:
    """(count, C) centres of points (T, C): mini-batch k-means of scikit-learn, seeded by k-means++.

    The library tells nobody how far it is. So the seeding, which takes most of the time, is written here, with the same
    draws and the same result, and each test of convergence counts as a round.
    """
    from sklearn.cluster import MiniBatchKMeans

    def seeds(x: np.ndarray, k: int, random_state: np.random.RandomState) -> np.ndarray:
        with stage(watcher, "seeding the memory", "items", k) as done:
            return _spread_out(x, k, random_state, done)

    with stage(watcher, "moving the items", "rounds") as moved:

        class Told(MiniBatchKMeans):  # type: ignore[misc]
            def _mini_batch_convergence(
                self, *args: Any, **kwargs: Any
            ) -> Any:  # private: at worst nobody is told
                moved(1)
                return super()._mini_batch_convergence(*args, **kwargs)

        found = Told(count, init=seeds, random_state=seed, n_init=1, batch_size=max(1024, 3 * count))
        return torch.from_numpy(found.fit(points.cpu().numpy()).cluster_centers_).to(points)


def _spread_out(x: np.ndarray, count: int, random_state: np.random.RandomState, done: Advance) -> np.ndarray:
    """(count, C) points of x (T, C) by greedy k-means++ (Arthur and Vassilvitskii, 2007).

    A point is drawn as often as the square of its distance to the nearest one before says; of a few draws that is kept
    which leaves the least of these squares.
    """
    from sklearn.metrics.pairwise import euclidean_distances, row_norms

    squares, ones = row_norms(x, squared=True), np.ones((len(x), 1), dtype=x.dtype)

    def distances(rows: list[int] | np.ndarray) -> np.ndarray:
        found: np.ndarray = euclidean_distances(x[rows], x, Y_norm_squared=squares, squared=True)
        return found

    draws = 2 + int(math.log(count))
    chosen = [int(random_state.choice(len(x), p=ones[:, 0] / ones.sum()))]
    (nearest,) = distances(chosen)
    total = nearest @ ones
    done(1)
    while len(chosen) < count:
        drawn = nearest.cumsum().searchsorted(random_state.uniform(size=draws) * total).clip(max=len(x) - 1)
        left = np.minimum(distances(drawn), nearest)
        totals = left @ ones
        best = int(totals.argmin())
        nearest, total = left[best], totals[best]
        chosen.append(int(drawn[best]))
        done(1)
    return x[chosen]
