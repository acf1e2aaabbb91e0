"""Scores rows: the error of each column and one score, the threshold, and prediction over rows."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memae.autoencoder import Reconstruction
from memae.categories import HeldOutCategories
from memae.drift import looked_at
from memae.engine.batch_limit import BatchLimit
from memae.engine.scoring import Measured, SamplePredictor, Scorer, count_uses
from memae.errors import DataError
from memae.losses import squared_error
from memae.memory.item_samples import NearestQueries
from memae.modality import Artifact, Request
from memae.progress import Done, Progress, stage
from memae.table.schema import TablePreprocess, check_none_bad
from memae.table.source import ColumnSource, Table, shown, texts_of
from memae.threshold import Threshold
from memae.types import Encoded, Prediction

__all__ = ["RowErrors", "calibrate", "examine", "made_up", "normal_scores", "predict", "row_errors", "scorer_of"]

ROWS_FOR_THREADS = 4096  # that are worth a second thread


@dataclass(frozen=True)
class RowErrors(Measured):
    """The errors and scores of a batch of B rows."""

    errors: Tensor
    """(B, features) squared errors."""
    by_distance: bool = False
    """Whether the score is the distance to the nearest item, and not the error."""

    @property
    def device_scores(self) -> Tensor:
        """(B,): the mean squared error of each row, or its distance to the nearest item."""
        return self.distances if self.by_distance else self.errors.mean(dim=1)

    def by_column(self, preprocess: TablePreprocess) -> Tensor:
        """(columns,) float64: the errors of all B rows, summed."""
        return preprocess.sum_columns(self.errors.double().sum(dim=0, keepdim=True).cpu())[0]


def shares_of(preprocess: TablePreprocess, errors: Tensor) -> dict[str, float]:
    """The share of each column in summed errors (columns,)."""
    total = float(errors.sum()) or 1.0
    return {column.name: float(error) / total for column, error in zip(preprocess.columns, errors, strict=True)}


def row_errors(x: Tensor, rebuilt: Reconstruction, *, by_distance: bool = False) -> RowErrors:
    """The errors of encoded rows (B, features)."""
    return RowErrors(rebuilt, squared_error(x, rebuilt.x), by_distance)


def scorer_of(artifact: Artifact, action: str, progress: Progress | None) -> Scorer[RowErrors]:
    """The scorer of the artifact; `action` names in messages what it scores for."""
    memory = artifact.model.memory
    numbers = 0 if memory is None else memory.num_items  # a row is small beside its read weights
    measure = partial(row_errors, by_distance=artifact.config.memory.score == "distance")
    return Scorer(artifact.model, measure, BatchLimit(action, progress), numbers, ROWS_FOR_THREADS)


@dataclass(frozen=True)
class NormalRows:
    """What a model found in held-out normal rows."""

    scores: np.ndarray
    """(n,) of each row."""
    item_shares: np.ndarray | None
    """See `memae.modality.NormalScores`."""
    errors: Tensor
    """(columns,) float64: the errors of all rows, summed."""


def examine(artifact: Artifact, training: Encoded, progress: Progress | None) -> Artifact:
    """The artifact with the use counts of its items."""
    if artifact.model.memory is None:
        return artifact
    nearest = NearestQueries.of(artifact.model.memory, wanted=artifact.config.memory.keep_samples)

    def see(part: RowErrors) -> None:
        if nearest and part.read is not None:
            nearest.see(part.read)

    with stage(progress, "counting the use of items", "samples", len(training)) as done:
        uses = count_uses(scorer_of(artifact, "counting the use of items by", progress), training, done, see)
    kept = nearest.samples(row_of=lambda row: training[row : row + 1][0].cpu().numpy()) if nearest else None
    return replace(artifact, uses=uses, item_samples=kept)


def made_up(artifact: Artifact, calibration: Encoded, generator: np.random.Generator) -> Tensor | None:
    """(S, features): each row has every other of its columns, by chance, from another row."""
    if len(calibration) < 2 or len(artifact.preprocess.columns) < 2:
        return None
    x = calibration[torch.arange(len(calibration))]
    widths = torch.tensor([column.width for column in artifact.preprocess.columns])
    foreign = torch.from_numpy(generator.integers(2, size=(len(x), len(widths)), dtype=np.int64)).bool()
    others = x.roll(int(generator.integers(1, len(x))), dims=0)
    return torch.where(foreign.repeat_interleave(widths, dim=1), others, x)


def normal_scores(artifact: Artifact, calibration: Encoded, progress: Progress | None) -> NormalRows:
    """The scores of held-out normal rows."""
    with stage(progress, "setting the threshold", "samples", len(calibration)) as done:
        scorer, preprocess = scorer_of(artifact, "setting the threshold from", progress), artifact.preprocess
        errors = [torch.zeros(len(preprocess.columns), dtype=torch.float64)]

        def see(part: RowErrors, scores: np.ndarray, start: int) -> None:
            errors.append(part.by_column(preprocess))

        looked = looked_at(len(calibration), len(artifact.uses))
        scores, item_shares = scorer.scored(calibration, done, looked, see)
        return NormalRows(scores, item_shares, torch.stack(errors).sum(dim=0))


def calibrate(
    artifact: Artifact,
    normal: Sequence[NormalRows],
    groups: np.ndarray | None = None,
    categories: HeldOutCategories | None = None,
) -> Artifact:
    """The artifact with its threshold, and the share of each column in the errors of normal rows."""
    scores = np.concatenate([part.scores for part in normal])
    shares = shares_of(artifact.preprocess, torch.stack([part.errors for part in normal]).sum(dim=0))
    threshold = Threshold.by(artifact.config.threshold, scores, groups, categories)
    return replace(artifact, threshold=threshold, facts={**artifact.facts, "column_shares": shares})


def predict(
    artifact: Artifact, source: Any, request: Request, done: Done, progress: Progress | None
) -> Iterator[Prediction]:
    """Scores and explanations of the rows of a source; see `memae.modality.Modality.predict`."""
    if isinstance(source, ColumnSource):
        _tell_of_unknown(artifact.preprocess, source)
        column = artifact.recogniser and artifact.recogniser.column
        if column and column in source.names:
            source = source.as_text([column])  # as it was read in training
    scorer = scorer_of(artifact, request.action, progress)
    predictor = _RowPredictor(artifact, scorer, request, done, progress)
    yield from predictor.predictions(source)
    _tell_of_gaps(source.origin, predictor.filled)


def _tell_of_unknown(preprocess: TablePreprocess, source: ColumnSource) -> None:
    extra = preprocess.unknown(source.names)
    if not extra or preprocess.lacking(source.names):  # where a column is missing, an error names both
        return
    if not source.named:
        raise DataError(
            f"{source.origin}: has {len(source.names):,} columns, and the model was trained on "
            f"{len(source.names) - len(extra):,}; give the columns of the training in their order"
        )
    warnings.warn(
        f"{source.origin}: column {shown(extra)} was not there in training, and is left out", stacklevel=3
    )


def _tell_of_gaps(origin: str, filled: Mapping[str, int]) -> None:
    if not filled:
        return
    named = ", ".join(
        f"{name!r} in {rows:,} rows" for name, rows in sorted(filled.items(), key=lambda one: -one[1])
    )
    warnings.warn(
        f"{origin}: no value in column {named}, where none was missing in training; the mean of the training stands "
        "there, so these columns make no such row an anomaly",
        stacklevel=3,
    )


@dataclass(frozen=True)
class _RowPredictor(SamplePredictor[RowErrors]):
    filled: Counter[str] = field(default_factory=Counter)
    """In how many rows the mean of the training stood for a value, by columns."""

    def encode(self, samples: Table) -> tuple[Encoded, Mapping[int, str]]:
        preprocess: TablePreprocess = self.artifact.preprocess
        encoded = preprocess.encode_rows(samples)
        if not self.request.skip_bad:
            check_none_bad(samples, encoded.bad)
        self.filled.update(encoded.filled)
        return encoded.x, encoded.bad

    def said(self, samples: Table, column: str) -> Sequence[str] | None:
        return texts_of(samples.columns[column]).tolist() if column in samples.columns.column_names else None

    def explained(
        self, samples: Table, encoded: Encoded, place: int, measured: RowErrors, row: int
    ) -> Mapping[str, Any]:
        rebuilt, errors = measured.rebuilt.x[row].cpu(), measured.errors[row].cpu()
        return {"cells": tuple(self.artifact.preprocess.cells(samples, place, rebuilt, errors / errors.numel()))}
