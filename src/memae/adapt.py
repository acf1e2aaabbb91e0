"""Scores a stream and learns from it: each sample is scored against the memory of its moment, and learnt from after.

Only a memory that goes on learning by its distance can do this (`memae.memory.base.Streaming`): MemStream's.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from memae.autoencoder import Autoencoder
from memae.errors import ConfigError
from memae.memory.base import Streaming
from memae.modality import Artifact, Request
from memae.predict import predict
from memae.progress import Progress
from memae.threshold_moves import threshold_of
from memae.types import Encoded, Source, Verdicts, fitting

__all__ = ["Adaptation", "Moves", "adapt", "adapting", "moves"]

BLOCK, BLOCK_BYTES = 256, 8 << 20  # samples that are encoded and compared at a time, at most, and their input


class Moves(NamedTuple):
    """How the memory of a model has moved."""

    inserted: int
    """Queries that became items."""
    ages: np.ndarray
    """(N,) int64: the samples of all streams so far that came after each item; items of the training are the oldest."""

    @property
    def line(self) -> str:
        """In words."""
        young, middle, old = np.quantile(self.ages, (0, 0.5, 1)).astype(int).tolist()
        return (
            f"adapted: {self.inserted:,} insertions into {len(self.ages):,} items, which are {young:,} to {old:,} "
            f"samples old (median {middle:,})"
        )


class Adaptation(NamedTuple):
    """What a model said of a stream, and how its memory moved."""

    verdicts: Verdicts
    """Of each sample, from before it was learnt."""
    moves: Moves


def adapt(
    artifact: Artifact, source: Source, *, skip_bad: bool = False, progress: Progress | None = None
) -> Adaptation:
    """All parts of `adapting` together, and how the memory moved."""
    before = moves(artifact).inserted
    verdicts = Verdicts.joined(list(adapting(artifact, source, skip_bad=skip_bad, progress=progress)))
    return Adaptation(verdicts, moves(artifact, before))


def moves(artifact: Artifact, before: int = 0) -> Moves:
    """How the memory of a model has moved, less the insertions of before.

    Raises:
        ConfigError: a memory that does not learn from a stream.
    """
    memory = _streaming(artifact)
    return Moves(int(memory.inserted) - before, memory.ages.cpu().numpy())


def adapting(
    artifact: Artifact, source: Source, *, skip_bad: bool = False, progress: Progress | None = None
) -> Generator[Verdicts]:
    """Verdicts of a stream, part by part, in its order; the memory of the artifact learns on the way.

    It learns from no sample whose score is above the threshold, nor from one that was left out as bad. Saving the model
    afterwards keeps what it has learnt.

    Args:
        artifact: with a threshold.
        source: the samples, read as the model needs them.
        skip_bad: what cannot be read has the score NaN; else an error.
        progress: told how far the work is.

    Raises:
        ConfigError: a memory that does not learn from a stream.
        MemaeError: a model without a threshold.
        DataError: samples that do not fit the model.
    """
    memory, threshold, watch = _streaming(artifact), threshold_of(artifact), artifact.drift_watch()
    follow = _Follower(artifact.model, threshold.value)
    request = Request(skip_bad=skip_bad, action="scoring and adapting", watch=watch, follow=follow)
    before = memory.items.clone()
    try:
        with closing(predict(artifact, source, request, progress)) as parts:
            for part in parts:
                yield Verdicts.of(part, threshold, watch.found if watch else None)
    finally:
        changed = (before != memory.items).any(dim=1).cpu().numpy()
        artifact.uses[changed] = 0  # no training query read the new ones
        if artifact.item_samples:
            artifact.item_samples.forget(changed)


@dataclass(frozen=True)
class _Follower:
    """Scores encoded samples one after the other; see `memae.modality.values.Follow`."""

    model: Autoencoder
    limit: float
    """Samples with a greater score are not learnt from."""

    @torch.no_grad()
    def __call__(self, encoded: Encoded, good: np.ndarray) -> np.ndarray:
        model, memory, scores = self.model.eval(), self.model.memory, list[torch.Tensor]()
        assert isinstance(memory, Streaming), "who follows a stream has looked for such a memory"
        device, block = next(model.parameters()).device, min(BLOCK, fitting(encoded, BLOCK_BYTES))
        for start in range(0, len(encoded), block):
            queries = model.queries(model.encode(encoded[start : start + block].to(device)))
            trusted = torch.from_numpy(good[start : start + block]).to(device)
            scores.append(memory.follow(queries, trusted, self.limit))
        return torch.cat(scores).double().cpu().numpy() if scores else np.empty(0)


def _streaming(artifact: Artifact) -> Streaming:
    memory = artifact.model.memory
    if artifact.recogniser:
        raise ConfigError(
            "a model of several categories tells them apart by its items, and does not learn from a stream; train one "
            "model for each category"
        )
    if not isinstance(memory, Streaming):
        kind = f"memory.kind = {artifact.config.memory.kind!r}" if memory is not None else "a plain autoencoder"
        raise ConfigError(
            f"{kind} does not learn from a stream without a training; fit a model with memory.kind = 'memstream'"
        )
    return memory
