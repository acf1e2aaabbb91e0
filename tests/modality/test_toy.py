"""The seam to kinds of data, proved by one that the library has never seen: windows of a column of numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from pydantic import BaseModel, Field
from torch import Tensor
from typer.testing import CliRunner

from memae import Detector, modality
from memae.autoencoder import Autoencoder
from memae.cli import app
from memae.config import KindSettings
from memae.drift import looked_at
from memae.engine.batch_limit import BatchLimit
from memae.engine.scoring import SamplePredictor, Scorer, count_uses
from memae.errors import DataError
from memae.memory.build import memory_of
from memae.modality import Artifact, Description, Modality, Prepared, collect, registry
from memae.table.networks import fully_connected
from memae.table.scoring import row_errors
from memae.threshold import Threshold
from memae.training.split import counted, split


class SeriesConfig(KindSettings):
    """How a series is cut."""

    kind = "series"
    plural = "series"
    window: int = Field(16, ge=2, description="numbers in a window")


@dataclass(frozen=True)
class Windows:
    values: np.ndarray
    """(S, window)"""
    keys: Sequence[int]
    """(S,) where each begins"""
    origin: str
    unreadable: Mapping[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: np.ndarray) -> Windows:
        return Windows(self.values[rows], [self.keys[row] for row in rows.tolist()], self.origin)


@dataclass
class Series:
    values: np.ndarray
    origin: str
    window: int = 16
    modality: str = "series"

    def chunks(self, size: int) -> Iterator[Windows]:
        cut = np.lib.stride_tricks.sliding_window_view(self.values, self.window)
        for start in range(0, len(cut), size):
            part = cut[start : start + size]
            yield Windows(part, range(start, start + len(part)), self.origin)

    def labels(self, name: str) -> np.ndarray:
        raise DataError(f"{self.origin}: has no labels")

    def without(self, names: Sequence[str]) -> Series:
        raise DataError(f"{self.origin}: has no columns")


class Scale(BaseModel):
    """(x - middle) / spread of windows (S, window)."""

    window: int
    middle: float
    spread: float

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.window,)

    def encode(self, x: np.ndarray) -> Tensor:
        return torch.from_numpy((x - self.middle) / self.spread).float()


class WindowPredictor(SamplePredictor[Any]):
    def encode(self, samples: Windows) -> tuple[Tensor, Mapping[int, str]]:
        return self.artifact.preprocess.encode(samples.values), {}

    def explained(self, samples: Windows, encoded: Any, place: int, measured: Any, row: int) -> dict[str, Any]:
        return {"x": encoded[place].numpy(), "reconstruction": measured.rebuilt.x[row].numpy()}


class NormalWindows(NamedTuple):
    scores: np.ndarray
    item_shares: np.ndarray | None


class SeriesModality(Modality):
    name, unit, sample, this, files = "series", "windows", "window", "this is a series", ".series"
    Settings, Preprocess, networks = SeriesConfig, Scale, ("series",)

    def accepts(self, x: Any, wanted: bool) -> bool:
        return x.suffix == ".series" if isinstance(x, Path) else isinstance(x, np.ndarray) and x.ndim == 1

    def open(self, x: Any, preprocess: Any, *, origin: str, skip_bad: bool, **options: Any) -> Series:
        values = np.loadtxt(x) if isinstance(x, Path) else x
        if not np.isfinite(values).all():
            raise DataError(f"{origin}: number {np.isfinite(values).argmin()} is missing; fill the gap")
        return Series(values, origin, preprocess.window if preprocess else 16)

    def prepare(self, source: Any, config: Any, seed: int, options: Any, progress: Any) -> Prepared:
        windows = collect(replace(source, window=config.series.window)).values
        train, held_out, calibration = split(len(windows), config, seed, source.origin)
        seen = windows[train.numpy()]
        scale = Scale(window=windows.shape[1], middle=seen.mean(), spread=seen.std())
        parts = [scale.encode(windows[part.numpy()]) for part in (train, held_out, calibration)]
        sizes = counted(len(train), len(held_out), len(calibration))
        return Prepared(scale, parts[0], parts[0], parts[1], parts[2], sizes, source.origin)

    def preset(self, network: str, variant: str) -> dict[str, Any]:
        train = {"epochs": 60, "learning_rate": 3e-3, "reduction": "mean"}
        return {"network": network, "train": train, "memory": {"initialisation": "data", "shrinkage": 1.0}}

    def build(self, config: Any, shape: tuple[int, ...], samples: int | None = None) -> Autoencoder:
        widths = (shape[0], 32, 8)
        return Autoencoder(
            fully_connected(widths), memory_of(config, 8, 40, samples), fully_connected(widths[::-1])
        )

    def examine(self, artifact: Artifact, training: Any, progress: Any) -> Artifact:
        return replace(artifact, uses=count_uses(self._scorer(artifact), training, lambda *_: None))

    def normal_scores(self, artifact: Artifact, calibration: Any, progress: Any) -> NormalWindows:
        return NormalWindows(
            *self._scorer(artifact).scored(calibration, looked_at=looked_at(len(calibration), len(artifact.uses)))
        )

    def calibrate(self, artifact: Artifact, normal: Sequence[Any], groups: Any = None, *others: Any) -> Artifact:
        scores, rate = np.concatenate([part.scores for part in normal]), artifact.config.threshold.false_alarm_rate
        return replace(artifact, threshold=Threshold.fit(scores, rate, groups))

    def predict(self, artifact: Artifact, source: Any, request: Any, done: Any, progress: Any) -> Iterator[Any]:
        return WindowPredictor(artifact, self._scorer(artifact), request, done, progress).predictions(source)

    def decode_items(self, artifact: Artifact) -> tuple[None, list[dict[str, float | str]]]:
        rows = artifact.model.decoder(artifact.model.memory.items).detach()
        return None, [{str(place): float(value) for place, value in enumerate(row)} for row in rows]

    def describe(self, artifact: Artifact) -> Description:
        return Description(f"series, in windows of {artifact.preprocess.window} numbers")

    def _scorer(self, artifact: Artifact) -> Scorer[Any]:
        return Scorer(artifact.model, row_errors, BatchLimit("scoring"))


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    kinds = dict(registry._REGISTERED)
    modality.register("series", SeriesModality())
    yield
    registry._REGISTERED.clear()
    registry._REGISTERED.update(kinds)


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    """Normal numbers, and others with a step where no normal ones have it."""
    waves = np.sin(np.arange(900) / 3) + 0.05 * np.random.default_rng(0).standard_normal(900)
    mixed = waves[600:].copy()
    mixed[150:160] = 0.9
    return waves[:600], mixed


@pytest.fixture(scope="module")
def detector(data: Any) -> Detector:
    return Detector(settings={"series": {"window": 20}}).fit(data[0])


def test_it_is_fitted_scored_and_explained(detector: Detector, data: Any) -> None:
    verdicts = detector.detect(data[1], explained="all")
    touched = (np.arange(len(verdicts)) > 135) & (np.arange(len(verdicts)) < 158)
    assert verdicts.is_anomaly[touched].mean() > 0.9
    assert verdicts.is_anomaly[~touched].mean() < 0.1
    worst = max(verdicts.explanations, key=lambda one: one.score)
    assert worst.x.shape == worst.reconstruction.shape == (20,)
    assert sum(use.weight for use in worst.items) == pytest.approx(1)
    assert detector.items().usage_counts.sum() > 0


def test_it_is_saved_and_loaded(detector: Detector, data: Any, tmp_path: Path) -> None:
    detector.save(tmp_path / "model")
    loaded = Detector.load(tmp_path / "model")
    config: Any = loaded.config
    assert config.series.window == 20
    np.testing.assert_array_equal(loaded.score(data[1]).values, detector.score(data[1]).values)


def test_it_is_used_from_the_command_line(data: Any, tmp_path: Path) -> None:
    for name, values in zip(("normal", "mixed"), data, strict=True):
        np.savetxt(tmp_path / f"{name}.series", values)
    model, scores = str(tmp_path / "model"), tmp_path / "scores.csv"
    for words in (
        ["fit", str(tmp_path / "normal.series"), "--out", model, "--set", "series.window=20"],
        ["score", model, str(tmp_path / "mixed.series"), "--out", str(scores)],
    ):
        run = CliRunner().invoke(app, words)
        assert run.exit_code == 0, run.output
    assert len(scores.read_text().splitlines()) == 1 + 300 - 19
    shown = json.loads(CliRunner().invoke(app, ["inspect", model, "--json"]).output)
    assert shown["config"]["series"] == {"window": 20}


def test_it_gives_errors_of_its_own_and_refuses_what_it_has_not(detector: Detector, data: Any) -> None:
    with pytest.raises(DataError, match=r"the array: number 3 is missing; fill the gap"):
        detector.score(np.where(np.arange(600) == 3, np.nan, data[0]))
    with pytest.raises(DataError, match="which is for series"):
        detector.map_threshold
