"""The whole scoring of a model as one torch module, which `memae.export` writes for other runtimes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from torch import Tensor, nn

from memae.threshold import Threshold

__all__ = ["Layout", "Port", "ScoringGraph", "above"]

Layout: TypeAlias = Literal["memae", "anomalib"]
"""The names, types and units of what goes in and out: our own, or those that the inferencers of anomalib expect."""


class Port(NamedTuple):
    """One input or output of a graph."""

    name: str
    axes: tuple[int | str, ...]
    """The size of each axis; a name where it is free. The first axis is the batch."""
    meaning: str
    """With its unit."""


@dataclass(frozen=True)
class ScoringGraph:
    """A scoring with its ports, and golden samples that tell whether another runtime computes the same."""

    module: nn.Module
    """From one tensor for each of `inputs` to a tuple of one tensor for each of `outputs`; in eval mode, on the CPU."""
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    """The first one is the score."""
    golden: tuple[np.ndarray, ...]
    """One (G, ...) for each input: of G samples that the model was not asked about before."""
    golden_scores: np.ndarray
    """(G,), or for clips (G, T): what the library itself says of the golden samples."""
    outside: Mapping[str, Any]
    """What a program does before the graph, and how it reads the outputs: columns, image, clip."""
    samples: Sequence[Mapping[str, Any]] = ()
    """The golden samples as they are before anything is done with them, where they are not the inputs themselves."""
    notes: tuple[str, ...] = field(default=())
    """What the owner of the file should know."""


def above(scores: Tensor, threshold: Threshold | None) -> Tensor:
    """bool of the shape of float32 scores: exactly those above the threshold, which is a float64; none without one."""
    at = np.inf if threshold is None else threshold.value
    nearest = np.float32(at)
    return scores > float(np.nextafter(nearest, np.float32(-np.inf)) if float(nearest) > at else nearest)
