"""Teaches the memory of a finished model further normal samples, without a training.

A false alarm becomes an item: what the encoder makes of it joins the memory. If the decoder still rebuilds it badly,
the item is widened: it carries the difference, which is added to whatever reads this item (`Autoencoder.corrections`).
Samples are taken in the order of their scores, the highest first, and each time all are scored again, so that samples
that resemble each other take one item.

An item is taken back if it lifts the highest scores of the held-out normal samples too far: they read it, too. Then its
sample stays flagged.

Then the threshold is set anew. It comes from the held-out normal samples of the training, scored again with the new
memory, and from the taught samples that became no item and are not flagged: one that did is rebuilt too well to say
what others will score.

A teaching that would blind the model is refused: one that no longer finds made-up or given anomalies, or that moves the
scores of the held-out normal samples.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from memae.artifact import calibrated_tensors, with_calibrated
from memae.autoencoder import Autoencoder
from memae.drift import item_use
from memae.errors import ArtifactError, ConfigError, DataError
from memae.memory.base import Editable, Streaming
from memae.modality import Artifact, Request
from memae.modality.held_out import HeldOut
from memae.predict import predict
from memae.progress import Progress
from memae.teachings import LOG, Found, Teaching
from memae.threshold import Threshold
from memae.threshold_moves import Rule, threshold_of
from memae.types import Encoded, Source

__all__ = ["Limits", "teach", "teachings", "undo_teaching"]

PLACES_EACH = 8  # items of one step, where a sample asks at many places
STEPS_EACH = 4  # of one such sample
READ_ALONE = 0.5  # of the read of a taught sample: from this share of new items on they can carry its difference
RIDGE = 1e-4  # beside squares of shares


@dataclass(frozen=True)
class Limits:
    """What a teaching may do at most."""

    items: int = 100
    """New items."""
    lost: float = 0.05
    """The share of made-up anomalies, and that of given ones, that are found no longer."""
    shift: float = 0.1
    """By which share the threshold may rise, and the median of the held-out normal scores may move."""


DEFAULT = Limits()


def teach(
    artifact: Artifact,
    source: Source,
    *,
    old: Source | None = None,
    anomalies: Source | None = None,
    limits: Limits = DEFAULT,
    progress: Progress | None = None,
) -> tuple[Artifact, Teaching]:
    """The artifact with a memory that knows the samples of `source`, and what changed; the first one stays as it is.

    Args:
        artifact: with a threshold, and a memory that can be edited.
        source: normal samples, such as false alarms, read as the model needs them.
        old: normal samples of the kinds that the model knows, which no training saw; None takes those that the model
            kept at fit.
        anomalies: some that must still be found.
        limits: what the teaching may do at most.
        progress: told how far the work is.

    Raises:
        ConfigError: a memory that cannot be edited, a model whose scores are not of single samples, or no held-out
            samples.
        MemaeError: a model without a threshold.
        DataError: samples that do not fit the model, or a teaching beyond the limits.
    """
    _check(artifact)
    threshold, rule = threshold_of(artifact), Rule.of(threshold_of(artifact))
    held_out = artifact.held_out if old is None else HeldOut(_encoded(artifact, old, progress), None)
    if held_out is None:
        raise ConfigError(
            "this model holds no held-out normal samples to set its threshold anew from (it was saved before format "
            "15, its samples are too large, it was cross-fitted, or it was to keep none); give normal samples of the "
            "kinds that it knows, as `old`"
        )
    new = _encoded(artifact, source, progress)
    given = None if anomalies is None else _encoded(artifact, anomalies, progress)
    made_up = artifact.modality.made_up(artifact, held_out.samples, np.random.default_rng(0))
    lesson = _Lesson(artifact, threshold, limits, held_out.samples)
    known, widened = lesson.learn(new)
    taught = lesson.artifact
    others = new[torch.from_numpy(known)]
    kept = held_out.with_more(others)
    normal = taught.modality.normal_scores(taught, kept.samples, None)
    taught = _under(taught.modality.calibrate(taught, [normal], kept.groups), rule)
    taught = replace(taught, item_use=item_use(len(normal.scores), normal.item_shares))
    if isinstance(taught.model.memory, Streaming) and taught.threshold:  # its scores are its distances
        taught.model.memory.calibrate(torch.from_numpy(taught.threshold.calibration))
    limit = threshold_of(taught).value

    def found(x: Tensor | None) -> Found | None:
        if x is None:
            return None
        before, after = (_scores(one, x) > value for one, value in ((artifact, threshold.value), (taught, limit)))
        return Found(samples=len(x), before=int(before.sum()), after=int(after.sum()))

    of_taught = found(new)
    assert of_taught is not None
    teaching = Teaching(
        when=_now(),
        origin=source.origin.encode(errors="surrogateescape").decode(errors="backslashreplace"),
        items=len(taught.uses) - len(artifact.extended().uses),
        widened=widened,
        taught=of_taught,
        threshold_before=threshold.value,
        threshold_after=limit,
        median_before=float(np.median(_scores(artifact, held_out.samples))),
        median_after=float(np.median(normal.scores[: len(held_out.samples)])),
        made_up=found(made_up),
        anomalies=found(given),
        held_out=0 if artifact.held_out is None else len(artifact.held_out.samples),
        rule=rule,
    )
    _check_bounds(teaching, limits)
    now = calibrated_tensors(taught)
    replaced = {
        name: before
        for name, before in calibrated_tensors(artifact.extended()).items()
        if name not in now or before.shape != now[name].shape or not torch.equal(before, now[name])
    }
    facts = {**artifact.facts, LOG: [one.model_dump() for one in (*teachings(artifact), teaching)]}
    return replace(
        taught,
        facts=facts,
        replaced=(*artifact.replaced, replaced),
        held_out=None if artifact.held_out is None else artifact.held_out.with_more(others),
    ), teaching


def teachings(artifact: Artifact) -> list[Teaching]:
    """The log of a model, the first teaching first."""
    return [Teaching.model_validate(one) for one in artifact.facts.get(LOG, ())]


def undo_teaching(artifact: Artifact) -> Artifact:
    """The artifact as it was before the last teaching that is not undone yet; the log keeps both.

    Raises:
        ConfigError: there is no such teaching.
        ArtifactError: the tensors that it replaced are damaged.
    """
    log = teachings(artifact)
    last = next((number for number in reversed(range(len(log))) if log[number].undone is None), None)
    if last is None or not artifact.replaced:
        raise ConfigError("the memory knows what the training taught it and no more, so there is nothing to undo")
    teaching, model = log[last], copy.deepcopy(artifact.model)
    _take_back(model, teaching.items)
    assert model.memory is not None, "a memory was taught"
    items = model.memory.num_items
    section = artifact.config.memory.model_copy(update={"num_items": items})
    log[last] = teaching.model_copy(update={"undone": _now()})
    before = replace(
        artifact,
        model=model,
        config=artifact.config.model_copy(update={"memory": section}),
        uses=artifact.uses[:items],
        facts={**artifact.facts, LOG: [one.model_dump() for one in log]},
        held_out=artifact.held_out.first(teaching.held_out) if artifact.held_out and teaching.held_out else None,
        replaced=artifact.replaced[:-1],
    )
    try:
        found = with_calibrated(before, calibrated_tensors(artifact) | dict(artifact.replaced[-1]), teaching.rule)
    except (KeyError, ValueError) as error:
        raise ArtifactError(f"what the model was before does not fit together ({error}); copy it again") from None
    if isinstance(model.memory, Streaming) and found.threshold:
        model.memory.calibrate(torch.from_numpy(found.threshold.calibration))
    return found


def _take_back(model: Autoencoder, items: int) -> None:
    """Removes the last items, and what they carry."""
    assert isinstance(model.memory, Editable), "only such a memory is taught"
    model.memory.remove_last(items)
    if model.corrections is not None:
        kept = model.corrections[: max(0, len(model.corrections) - items)]
        model.corrections = kept.clone() if len(kept) else None


class _Lesson:
    """New items for the memory of a copy of a model."""

    def __init__(self, artifact: Artifact, threshold: Threshold, limits: Limits, held_out: Tensor) -> None:
        self._limit, self._most, self._held_out = threshold.value, limits.items, held_out
        model = copy.deepcopy(artifact.model).eval()
        self._model, self._was = model, replace(artifact, model=model)
        self._added, self._rate = 0, threshold.false_alarm_rate
        self._alone: tuple[Tensor, ...] = ()  # samples with a single query that became items
        self._highest = (1 + limits.shift) * self._high()

    @property
    def artifact(self) -> Artifact:
        """With the memory as it is now."""
        return self._was.extended()

    def learn(self, x: Tensor) -> tuple[np.ndarray, int]:
        """Learns from samples (S, ...) until none scores above the limit, or no more can be done.

        Returns:
            (K,) the numbers of the samples that became no item and are below the limit; how many items were widened.
        """
        steps, became = np.zeros(len(x), dtype=int), np.zeros(len(x), dtype=bool)
        while self._added < self._most:
            scores = _scores(self.artifact, x)
            left = np.flatnonzero((scores > self._limit) & (steps < STEPS_EACH))
            if not len(left):
                break
            row = int(left[scores[left].argmax()])
            sample, carried, samples = x[row : row + 1], self._model.corrections, self._alone
            added = self._add(sample, self._most - self._added)
            steps[row] = steps[row] + 1 if added > 1 else STEPS_EACH  # a single query has no more to be read
            if self._alone and (self._widened or _scores(self.artifact, sample)[0] > self._limit):
                self._widen()
            if self._high() > self._highest:
                _take_back(self._model, added)
                self._model.corrections, self._alone = carried, samples
                self._added -= added
                steps[row] = STEPS_EACH
            else:
                became[row] = True
        known = ~became & (_scores(self.artifact, x) <= self._limit)
        return np.flatnonzero(known), len(self._alone) if self._widened else 0

    @property
    def _widened(self) -> bool:
        carried = self._model.corrections
        return carried is not None and bool(self._alone) and bool(carried[-len(self._alone) :].any())

    def _high(self) -> float:
        """What the share of false alarms of the held-out normal samples scores above."""
        return float(np.quantile(_scores(self.artifact, self._held_out), 1 - self._rate, method="higher"))

    @torch.no_grad()
    def _add(self, x: Tensor, most: int) -> int:
        """Makes the encoding of a sample (1, ...) items; gives their number."""
        model, memory = self._model, self._model.memory
        assert isinstance(memory, Editable), "a lesson is for such a memory"
        x = x.to(next(model.parameters()).device)
        queries = model.queries(model.encode(x))[0]
        items = queries if len(queries) == 1 else _farthest(queries, memory, min(PLACES_EACH, most))
        memory.extend(items)
        self._added += len(items)
        if len(queries) == 1:
            self._alone = (*self._alone, x)
        if model.corrections is not None:
            nothing = model.corrections.new_zeros(len(items), *model.corrections.shape[1:])
            model.corrections = torch.cat([model.corrections, nothing])
        return len(items)

    @torch.no_grad()
    def _widen(self) -> None:
        """Lets the items of this lesson carry what the decoder cannot rebuild of their samples.

        A sample reads a mixture of them, so the differences of all samples are shared out together, by least squares.
        """
        model = self._model
        if model.target == "encoding" or self._was.config.memory.score == "distance":
            return
        x, count = torch.cat(self._alone), len(self._alone)
        if model.corrections is not None:
            model.corrections = model.corrections.clone()
            model.corrections[-count:] = 0
        rebuilt = model(x)
        shares, missing = rebuilt.read.shares[:, 0, -count:], (x - rebuilt.x).flatten(1)
        theirs = shares.sum(dim=1) >= READ_ALONE
        shares, missing = shares[theirs].double(), missing[theirs].double()
        ridge = RIDGE * torch.eye(count, dtype=torch.double, device=x.device)
        carried = torch.linalg.solve(shares.T @ shares + ridge, shares.T @ missing).view_as(x).to(x)
        before = model.corrections[:-count] if model.corrections is not None else x[:0]
        model.corrections = torch.cat([before, carried])


def _farthest(queries: Tensor, memory: Any, count: int) -> Tensor:
    """(K, C) those of the queries (T, C) that are farthest from all items, and from each other."""
    known, chosen = memory.items.detach(), list[Tensor]()
    if memory.directional:
        distances = 1 - (F.normalize(queries, dim=1) @ F.normalize(known, dim=1).T).amax(dim=1)
    else:
        distances = torch.cdist(queries, known).amin(dim=1)
    for _ in range(count):
        farthest = queries[int(distances.argmax())]
        chosen.append(farthest)
        if memory.directional:
            to_it = 1 - F.cosine_similarity(queries, farthest[None], dim=1)
        else:
            to_it = (queries - farthest).norm(dim=1)
        distances = torch.minimum(distances, to_it)
    return torch.stack(chosen)


def _check(artifact: Artifact) -> None:
    memory = artifact.model.memory
    if artifact.recogniser:
        raise ConfigError(
            "a model of several categories tells them apart by its items, and cannot be taught; train it again with "
            "the new normal samples"
        )
    if not isinstance(memory, Editable):
        kind = "a plain autoencoder" if memory is None else f"memory.kind = {artifact.config.memory.kind!r}"
        raise ConfigError(
            f"{kind} has no items that could be added to; train the model again with the new normal samples"
        )
    if not artifact.modality.encodes_alone(artifact):
        raise ConfigError(
            "clips of video and tiles cannot be taught, as their scores are not of single encoded samples; train the "
            "model again with the new normal samples"
        )


def _encoded(artifact: Artifact, source: Source, progress: Progress | None) -> Tensor:
    """(S, ...) float32: all samples of a source as the network takes them."""
    parts: list[Tensor] = []

    def collect(encoded: Encoded, good: np.ndarray) -> np.ndarray:
        parts.append(encoded[torch.from_numpy(np.flatnonzero(good))].cpu())
        return np.zeros(len(good))

    for _ in predict(artifact, source, Request(action="reading", follow=collect), progress):
        pass
    return torch.cat(parts)


def _scores(artifact: Artifact, x: Tensor) -> np.ndarray:
    scores: np.ndarray = artifact.modality.normal_scores(artifact, x, None).scores
    return scores


def _under(artifact: Artifact, rule: Rule) -> Artifact:
    """The artifact with its new calibration scores under the rule that its threshold had."""
    threshold: Threshold = threshold_of(artifact)
    if rule.at is not None:
        return replace(artifact, threshold=threshold.moved(at=rule.at))
    moved = replace(threshold, confidence=rule.confidence).moved(false_alarm_rate=rule.false_alarm_rate)
    return replace(artifact, threshold=moved)


def _check_bounds(teaching: Teaching, limits: Limits) -> None:
    """Raises a DataError where a teaching goes beyond the limits."""
    why: list[str] = []
    for name, found in (("made-up", teaching.made_up), ("given", teaching.anomalies)):
        if found is not None and found.lost > limits.lost:
            why.append(
                f"of {found.samples:,} {name} anomalies it would find {found.after:,}, and it finds {found.before:,}"
            )
    changes: Sequence[tuple[str, float, float]] = (
        ("threshold", teaching.threshold_before, max(teaching.threshold_before, teaching.threshold_after)),
        ("median of the held-out normal scores", teaching.median_before, teaching.median_after),
    )
    for name, before, after in changes:
        if abs(after - before) > limits.shift * abs(before):
            why.append(f"the {name} would go from {before:.4g} to {after:.4g}")
    if why:
        raise DataError(
            f"{teaching.origin}: these samples would blind the model: {'; '.join(why)}. Nothing was changed; teach "
            "fewer samples or samples that resemble each other more, train the model again with them, or allow more"
        )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
