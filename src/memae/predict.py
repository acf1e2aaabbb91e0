"""Passes of a fitted model over a source: the scores, the decisions, and why samples scored so; its items."""

from __future__ import annotations

from collections.abc import Collection, Generator
from contextlib import closing
from dataclasses import replace

import numpy as np
import torch

from memae.categories import SampleCategories
from memae.errors import DataError
from memae.memory.base import Fillable
from memae.memory.shown import MemoryItems, NearestSample
from memae.memory.usage import duplicate_pairs
from memae.memory_help import FACT, MemoryHelp
from memae.modality import Artifact, Request
from memae.progress import Progress, stage
from memae.types import Explanation, Key, Prediction, Scores, Source, Verdicts, check_scores, count

__all__ = ["decoded_items", "explanations", "predict", "scores", "verdicts"]

PLAIN = Request()


def predict(
    artifact: Artifact, source: Source, request: Request = PLAIN, progress: Progress | None = None
) -> Generator[Prediction]:
    """Samples with their scores, part by part, in the order of the source.

    Args:
        artifact: the model; to explain anomalies it has a threshold.
        source: the samples, read as the model needs them.
        request: what is asked of the pass.
        progress: told how far the work is.

    Raises:
        DataError: samples that do not fit the model, or none at all.
        ArtifactError: a model of which a score is no finite number.
        OutOfMemoryError: there is no room for a single one.
    """
    modality = artifact.modality
    with stage(progress, request.action, modality.unit, count(source)) as done:
        for part in modality.predict(artifact, source, request, done, progress):
            left_out = {skipped.key for skipped in part.skipped}
            check_scores(part.keys, part.scores, lambda key: key in left_out or not request.wants(key))  # noqa: B023  called before the loop goes on
            yield part


def scores(artifact: Artifact, source: Source, request: Request, progress: Progress | None) -> Scores:
    """The scores of all samples; raises as `predict`."""
    parts = list(predict(artifact, source, request, progress))
    keys: list[Key] = [key for part in parts for key in part.keys]
    skipped = tuple(bad for part in parts for bad in part.skipped)
    categories = SampleCategories.joined([part.categories for part in parts])
    return Scores(np.concatenate([part.scores for part in parts]), keys, skipped, categories)


def verdicts(
    artifact: Artifact, source: Source, request: Request, progress: Progress | None
) -> Generator[Verdicts]:
    """The decisions at the threshold of an artifact that has one, part by part; raises as `predict`."""
    watch = artifact.drift_watch()
    with closing(predict(artifact, source, replace(request, watch=watch), progress)) as parts:
        for part in parts:  # closed, so that its stage ends before an error
            yield Verdicts.of(part, artifact.threshold, watch.found if watch else None)


def explanations(
    artifact: Artifact, source: Source, keys: Collection[Key] | None, skip_bad: bool, progress: Progress | None
) -> Generator[Explanation]:
    """Explanations of the samples of these keys; None: of all.

    Raises:
        DataError: as `predict`, or a key that no sample has.
    """
    unknown, wanted = set(keys or ()), None if keys is None else frozenset(keys)
    request = Request("all", wanted, skip_bad=skip_bad, action="explaining")
    with closing(predict(artifact, source, request, progress)) as parts:
        for part in parts:
            for explanation in part.explanations:
                unknown.discard(explanation.key)
                yield explanation
    if unknown:
        raise DataError(f"no sample has the key {next(iter(unknown))!r}; take keys that score or detect gave")


def decoded_items(artifact: Artifact) -> MemoryItems | None:
    """The memory items: usage counts, duplicates, and each item decoded; None for a plain autoencoder."""
    fitted = artifact.extended()
    memory, pictures, rows = fitted.model.eval().memory, None, None
    if memory is None:
        return None
    if isinstance(memory, Fillable):
        with torch.inference_mode():
            pictures, rows = fitted.modality.decode_items(fitted)
    told = artifact.facts.get(FACT)
    help_line = MemoryHelp(**told).line if told else ""
    return MemoryItems(fitted.uses, duplicate_pairs(memory), pictures, rows, _samples(fitted), help_line)


def _samples(artifact: Artifact) -> list[tuple[NearestSample, ...]] | None:
    """The training samples nearest to each item."""
    kept = artifact.item_samples
    if kept is None:
        return None
    count = len(kept.keys)
    pictures = [None] * count if kept.pictures is None else list(kept.pictures)
    rows = [None] * count if kept.rows is None else artifact.modality.readable_rows(artifact, kept.rows)
    samples = [NearestSample(*one) for one in zip(kept.keys, pictures, rows, strict=True)]
    return [tuple(samples[place] for place in kept.of(item)) for item in range(len(artifact.uses))]
