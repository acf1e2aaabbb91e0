"""Moves the threshold of a finished model, and back. The log of all moves travels in the facts of the model."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from pydantic import BaseModel, Field, FiniteFloat

from memae.errors import ConfigError, MemaeError
from memae.modality import Artifact
from memae.threshold import Threshold

__all__ = [
    "LOG",
    "Calibration",
    "Move",
    "Rule",
    "at_rate",
    "calibrated_on",
    "move_threshold",
    "threshold_of",
    "undo_move",
]

LOG = "threshold_moves"
"""The name of the log in the facts of a model: `Move`s, the first one first."""


class Rule(BaseModel, extra="forbid", strict=True):
    """How a threshold follows from the calibration scores."""

    false_alarm_rate: float = Field(gt=0, lt=1)
    confidence: float | None = Field(None, gt=0, lt=1)
    at: FiniteFloat | None = None

    @classmethod
    def of(cls, threshold: Threshold) -> Rule:
        """That of a threshold."""
        return cls(false_alarm_rate=threshold.false_alarm_rate, confidence=threshold.confidence, at=threshold.at)


class Calibration(BaseModel, extra="forbid", strict=True):
    """The scores behind a threshold that others took the place of."""

    scores: list[FiniteFloat]
    groups: list[int] | None = None


class Move(BaseModel, extra="forbid", strict=True):
    """One move of a threshold."""

    when: str
    before: Rule
    after: Rule
    undone: str | None = None
    """When it was taken back."""
    replaced: Calibration | None = None
    """The scores of before, where others took their place."""


def at_rate(artifact: Artifact, false_alarm_rate: float | None) -> Artifact:
    """The artifact with the threshold of another rate, for one pass: nothing is logged. None is the artifact itself.

    Raises:
        ConfigError: as `Threshold.moved`.
        MemaeError: a model without a threshold.
    """
    before = threshold_of(artifact)
    if false_alarm_rate is None:
        return artifact
    return replace(artifact, threshold=before.moved(false_alarm_rate=false_alarm_rate))


def move_threshold(
    artifact: Artifact, *, false_alarm_rate: float | None = None, at: float | None = None
) -> Artifact:
    """The artifact with `Threshold.moved`, and with one more line in its log.

    Raises:
        ConfigError: as `Threshold.moved`.
        MemaeError: a model without a threshold.
    """
    before = threshold_of(artifact)
    after = before.moved(false_alarm_rate=false_alarm_rate, at=at)
    return _with(
        artifact, after, [*_log(artifact), Move(when=_now(), before=Rule.of(before), after=Rule.of(after))]
    )


def calibrated_on(
    artifact: Artifact,
    scores: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    false_alarm_rate: float | None = None,
) -> Artifact:
    """The artifact with the threshold of other normal scores, and with one more line in its log.

    Args:
        artifact: with a threshold.
        scores: (n,) of normal samples that no training saw.
        groups: (n,) the number of the group of each, for a rate of new groups; None: each is its own.
        false_alarm_rate: wanted; None is that of the threshold of before.

    Raises:
        ConfigError: so few samples cannot promise the rate, or all are of one group.
        MemaeError: a model without a threshold.
    """
    before = threshold_of(artifact)
    if before.categories is not None:
        raise ConfigError(
            "a model of several categories has a threshold for each, which comes from its training; train it again "
            "with these samples, or move it to another rate"
        )
    rate = before.false_alarm_rate if false_alarm_rate is None else false_alarm_rate
    after = Threshold.fit(scores, rate, groups, before.confidence)
    kept = Calibration(
        scores=before.calibration.tolist(), groups=None if before.groups is None else before.groups.tolist()
    )
    move = Move(when=_now(), before=Rule.of(before), after=Rule.of(after), replaced=kept)
    return _with(artifact, after, [*_log(artifact), move])


def undo_move(artifact: Artifact) -> Artifact:
    """The artifact as it was before the last move that is not undone yet; the log keeps both.

    Raises:
        ConfigError: there is no such move.
        MemaeError: a model without a threshold.
    """
    threshold, log = threshold_of(artifact), _log(artifact)
    last = next((number for number in reversed(range(len(log))) if log[number].undone is None), None)
    if last is None:
        raise ConfigError("the threshold is where the training left it, so there is no move to undo")
    if old := log[last].replaced:
        groups = None if old.groups is None else np.array(old.groups, dtype=np.int64)
        threshold = replace(threshold, calibration=np.array(old.scores), groups=groups)
    log[last] = log[last].model_copy(update={"undone": _now(), "replaced": None})
    return _with(artifact, replace(threshold, **log[last].before.model_dump()), log)


def threshold_of(artifact: Artifact) -> Threshold:
    """The threshold of a model.

    Raises:
        MemaeError: it was trained with threshold.calibration_share = 0 and has none.
    """
    if artifact.threshold is None:
        raise MemaeError(
            "this model has no threshold, as it was trained with threshold.calibration_share = 0; use score, or train "
            "it with a share above 0"
        )
    return artifact.threshold


def _log(artifact: Artifact) -> list[Move]:
    return [Move.model_validate(move) for move in artifact.facts.get(LOG, ())]


def _with(artifact: Artifact, threshold: Threshold, log: list[Move]) -> Artifact:
    facts = {**artifact.facts, LOG: [_dumped(move) for move in log]}
    return replace(artifact, threshold=threshold, facts=facts)


def _dumped(move: Move) -> dict[str, Any]:
    return move.model_dump(exclude={"replaced"} if move.replaced is None else None)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
