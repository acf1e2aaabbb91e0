"""Scorers of rows and images as the library makes them, for networks of any kind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from memae.engine.batch_limit import BatchLimit
from memae.engine.scoring import Scorer
from memae.image.scoring import MapSettings
from memae.table.scoring import ROWS_FOR_THREADS, row_errors


def scorer(
    model: Any, x: Any, settings: MapSettings | None = None, limit: BatchLimit | None = None
) -> Scorer[Any]:
    """For encoded rows (S, features) or images (S, C, H, W)."""
    limit = limit or BatchLimit("scoring")
    if len(x.shape) == 4:
        return Scorer(model, settings or MapSettings(), limit)
    memory = getattr(model, "memory", None)
    return Scorer(model, row_errors, limit, memory.num_items if memory else 0, ROWS_FOR_THREADS)


def sample_scores(
    model: Any, x: Any, settings: MapSettings | None = None, done: Any = None, limit: BatchLimit | None = None
) -> np.ndarray:
    return scorer(model, x, settings, limit).scores(x, done)


def error_maps(model: Any, x: Any, settings: MapSettings | None = None) -> Iterator[Any]:
    return scorer(model, x, settings).batches(x)
