"""Features by an ONNX file of the user's: small networks exported here, and what is said of files that do not suit."""

from __future__ import annotations

import copy
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from memae import Detector
from memae.errors import ArtifactError, ConfigError, MissingExtraError
from memae.image.backbone import joined
from memae.image.onnx_backbone import DEVIATION, MEAN, OnnxFeatures, stored_backbone

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

SIDE, ITEMS = 96, 40


class Pyramid(nn.Module):
    """Two maps of random filters, and a vector."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(channels, 12, 9, 8, 4), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(12, 20, 3, 2, 1), nn.ReLU())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        fine = self.first(x)
        coarse = self.second(fine)
        return fine, coarse, coarse.mean(dim=(2, 3))


def export(path: Path, network: nn.Module, names: list[str], *, fixed: bool = False) -> Path:
    batch, height, width = (torch.export.Dim(name, min=1, max=4096) for name in ("batch", "height", "width"))
    example = torch.zeros(1 if fixed else 2, 3, 64, 64)
    shapes = None if fixed else ({0: batch, 2: height, 3: width},)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about itself
        program = torch.onnx.export(
            network.eval(), (example,), output_names=names, dynamic_shapes=shapes, dynamo=True, verbose=False
        )
        assert program is not None
        program.save(path)
    return path


@pytest.fixture(scope="module")
def pyramid() -> Pyramid:
    torch.manual_seed(0)
    return Pyramid()


@pytest.fixture(scope="module")
def file(pyramid: Pyramid, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tmp_path_factory.mktemp("onnx") / "pyramid.onnx", pyramid, ["fine", "coarse", "vector"])


def textures(count: int, seed: int, spot: bool = False) -> np.ndarray:
    """(S, 96, 96) uint8 stripes of any phase, with a dark spot in rows and columns 60 to 75."""
    generator = np.random.default_rng(seed)
    phase = generator.uniform(0, 2 * np.pi, (count, 1, 1))
    stripes = 128 + 50 * np.sin(np.arange(SIDE)[None, None] / 3 + phase)
    images = (stripes + generator.normal(0, 4, (count, SIDE, SIDE))).clip(0, 255).astype(np.uint8)
    if spot:
        images[:, 60:76, 60:76] = 20
    return images


def detector(path: Path, **image: Any) -> Detector:
    settings = {
        "memory": {"num_items": ITEMS},
        "threshold": {"false_alarm_rate": 0.2},
        "image": {"backbone": str(path), **image},
    }
    return Detector(settings=settings, device="cpu")


@pytest.fixture(scope="module")
def fitted(file: Path) -> Detector:
    return detector(file).fit(textures(30, 0))


def test_the_features_are_the_joined_maps_of_the_file(pyramid: Pyramid, file: Path) -> None:
    stored = stored_backbone(str(file), (), (3, 64, 80))
    assert stored.outputs == ("fine", "coarse") and stored.channels == 32
    features = OnnxFeatures(stored)
    features.load_file()
    x = torch.rand(3, 3, 64, 80)
    normed = (x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(DEVIATION)[:, None, None]
    with torch.no_grad():
        torch.testing.assert_close(features(x), joined(pyramid(normed)[:2]), rtol=1e-4, atol=1e-5)
    assert features(x[:, :1]).shape == (3, 32, 8, 10)
    torch.testing.assert_close(copy.deepcopy(features)(x), features(x))
    one_map = OnnxFeatures(stored_backbone(str(file), ["coarse"], (3, 64, 80)))
    one_map.load_file()
    assert one_map(x).shape == (3, 20, 4, 5)


def test_a_spot_is_found_by_a_model_that_holds_the_file(fitted: Detector, file: Path, tmp_path: Path) -> None:
    assert fitted.config.network == "features"
    normal, odd = textures(10, 1), textures(10, 1, spot=True)
    scores = fitted.score(odd).values
    assert scores.min() > fitted.score(normal).values.max()
    fitted.save(tmp_path / "model")
    moved = file.rename(file.with_name("elsewhere.onnx"))
    loaded = Detector.load(tmp_path / "model", device="cpu")
    moved.rename(file)
    assert np.array_equal(loaded.score(odd).values, scores)
    (found,) = loaded.explain(odd[:1])
    assert found.anomaly_map is not None
    row, column = np.unravel_index(int(found.anomaly_map.argmax()), found.anomaly_map.shape)
    assert 52 <= 4 * row < 84 and 52 <= 4 * column < 84


def test_a_network_of_one_size_and_one_image_at_a_time_gets_that(pyramid: Pyramid, tmp_path: Path) -> None:
    file = export(tmp_path / "fixed.onnx", pyramid, ["fine", "coarse", "vector"], fixed=True)
    features = OnnxFeatures(stored_backbone(str(file), (), (1, SIDE, SIDE)))
    features.load_file()
    x = torch.rand(3, 1, SIDE, SIDE)
    assert features(x).shape == (3, 32, 8, 8)
    torch.testing.assert_close(features(x)[1:2], features(x[1:2]))


def test_another_file_than_the_one_of_the_fit_is_refused(file: Path) -> None:
    stored = stored_backbone(str(file), (), (3, 64, 64))
    with pytest.raises(ConfigError, match="has changed during the fit"):
        OnnxFeatures(stored.model_copy(update={"sha256": "0" * 64})).load_file()
    with pytest.raises(ArtifactError, match="not the one it was fitted with"):
        OnnxFeatures(stored)(torch.rand(1, 3, 64, 64))  # no file was read


def test_files_that_do_not_suit_are_refused_before_any_work(file: Path, tmp_path: Path) -> None:
    broken, empty = tmp_path / "broken.onnx", tmp_path / "empty.onnx"
    broken.write_bytes(b"no network at all" * 100)
    empty.write_bytes(b"")
    vectors = export(tmp_path / "vectors.onnx", nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), ["vector"])
    for path, changes, why in (
        (tmp_path / "none.onnx", {}, r"none\.onnx'?: cannot be read \(No such file"),
        (tmp_path, {}, "cannot be read .Is a directory"),
        (empty, {}, "the file is empty"),
        (broken, {}, "onnxruntime cannot read it .*give one ONNX file"),
        (vectors, {}, r"needs outputs that are maps of four axes .*it has vector"),
        (file, {"backbone_outputs": ["vector"]}, "needs outputs that are maps"),
        (file, {"backbone_outputs": ["deep"]}, "'deep' is no output of the file; it has fine .*coarse"),
    ):
        with pytest.raises(ConfigError, match=why):
            detector(path, **changes).fit(textures(30, 0))


def test_a_network_that_learns_its_own_features_takes_no_file(file: Path) -> None:
    with pytest.raises(ConfigError, match=r"image.backbone: the network 'scene' learns its own features"):
        Detector("image", settings={"image": {"backbone": str(file)}}).fit(textures(30, 0))


def test_the_extra_is_named_where_it_is_missing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"image\.backbone needs the extra 'onnx'"):
        detector(file).fit(textures(30, 0))
