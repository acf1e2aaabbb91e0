"""The JSON that the service answers with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import numpy as np
from pydantic import BaseModel, Field

from memae.detector import Detector
from memae.types import Cell, Explanation, Region, Verdict, Verdicts

__all__ = ["Answer", "ModelFacts", "Models", "Problem", "Ready", "answer", "problems"]


MAP_DIGITS = 6  # behind the point


class Problem(BaseModel):
    """Why a request got no answer, and the cure."""

    error: str


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """These answers of a route, for OpenAPI."""
    return {one: {"model": Problem, "description": HTTPStatus(one).phrase} for one in statuses}


class Ready(BaseModel):
    """The state of the service."""

    ready: bool


class ModelFacts(BaseModel):
    """One model that is served."""

    name: str
    kind: str = Field(description="Kind of data.")
    threshold: float = Field(description="A score above is an anomaly.")


class Models(BaseModel):
    """All models that are served."""

    models: list[ModelFacts]


class Place(BaseModel):
    """An anomalous place of an image, px of its own size; right and bottom are the first px outside."""

    left: int
    top: int
    right: int
    bottom: int
    area_px: int
    score: float


class ColumnError(BaseModel):
    """One column of a row, and its part of the score; null is a number that is missing."""

    column: str
    seen: float | str | None
    expected: float | str | None
    error: float


class Sample(BaseModel):
    """The decision on one sample."""

    key: int | str = Field(description="Name of the file, or number of the row, from 0.")
    score: float = Field(description="Higher is more anomalous.")
    p_value: float = Field(description="Share of normal samples that score at least as high.")
    is_anomaly: bool
    category: str | None = Field(None, description="Kind of normal, of a model that knows several.")
    regions: list[Place] | None = Field(None, description="Of an anomaly, where scores are of places.")
    columns: list[ColumnError] | None = Field(None, description="Largest error first; of rows that are explained.")
    map: list[list[float | None]] | None = Field(
        None,
        description="Errors of places, rows from the top, over the whole image; of images that are explained.",
    )


class Answer(BaseModel):
    """The decisions on all samples of a request, in their order."""

    model: str
    threshold: float
    map_threshold: float | None = Field(None, description="A place of a map above is anomalous.")
    samples: list[Sample]


def answer(model: str, detector: Detector, verdicts: Verdicts, names: Sequence[str] | None) -> Answer:
    """The answer to one request.

    Args:
        model: its name.
        detector: the model.
        verdicts: on the samples of the request.
        names: (S,) what the client calls them; None are numbers from 0.
    """
    why = {one.key: one for one in verdicts.explanations}
    places = verdicts.regions or {}
    samples = [
        _sample(names[number] if names else number, verdict, why.get(verdict.key), places.get(verdict.key))
        for number, verdict in enumerate(verdicts)
    ]
    level = detector.map_threshold if any(one.map for one in samples) else None
    return Answer(model=model, threshold=verdicts.threshold, map_threshold=level, samples=samples)


def _sample(key: int | str, verdict: Verdict, why: Explanation | None, found: Sequence[Region] | None) -> Sample:
    return Sample(
        key=key,
        score=verdict.score,
        p_value=verdict.p_value,
        is_anomaly=verdict.is_anomaly,
        category=verdict.category,
        regions=[_place(region) for region in found] if found is not None else None,
        columns=[_column(cell) for cell in why.cells] if why and why.cells else None,
        map=np.round(why.anomaly_map, MAP_DIGITS).tolist() if why and why.anomaly_map is not None else None,
    )


def _place(region: Region) -> Place:
    return Place(**region.box._asdict(), area_px=region.area_px, score=region.peak)


def _column(cell: Cell) -> ColumnError:
    return ColumnError(
        column=cell.column, seen=_plain(cell.seen), expected=_plain(cell.expected), error=cell.error
    )


def _plain(value: float | str) -> float | str | None:
    return None if isinstance(value, float) and not math.isfinite(value) else value
