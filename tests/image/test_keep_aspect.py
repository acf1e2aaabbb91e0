"""Images that keep their shape: what lies beside them within the size of the network counts for nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import memae.image.prepare
from memae import Detector
from memae.errors import ConfigError
from memae.image import backbone
from memae.image.backbone import FrozenFeatures

ITEMS = 40


def write(path: Path, count: int, seed: int, spot: bool = False) -> Path:
    """Striped JPEG-like photographs in two shapes, upright and lying; with a dark spot in the middle."""
    path.mkdir()
    generator = np.random.default_rng(seed)
    for number in range(count):
        height, width = ((96, 48), (64, 112))[number % 2]
        stripes = 128 + 50 * np.sin(np.arange(width)[None] / 3 + generator.uniform(0, 6))
        pixels = stripes + generator.normal(0, 4, (height, width))
        if spot:
            pixels[height // 2 - 8 : height // 2 + 8, width // 2 - 8 : width // 2 + 8] = 20
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path / f"{number:02}.png")
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shapes")
    write(root / "train", 30, 0)
    write(root / "normal", 8, 1)
    write(root / "odd", 8, 2, spot=True)
    return root


@pytest.fixture(scope="module", autouse=True)
def published() -> Any:
    """The published weights, or random ones where the extra is missing."""
    with pytest.MonkeyPatch.context() as patch:
        if not backbone.weights_installed():
            patch.setattr(FrozenFeatures, "load_published", lambda self: None)
        yield


def fit(path: Any, engine: Any = "torch", **image: Any) -> Detector:
    settings = {"memory": {"num_items": ITEMS}, "threshold": {"false_alarm_rate": 0.2}}
    changes = {**settings, "image": {"keep_aspect": True, **image}}
    return Detector("features", settings=changes, device="cpu", engine=engine).fit(path)


@pytest.fixture(scope="module")
def fitted(data: Path) -> Detector:
    return fit(data / "train")


def test_the_size_has_room_for_every_shape_at_one_longest_side(fitted: Detector) -> None:
    assert fitted.preprocess.keep_aspect
    assert fitted.preprocess.shape == (1, 112, 112)


def test_defects_score_above_normal_images_of_both_shapes(fitted: Detector, data: Path) -> None:
    assert fitted.score(data / "odd").values.min() > fitted.score(data / "normal").values.max()


def test_an_explanation_is_of_the_image_alone(fitted: Detector, data: Path) -> None:
    for found in fitted.explain(data / "odd"):
        assert found.x is not None and found.error_map is not None and found.anomaly_map is not None
        shape = (112, 56) if int(str(found.key)[:2]) % 2 == 0 else (64, 112)
        assert found.x.shape[1:] == found.error_map.shape == shape
        assert found.anomaly_map.shape == (shape[0] // 4, shape[1] // 4)
        assert np.isfinite(found.x).all() and np.isfinite(found.error_map).all()
        assert found.score == pytest.approx(float(found.anomaly_map.max()), rel=1e-6)
        row, column = np.unravel_index(int(found.anomaly_map.argmax()), found.anomaly_map.shape)
        assert abs(4 * row - shape[0] / 2) < 20 and abs(4 * column - shape[1] / 2) < 20
        assert sum(use.weight for use in found.items) == pytest.approx(1, rel=1e-4)


def test_what_lies_beside_an_image_changes_no_score(fitted: Detector, data: Path) -> None:
    source = fitted.open(data / "odd")
    (images,) = source.chunks(1 << 62)
    assert images.sizes is not None
    x = fitted.preprocess.encode(images)
    empty = torch.isnan(x)
    assert [int((~one[0]).sum()) for one in empty] == [int(h * w) for h, w in images.sizes.tolist()]
    images.pixels[empty.numpy()] = 255
    assert torch.equal(fitted.preprocess.encode(images).nan_to_num(7.0), x.nan_to_num(7.0))


def test_a_saved_model_keeps_shapes_too(fitted: Detector, data: Path, tmp_path: Path) -> None:
    scores = fitted.score(data / "odd").values
    fitted.save(tmp_path / "model")
    loaded = Detector.load(tmp_path / "model", device="cpu", engine="torch")
    assert np.array_equal(loaded.score(data / "odd").values, scores)


@pytest.mark.real  # OpenVINO takes ten seconds to convert the network
def test_both_engines_agree(fitted: Detector, data: Path, tmp_path: Path) -> None:
    fitted.save(tmp_path / "model")
    scores = fitted.score(data / "odd").values
    other = Detector.load(tmp_path / "model", device="cpu", engine="openvino")
    np.testing.assert_allclose(other.score(data / "odd").values, scores, rtol=1e-4)


def test_images_larger_than_memory_are_the_same(
    fitted: Detector, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memae.image.prepare, "MEMORY_BYTES", 1000)
    stored = fit(data / "train")
    np.testing.assert_allclose(stored.score(data / "odd").values, fitted.score(data / "odd").values, rtol=1e-5)


def test_arrays_have_one_shape_and_nothing_to_keep() -> None:
    x = np.random.default_rng(0).integers(0, 255, (30, 80, 80), dtype=np.uint8)
    detector = fit(x)
    assert not detector.preprocess.keep_aspect
    assert np.isfinite(detector.score(x[:2]).values).all()


def test_a_network_that_rebuilds_pixels_says_that_it_cannot(data: Path) -> None:
    settings = {"image": {"keep_aspect": True}, "train": {"epochs": 1}}
    with pytest.raises(ConfigError, match=r"image.keep_aspect = true: the network 'scene' .*'features'"):
        Detector("image", settings=settings).fit(data / "train")
    with pytest.raises(ConfigError, match="neither filters nor tiles"):
        Detector("features", settings={"image": {"keep_aspect": True, "tile_px": 64}})
