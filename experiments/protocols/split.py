"""What every protocol on arrays gives: what to fit on, what to score, and which rows each judgement takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

__all__ = ["Judge", "Metrics", "Split"]

Metrics: TypeAlias = dict[str, dict[str, float]]
"""{protocol: {metric: value}}"""


@dataclass(frozen=True)
class Split:
    """A one-class problem. `fit` goes to a method whole: what it holds out of it for validation is its own affair."""

    fit: np.ndarray
    """(S, ...) normal samples: images (S, C, H, W) uint8, or encoded rows (S, D) float32."""
    test: np.ndarray
    """(T, ...) of the same kind."""
    labels: np.ndarray
    """(T,) bool, True = anomaly."""
    judged: Mapping[str, np.ndarray]
    """For each protocol the rows of the test that it judges: one fit and one scoring serve them all."""


Judge: TypeAlias = Callable[[Split, np.ndarray, Callable[[], np.ndarray]], Metrics]
"""From a split, the scores (T,) of its test rows, and a function that scores its `fit` rows (S,) if it is called."""
