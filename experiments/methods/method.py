"""What a method of the evidence is: it sees normal samples and a seed, and no test sample and no label ever."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

__all__ = ["Fitted", "Method", "flat"]


@dataclass(frozen=True)
class Fitted:
    """A method that has seen its normal samples."""

    score: Callable[[np.ndarray], np.ndarray]
    """From samples (T, ...) to scores (T,), higher = more anomalous; each depends on its own sample alone."""
    stored: int | None = None
    """Samples, items or vectors that are kept for scoring; None where that says nothing of the method."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """All settings of the method, for the record; of JSON types."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What is worth keeping of the fit, such as a loss by epoch; of JSON types."""
    fit_seconds: float | None = None
    """What the fit takes, where another method may have trained the same before; None where that is what it took."""


Method: TypeAlias = Callable[[np.ndarray, int], Fitted]
"""From normal samples and a seed: images (S, C, H, W) uint8, or encoded rows (S, D) float32."""


def flat(x: np.ndarray, fit: np.ndarray) -> np.ndarray:
    """(S, D) float32 in [0, 1]: pixels by 255, columns by their range in the fit samples."""
    rows: np.ndarray = x.reshape(len(x), -1).astype(np.float32)
    if fit.dtype == np.uint8:
        rows /= 255
        return rows
    low, high = fit.min(axis=0), fit.max(axis=0)
    rows -= low
    rows /= np.where(high > low, high - low, 1)
    return rows
