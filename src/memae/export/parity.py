"""Whether a written file gives the scores of the library: golden samples through its real runtime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from memae.errors import MemaeError
from memae.export.program import Outputs, Runtime, outputs_of
from memae.modality import ScoringGraph

__all__ = ["TOLERANCE", "ExportError", "Parity", "check_module", "check_parity"]

TOLERANCE = 1e-4
"""The largest relative difference of a score, and of any other output relative to its largest value."""
SMALLEST = 1e-9  # score that a difference is divided by: that of a perfect reconstruction is rounding


class ExportError(MemaeError):
    """A written file that does not give the scores of the library; nothing is left of it."""


@dataclass(frozen=True)
class Parity:
    """How far a file is from the library on golden samples."""

    runtime: str
    """With its version."""
    batch_sizes: tuple[int, ...]
    largest_difference: float
    """Of a score, relative."""

    @property
    def facts(self) -> dict[str, Any]:
        """For model.json."""
        return {**self.__dict__, "batch_sizes": list(self.batch_sizes), "tolerance": TOLERANCE}


def check_module(graph: ScoringGraph) -> None:
    """Compares what is to be traced with the library, before any work.

    Raises:
        ExportError: the scores of golden samples differ by more than the tolerance.
    """
    score = graph.outputs[0].name
    found = outputs_of(graph, graph.golden)[score]
    _refuse_above(_difference(graph.golden_scores, found), score, "the graph", len(found))


def check_parity(graph: ScoringGraph, runtime: Runtime, folder: Path) -> Parity:
    """Runs the golden samples one by one and all at once, and compares all that comes out.

    Raises:
        ExportError: an output differs by more than the tolerance.
    """
    count = len(graph.golden_scores)
    sizes = (1, count)
    names, score = [port.name for port in graph.inputs], graph.outputs[0].name
    wanted, worst = outputs_of(graph, graph.golden), 0.0
    for size in sizes:
        feeds = [dict(zip(names, part, strict=True)) for part in _parts(graph.golden, size)]
        found = _joined(runtime.run(folder, feeds))
        worst = max(worst, _difference(graph.golden_scores, found[score]))
        _refuse_above(worst, score, runtime.version, size)
        for name, values in wanted.items():
            _refuse_above(_difference_of(values, found[name]), name, runtime.version, size)
    return Parity(runtime.version, sizes, worst)


def _parts(inputs: Sequence[np.ndarray], size: int) -> Iterator[list[np.ndarray]]:
    for start in range(0, len(inputs[0]), size):
        yield [values[start : start + size] for values in inputs]


def _joined(batches: Sequence[Mapping[str, np.ndarray]]) -> Outputs:
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def _difference(wanted: np.ndarray, found: np.ndarray) -> float:
    """The largest relative difference of scores of one shape; infinite where only one of two is NaN."""
    if wanted.shape != found.shape or (np.isnan(wanted) != np.isnan(found)).any():
        return np.inf
    away = np.abs(found.astype(np.float64) - wanted) / np.maximum(np.abs(wanted), SMALLEST)
    return float(np.nanmax(away, initial=0.0))


def _difference_of(wanted: np.ndarray, found: np.ndarray) -> float:
    """As `_difference`, relative to the largest value."""
    if wanted.shape != found.shape or wanted.dtype != found.dtype:
        return np.inf
    if wanted.dtype == bool:
        return np.inf if (wanted != found).any() else 0.0
    largest = max(float(np.nanmax(np.abs(wanted), initial=0.0)), SMALLEST)
    return float(np.nanmax(np.abs(found.astype(np.float64) - wanted), initial=0.0)) / largest


def _refuse_above(difference: float, name: str, where: str, size: int) -> None:
    if not difference <= TOLERANCE:
        raise ExportError(
            f"{where} differs from memae by {difference:.2g} in the output {name!r} of golden samples in batches of "
            f"{size}, and at most {TOLERANCE:g} is allowed; nothing was written. Take the other format, or score with "
            "memae"
        )
