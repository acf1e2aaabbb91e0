"""The interface of memories, proved by one that it has never seen: trained, scored, explained, saved and inspected."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import Field
from sklearn.datasets import load_breast_cancer, load_digits
from torch import Tensor
from typer.testing import CliRunner

from memae import Detector
from memae.cli import app
from memae.config import parse_words
from memae.errors import ConfigError
from memae.memory.base import LossTerm, MemoryRead, MemorySettings, register
from memae.memory.items import StoredItems
from tests.small_footage import BRIEF, INTRUDER, write_footage


class Nearest(StoredItems):
    """Each query becomes its nearest item, and items follow their queries as a moving average."""

    certifiable, learns_by_observing, directional = True, True, False

    def __init__(self, num_items: int, item_dim: int, decay: float) -> None:
        super().__init__(torch.randn(num_items, item_dim))
        self.decay = decay

    def read(self, queries: Tensor) -> MemoryRead:
        self.check_queries(queries)
        apart = torch.cdist(queries, self.items.expand(len(queries), -1, -1))
        distance, nearest = apart.min(dim=2)
        values = queries + (self.items[nearest] - queries).detach()  # the gradient passes straight through
        return MemoryRead(queries, values, self.items, lambda: (nearest, distance))

    def loss_terms(self, read: MemoryRead) -> tuple[LossTerm, ...]:
        return (LossTerm("commitment", 0.1, read.distance.square().mean()),)

    @torch.no_grad()
    def observe(self, read: MemoryRead, trusted: Tensor | None = None) -> int:
        nearest, queries = read.nearest.flatten(), read.queries.flatten(0, 1)
        counts = torch.bincount(nearest, minlength=self.num_items)[:, None]
        means = torch.zeros_like(self.items).index_add_(0, nearest, queries) / counts.clamp_min(1)
        seen = counts.squeeze(1) > 0
        self.items[seen] = self.decay * self.items[seen] + (1 - self.decay) * means[seen]
        return int(seen.sum())


class NearestSettings(MemorySettings):
    """The nearest item."""

    decay: float = Field(0.9, ge=0, le=1, description="share of the old item that a step keeps")

    def build(self, num_items: int, item_dim: int) -> Nearest:
        return Nearest(num_items, item_dim, self.decay)


register("nearest", NearestSettings)

SETTINGS = {
    "memory": {
        "kind": "nearest",
        "num_items": 9,
        "decay": 0.8,
        "initialisation": "data",
        "revive_epochs": 1,
        "trained": True,
    },
    "train": {"epochs": 12},
}


@pytest.fixture(scope="module", params=["image", "table"])
def data(request: pytest.FixtureRequest) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if request.param == "table":
        found = load_breast_cancer(as_frame=True)
        return found.data.iloc[:, :6][found.target == 1], found.data.iloc[:, :6], found.target == 0
    pixels, label = load_digits(return_X_y=True)
    images = pixels.reshape(-1, 8, 8).astype(np.uint8)
    return images[label == 1], images[:400], label[:400] != 1


@pytest.fixture(scope="module")
def trained(data: tuple[np.ndarray, np.ndarray, np.ndarray]) -> Detector:
    return Detector(settings=SETTINGS).fit(data[0])


def test_it_is_trained_and_finds_anomalies(
    trained: Detector, data: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> None:
    _, some, anomalous = data
    assert type(trained.model.memory) is Nearest
    assert trained.model.memory.decay == 0.8
    scores = trained.score(some).values
    assert scores[anomalous].mean() > 1.5 * scores[~anomalous].mean()
    assert trained.history.records[-1].loss < trained.history.records[0].loss
    health = trained.history.records[-1].memory
    assert health.items == 9
    assert health.items_per_query == 1
    assert 1 < health.items_used <= 9


def test_it_learns_by_observing_after_each_step(data: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    still, moved = (
        Detector(settings={**SETTINGS, "memory": SETTINGS["memory"] | {"decay": decay}}).fit(data[0])
        for decay in (1.0, 0.8)
    )
    changed = (still.model.memory.items != moved.model.memory.items).any(dim=1)
    assert changed.sum() > 1


def test_it_is_explained_by_its_nearest_item(
    trained: Detector, data: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> None:
    for one in trained.explain(data[1][:5]):
        assert sum(use.weight for use in one.items) == pytest.approx(1)
    items = trained.items()
    assert items.usage_counts.shape == (9,)
    decoded = items.rows if items.pictures is None else items.pictures
    assert decoded is not None
    assert len(decoded) == 9


def test_it_is_saved_loaded_and_inspected(
    trained: Detector, data: tuple[np.ndarray, np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    path = tmp_path / "toy.model"
    trained.save(path)
    loaded = Detector.load(path)
    assert loaded.config.memory == trained.config.memory
    config: Any = loaded.config
    assert config.memory.decay == 0.8
    assert np.array_equal(loaded.score(data[1]).values, trained.score(data[1]).values)
    shown = CliRunner().invoke(app, ["inspect", str(path), "--json"])
    assert shown.exit_code == 0, shown.output
    report = json.loads(shown.output)
    assert report["config"]["memory"]["kind"] == "nearest"
    assert report["items"]["usage_counts"] == trained.items().usage_counts.tolist()
    assert CliRunner().invoke(app, ["inspect", str(path)]).exit_code == 0


def test_a_key_of_another_family_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"memory\.temperature: unknown key"):
        Detector(settings={"memory": {"kind": "nearest", "temperature": 0.1}})


def test_it_is_read_at_every_position_of_clips(tmp_path: Path) -> None:
    settings = parse_words([*BRIEF, "memory.kind=nearest", "memory.initialisation=data"])
    folder = write_footage(tmp_path)
    detector = Detector(settings=settings).fit(folder / "normal")
    frames = detector.detect(folder / "clip.mp4", explained="all")
    scores = np.array([frame.score for frame in frames.explanations])
    assert scores[list(INTRUDER)].mean() > 1.5 * np.median(scores)
    assert all(sum(use.weight for use in one.items) == pytest.approx(1, abs=1e-5) for one in frames.explanations)
    assert detector.items().usage_counts.sum() > 0
