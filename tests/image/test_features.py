"""The network `features`: a memory over frozen features, from images to scores, maps and a saved model."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from memae import Detector
from memae.errors import ConfigError
from memae.image import backbone
from memae.image.backbone import FrozenFeatures
from memae.modality import open_source
from memae.modality.settings import ChosenSettings
from memae.plots.figures import draw_items
from memae.report.rows import write_verdicts

SIDE, ITEMS = 96, 60


def textures(count: int, seed: int) -> np.ndarray:
    """(S, 96, 96) uint8: stripes of any phase."""
    generator = np.random.default_rng(seed)
    phase = generator.uniform(0, 2 * np.pi, (count, 1, 1))
    stripes = 128 + 50 * np.sin(np.arange(SIDE)[None, None] / 3 + phase)
    return (stripes + generator.normal(0, 4, (count, SIDE, SIDE))).clip(0, 255).astype(np.uint8)


def with_spots(images: np.ndarray) -> np.ndarray:
    """The same images with a dark spot in rows and columns 60 to 75."""
    spotted = images.copy()
    spotted[:, 60:76, 60:76] = 20
    return spotted


@pytest.fixture(scope="module")
def published() -> Any:
    """The published weights, or random ones where the extra is missing."""
    with pytest.MonkeyPatch.context() as patch:
        if not backbone.weights_installed():
            patch.setattr(FrozenFeatures, "load_published", lambda self: None)
        yield


@pytest.fixture(scope="module")
def fitted(published: Any) -> Detector:
    return detector().fit(textures(30, 0))


def detector(**changes: Any) -> Detector:
    settings = {"memory": {"num_items": ITEMS}, "threshold": {"false_alarm_rate": 0.2}} | changes
    return Detector("features", settings=settings, device="cpu", engine=changes.pop("engine", "torch"))


def test_a_spot_scores_above_every_normal_image(fitted: Detector) -> None:
    normal = textures(10, 1)
    assert fitted.score(with_spots(normal)).values.min() > fitted.score(normal).values.max()


def test_the_maximum_of_the_map_lies_in_the_spot(fitted: Detector) -> None:
    (found,) = fitted.explain(with_spots(textures(1, 2)))
    assert found.error_map is not None and found.error_map.shape == (SIDE, SIDE)
    assert found.anomaly_map is not None
    row, column = np.unravel_index(int(found.anomaly_map.argmax()), found.anomaly_map.shape)
    assert 48 <= 4 * row < 88 and 48 <= 4 * column < 88
    assert found.reconstruction is None and found.items
    assert found.score == pytest.approx(float(found.anomaly_map.max()))


def test_an_anomaly_has_the_regions_that_made_it_one_in_rows_and_in_explanations(
    fitted: Detector, tmp_path: Path
) -> None:
    x = np.concatenate([with_spots(textures(2, 2)), textures(2, 1)])
    (verdicts,) = fitted.stream(x)
    assert verdicts.regions is not None
    assert set(verdicts.regions) == set(np.flatnonzero(verdicts.is_anomaly).tolist()) >= {0, 1}
    for key, regions in verdicts.regions.items():
        assert isinstance(key, int) and regions[0].peak == pytest.approx(verdicts.scores[key])
        assert all(region.peak > fitted.threshold.value for region in regions)
    (left, top, right, bottom), area_px, _ = verdicts.regions[0][0]
    assert left < 68 < right and top < 68 < bottom and 16 * 4 <= area_px <= (right - left) * (bottom - top)
    explained = fitted.detect(x, explained="anomalies")
    assert explained.regions == verdicts.regions
    assert {found.key: found.regions for found in explained.explanations} == verdicts.regions


def test_boxes_are_in_px_of_the_file(fitted: Detector, tmp_path: Path) -> None:
    large = Image.fromarray(with_spots(textures(1, 2))[0]).resize((4 * SIDE, 2 * SIDE))
    large.save(tmp_path / "large.png")
    write_verdicts(fitted.stream(tmp_path), tmp_path / "rows.csv")
    write_verdicts(fitted.stream(tmp_path), tmp_path / "rows.jsonl")
    (row,) = csv.DictReader((tmp_path / "rows.csv").read_text(encoding="utf-8").splitlines())
    (same,) = map(json.loads, (tmp_path / "rows.jsonl").read_text().splitlines())
    first = json.loads(row["regions"])[0]
    assert first == same["regions"][0] and list(first) == ["left", "top", "right", "bottom", "area_px", "score"]
    assert (
        first["left"] < 4 * 68 < first["right"] <= 4 * SIDE and first["top"] < 2 * 68 < first["bottom"] <= 2 * SIDE
    )
    assert first["score"] == pytest.approx(float(row["score"]))


def test_a_saved_model_needs_no_published_weights_and_scores_the_same(
    fitted: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted.save(tmp_path / "model")
    monkeypatch.setattr(backbone, "PACKAGE", "no-such-package-is-installed")
    loaded = Detector.load(tmp_path / "model", device="cpu", engine="torch")
    x = with_spots(textures(3, 3))
    assert np.array_equal(loaded.score(x).values, fitted.score(x).values)


def test_the_same_seed_gives_the_same_model(fitted: Detector, published: Any) -> None:
    x = textures(4, 5)
    assert np.array_equal(detector().fit(textures(30, 0)).score(x).values, fitted.score(x).values)


def test_what_it_cannot_do_is_refused(published: Any) -> None:
    for changes, why in (
        ({"train": {"epochs": 3}}, "trains no weights"),
        ({"memory": {"enabled": False}}, "from memory items"),
        ({"memory": {"query": "whole"}}, "from memory items"),
    ):
        with pytest.raises(ConfigError, match=why):
            detector(**changes).fit(textures(30, 0))


def test_items_are_counted_and_shown_as_the_patches_of_training_images_nearest_to_them(
    fitted: Detector, tmp_path: Path
) -> None:
    items = fitted.items()
    assert items is not None and len(items.usage_counts) == ITEMS
    assert items.usage_counts.sum() > 0 and items.pictures is None
    pictures = items.sample_pictures
    assert pictures is not None and pictures.shape == (ITEMS, 1, 32, 32)
    stripes = pictures.astype(float)
    assert (
        stripes.mean(axis=2).std(axis=2) > 5 * stripes.mean(axis=3).std(axis=2)
    ).all()  # upright, as in training
    fitted.save(tmp_path / "model")
    loaded = Detector.load(tmp_path / "model", device="cpu").items()
    assert loaded is not None and loaded.sample_pictures is not None
    assert np.array_equal(loaded.sample_pictures, pictures)
    draw_items(items, tmp_path / "items.png")
    with Image.open(tmp_path / "items.png") as drawn:
        assert drawn.width > 500


def test_no_patch_is_kept_where_that_is_not_wanted(published: Any, tmp_path: Path) -> None:
    private = detector(memory={"keep_samples": False}).fit(textures(30, 0))
    private.save(tmp_path / "model")
    items = private.items()
    assert items is not None and items.samples is None
    assert not any("sample" in name for name in load_file(tmp_path / "model" / "model.safetensors"))


@pytest.mark.parametrize(
    ("settings", "network"),
    [
        ({}, "features"),
        ({"memory": {"num_items": 50}}, "features"),
        ({"train": {"epochs": 2}}, "scene"),
        ({"memory": {"enabled": False}}, "scene"),
        ({"image": {"tile_px": 64}}, "scene"),
    ],
)
def test_the_default_of_larger_images_is_features_unless_a_training_is_asked_for(
    settings: dict[str, Any], network: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_source(textures(2, 0), None, None)
    monkeypatch.setattr("memae.image.modality.weights_installed", lambda: True)
    assert ChosenSettings(None, settings).config("image", source).network == network
    monkeypatch.setattr("memae.image.modality.weights_installed", lambda: False)
    assert ChosenSettings(None, settings).config("image", source).network == "scene"


def test_no_normal_image_is_kept_back_for_a_training_that_there_is_not(fitted: Detector) -> None:
    samples = fitted.facts["samples"]
    assert samples["held_out"] == 0
    assert samples["training"] + samples["calibration"] == 30
