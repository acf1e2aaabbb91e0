"""The methods of the evidence: fit normal samples, score the test; each a function of a split and a seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from experiments.protocols import Split
from memae import Detector

__all__ = ["METHODS", "Method", "Outcome"]

Outcome: TypeAlias = tuple[np.ndarray, dict[str, Any]]
"""Scores (T,) of the test, higher = more anomalous, and facts for the record."""

Method: TypeAlias = Callable[[Split, int], Outcome]

# The protocols split train and validation 2:1 and judge a ranking, so nothing is held out for a threshold.
HOLD_OUT: Mapping[str, Any] = {"train": {"validation_share": 1 / 3}, "threshold": {"calibration_share": 0.0}}


def detector(preset: Callable[[str], str], **settings: Mapping[str, Any]) -> Method:
    """A `Detector` of the preset for a network, with `settings` on top; nothing is chosen on the test."""

    def run(split: Split, seed: int) -> Outcome:
        network = "mnist" if split.fit.ndim == 4 else "kddcup"
        merged = {k: {**HOLD_OUT.get(k, {}), **settings.get(k, {})} for k in {*HOLD_OUT, *settings}}
        fitted = Detector(preset(network), seed=seed, settings=merged).fit(split.fit)
        facts = {"config": fitted.config.model_dump(), **fitted.facts}
        return fitted.score(split.test).values, facts

    return run


def nearest_neighbour(metric: str) -> Method:
    """1-NN distance to the fit samples: "l2", "cosine", or "centred" (cosine of samples less their own mean).

    Duplicate rows are looked up once.
    """

    def run(split: Split, seed: int) -> Outcome:
        from sklearn.neighbors import NearestNeighbors

        fit, test = _flat(split.fit, split.fit), _flat(split.test, split.fit)
        if metric == "centred":
            fit, test = fit - fit.mean(axis=1, keepdims=True), test - test.mean(axis=1, keepdims=True)
        if metric != "l2":
            fit, test = _unit(fit), _unit(test)  # the L2 order of unit vectors is their cosine order
        fit = np.unique(fit, axis=0)
        rows, place = np.unique(test, axis=0, return_inverse=True)
        found = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(fit)
        distances = np.concatenate([found.kneighbors(part)[0][:, 0] for part in np.array_split(rows, 16)])
        return distances[place.ravel()], {"stored": len(fit)}

    return run


def pca(components: int) -> Method:
    """Squared residual of a principal component analysis of the fit samples."""

    def run(split: Split, seed: int) -> Outcome:
        from sklearn.decomposition import PCA

        fit, test = _flat(split.fit, split.fit), _flat(split.test, split.fit)
        model = PCA(components, random_state=seed).fit(fit)
        return ((test - model.inverse_transform(model.transform(test))) ** 2).sum(axis=1), {}

    return run


def exact_match(split: Split, seed: int) -> Outcome:
    """0 for a row that stands in the fit samples, 1 for any other."""
    known = {row.tobytes() for row in split.fit}
    return np.array([float(row.tobytes() not in known) for row in split.test]), {"stored": len(known)}


def isolation_forest(split: Split, seed: int) -> Outcome:
    """scikit-learn's Isolation Forest at its defaults."""
    from sklearn.ensemble import IsolationForest

    model = IsolationForest(random_state=seed, n_jobs=2).fit(split.fit)
    return -model.score_samples(split.test), {}


def _flat(x: np.ndarray, fit: np.ndarray) -> np.ndarray:
    """(S, D) float32 in [0, 1]: pixels by 255, columns by their range in the fit samples."""
    flat = x.reshape(len(x), -1).astype(np.float32)
    if fit.dtype == np.uint8:
        return flat / 255
    low, high = fit.min(axis=0), fit.max(axis=0)
    return (flat - low) / np.where(high > low, high - low, 1)


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


_PLAIN = {"memory": {"enabled": False}}
_UNTRAINED = {"train": {"epochs": 0, "patience": 0}}

METHODS: dict[str, Method] = {
    "memae": detector(lambda network: network),
    "memae-paper": detector(lambda network: f"{network}-paper"),
    "memae-released": detector(lambda network: f"{network}-released"),
    "autoencoder": detector(lambda network: network, **_PLAIN),
    "autoencoder-paper": detector(lambda network: f"{network}-paper", **_PLAIN),
    "untrained": detector(lambda network: network, **_UNTRAINED),
    "1-nn l2": nearest_neighbour("l2"),
    "1-nn cosine": nearest_neighbour("cosine"),
    "1-nn centred cosine": nearest_neighbour("centred"),
    "pca-30": pca(30),
    "exact match": exact_match,
    "isolation forest": isolation_forest,
}
