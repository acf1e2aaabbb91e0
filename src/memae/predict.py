"""One pass of a fitted model over a source: the scores, and why the samples that are asked for scored so; its items."""

from __future__ import annotations

from collections.abc import Generator

import torch

from memae.memory.base import Fillable
from memae.memory.usage import duplicate_pairs
from memae.modality import Artifact, Request
from memae.progress import Progress, stage
from memae.types import MemoryItems, Prediction, Source, check_scores, count

__all__ = ["decoded_items", "predict"]

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


def decoded_items(artifact: Artifact) -> MemoryItems | None:
    """The memory items: usage counts, duplicates, and each item decoded; None for a plain autoencoder."""
    fitted = artifact.extended()
    memory, pictures, rows = fitted.model.eval().memory, None, None
    if memory is None:
        return None
    if isinstance(memory, Fillable):
        with torch.inference_mode():
            pictures, rows = fitted.modality.decode_items(fitted)
    samples = fitted.modality.item_samples(fitted)
    return MemoryItems(fitted.uses, duplicate_pairs(memory), pictures, rows, samples)
