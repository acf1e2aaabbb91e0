"""The data sets of the evidence, one registry. docs/add-your-own.md says how to add one."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np

from experiments import methods, video_methods
from experiments.protocols import images, kddcup, ped2, small_tables
from experiments.protocols.split import Judge, Metrics, Split

__all__ = ["DATA", "WHOLE", "ArrayData", "DataSet", "Outcome", "VideoData"]

WHOLE = ("all",)  # the parts of a data set that has none


@dataclass(frozen=True)
class Outcome:
    """One fit, scored and judged under every protocol of its data."""

    metrics: Metrics
    seconds: Mapping[str, float]
    """Of "fit", and of "score" over the test samples alone."""
    samples: Mapping[str, int]
    """In "fit" and "test", and the "anomalies" in the test."""
    stored: int | None
    settings: Mapping[str, Any]
    facts: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        """All of it but the settings, which belong to the cell; figures rounded."""
        found = asdict(self)
        del found["settings"]
        found["metrics"] = {
            protocol: {name: round(float(value), 6) for name, value in metrics.items()}
            for protocol, metrics in self.metrics.items()
        }
        found["seconds"] = {what: round(value, 3) for what, value in self.seconds.items()}
        return found


class DataSet(Protocol):
    """What a method can be run on."""

    @property
    def parts(self) -> tuple[str, ...]:
        """What is computed one by one, such as ten classes, and averaged."""

    @property
    def methods(self) -> Mapping[str, Any]:
        """The methods that fit this kind of data, by name."""

    def compute(self, method: str, part: str, seed: int) -> Outcome:
        """Fits, scores and judges one part with one seed."""


@dataclass(frozen=True)
class ArrayData:
    """Images or rows in memory."""

    split: Callable[[str, int], Split]
    """From the part and the seed."""
    judge: Judge
    parts: tuple[str, ...] = WHOLE
    methods: Mapping[str, methods.Method] = field(default_factory=lambda: methods.METHODS)

    def compute(self, method: str, part: str, seed: int) -> Outcome:
        """Fits, scores and judges; a score that is no number is an error, because no ranking holds it.

        Raises:
            ValueError: the method gave another number of scores than samples, or a score that is not finite.
        """
        split = self.split(part, seed)
        started = time.perf_counter()
        fitted = self.methods[method](split.fit, seed)
        fit_done = time.perf_counter()
        scores = _checked(fitted.score(split.test), len(split.test))
        fit_seconds = fit_done - started if fitted.fit_seconds is None else fitted.fit_seconds
        seconds = {"fit": fit_seconds, "score": time.perf_counter() - fit_done}
        return Outcome(
            metrics=self.judge(split, scores, lambda: _checked(fitted.score(split.fit), len(split.fit))),
            seconds=seconds,
            samples={"fit": len(split.fit), "test": len(split.test), "anomalies": int(split.labels.sum())},
            stored=fitted.stored,
            settings=fitted.settings,
            facts=fitted.facts,
        )


def _checked(scores: np.ndarray, count: int) -> np.ndarray:
    if scores.shape != (count,):
        raise ValueError(f"the method gave scores of shape {scores.shape} for {count} samples")
    if not np.isfinite(scores).all():
        raise ValueError(f"{int((~np.isfinite(scores)).sum())} of {count} scores are not finite")
    return scores


@dataclass(frozen=True)
class VideoData:
    """UCSD Ped2."""

    parts: tuple[str, ...] = WHOLE
    methods: Mapping[str, video_methods.VideoMethod] = field(default_factory=lambda: video_methods.METHODS)

    def compute(self, method: str, part: str, seed: int) -> Outcome:
        """Fits on the training videos, scores and judges the test videos; "score" is of protocol "served"."""
        videos = ped2.training()
        started = time.perf_counter()
        fitted = self.methods[method](videos, seed)
        fit_done = time.perf_counter()
        served = fitted.score(ped2.testing())
        seconds = {"fit": fit_done - started, "score": time.perf_counter() - fit_done}
        truth = ped2.labels()
        return Outcome(
            metrics=ped2.judge({"served": served, **fitted.more(ped2.testing())}, truth),
            seconds=seconds,
            samples={
                "fit": sum(len(list(folder.glob("*.jpg"))) for folder in ped2.videos("training")),
                "test": sum(map(len, truth.values())),
                "anomalies": sum(int(marks.sum()) for marks in truth.values()),
            },
            stored=fitted.stored,
            settings=fitted.settings,
            facts=fitted.facts,
        )


CLASSES = tuple(map(str, images.CLASSES))

DATA: dict[str, DataSet] = {
    "mnist": ArrayData(lambda part, seed: images.mnist(int(part), seed), images.judge, CLASSES),
    "cifar10": ArrayData(lambda part, seed: images.cifar10(int(part), seed), images.judge, CLASSES),
    "kddcup99": ArrayData(lambda part, seed: kddcup.paper(seed), kddcup.judge),
    "kddcup99-attacks": ArrayData(lambda part, seed: kddcup.attacks(seed), kddcup.judge_attacks),
    "ped2": VideoData(),
    "tables": ArrayData(small_tables.split, small_tables.judge, tuple(small_tables.TABLES), methods.TABLE_METHODS),
}
