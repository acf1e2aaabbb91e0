"""One-class support vector machine.

Published: Schoelkopf, Platt, Shawe-Taylor, Smola, Williamson, "Estimating the Support of a High-Dimensional
Distribution", Neural Computation 13, 2001: the hyperplane of an RBF kernel that parts a share of at least 1 - nu of
the samples from the origin with the widest margin. The score is the negative side of it, here without its offset.

Ours: nu = 0.1, one of the two values of the one-class benchmark of Ruff et al. (ICML 2018), which takes the better one
and chooses gamma by labels of a tenth of the test set; nothing is chosen here. gamma = 1 / (D * variance of all
numbers), scikit-learn's "scale"; the features are the samples as `flat` scales them, without a PCA.
"""

from __future__ import annotations

import numpy as np

from experiments.methods.method import Fitted, Method, flat

__all__ = ["one_class_svm"]

KERNEL_CACHE = 1000  # MB


def one_class_svm(nu: float = 0.1) -> Method:
    """scikit-learn's exact solver on the distinct samples, each weighing as much as it is frequent.

    That is the problem of all samples: a duplicate's multipliers, each at most 1, add up to one that is at most the
    count. KDDCUP99 has some 35,000 distinct rows among the 198,301 of a fit: 100 s on a core, and 75 s to score a test.
    """

    def run(fit: np.ndarray, seed: int) -> Fitted:
        from sklearn.svm import OneClassSVM

        rows = flat(fit, fit)
        gamma = 1 / (rows.shape[1] * max(float(rows.var(dtype=np.float64)), 1e-12))
        known, count = np.unique(rows, axis=0, return_counts=True)
        model = OneClassSVM(kernel="rbf", nu=nu, gamma=gamma, cache_size=KERNEL_CACHE)
        model.random_state = seed  # unused for one class, but libsvm would ask numpy's global state for one
        model.fit(known, sample_weight=count)

        def score(x: np.ndarray) -> np.ndarray:
            asked, place = np.unique(flat(x, fit), axis=0, return_inverse=True)
            found: np.ndarray = -model.score_samples(asked)
            return found[place.ravel()]

        # settings are those of all classes; what gamma comes to is a fact of this one
        return Fitted(score, len(model.support_), {"nu": nu, "gamma": "scale"}, {"gamma": gamma})

    return run
