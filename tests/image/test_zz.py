"""Images whose size is far from the training images are refused, and none that training itself has seen."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from memae import Detector
from memae.errors import DataError


BRIEF = {"train": {"epochs": 1}, "memory": {"num_items": 8}}


def write(path: Path, *sizes: tuple[int, int]) -> Path:
    """Images of these sizes (width, height) px in a folder."""
    path.mkdir()
    generator = np.random.default_rng(0)
    for number, (width, height) in enumerate(sizes):
        pixels = generator.integers(60, 200, (height, width), dtype=np.uint8)
        Image.fromarray(pixels).save(path / f"{number:02}-{width}x{height}.png")
    return path


def fit(path: Path, **image: Any) -> Detector:
    return Detector(settings={**BRIEF, "image": image} if image else BRIEF).fit(path)


@pytest.fixture(scope="module")
def square(tmp_path_factory: pytest.TempPathFactory) -> Detector:
    return fit(write(tmp_path_factory.mktemp("square") / "train", *[(48, 48)] * 24))


@pytest.mark.parametrize(
    ("size", "why"),
    [
        ((8, 8), "it is 8 x 8 px, and the model sees 48 x 48 px: enlarged 6 times"),
        ((40, 1200), "it is 40 x 1200 px, and the model sees 48 x 48 px: stretched 30 times"),
        ((1200, 40), "it is 1200 x 40 px, and the model sees 48 x 48 px: stretched 30 times"),
        ((1, 1), "it is 1 x 1 px, and the model sees 48 x 48 px: enlarged 48 times"),
    ],
)
def test_an_image_of_a_size_far_from_training_is_refused_or_left_out(
    square: Detector, tmp_path: Path, size: tuple[int, int], why: str
) -> None:
    folder = write(tmp_path / "odd", (48, 48), size)
    with pytest.raises(DataError, match=rf"01-.*\.png: not an image for this model .{why}.*`skip_bad=True`"):
        square.score(folder)
    scores = square.score(folder, skip_bad=True)
    assert np.isnan(scores.values).tolist() == [False, True]
    assert f"is not an image for this model ({why}" in scores.skipped[0].reason
    assert not list(square.detect(folder, skip_bad=True))[1].is_anomaly


@pytest.mark.parametrize("size", [(12, 12), (24, 48), (96, 48), (4800, 4800), (30, 20)])
def test_an_image_of_a_size_near_enough_is_scored(square: Detector, tmp_path: Path, size: tuple[int, int]) -> None:
    assert np.isfinite(square.score(write(tmp_path / "odd", size)).values).all()


def test_what_training_has_seen_is_scored(tmp_path: Path) -> None:
    folder = write(tmp_path / "train", *[(48, 48)] * 20, (6, 6), (20, 100), (100, 20), (48, 48))
    detector = fit(folder)

    assert np.isfinite(detector.score(folder).values).all()
    detector.save(tmp_path / "model")
    with pytest.raises(DataError, match="stretched 6 times"):
        Detector.load(tmp_path / "model").score(write(tmp_path / "odd", (20, 120)))


def test_an_image_much_smaller_than_a_tile_is_refused(tmp_path: Path) -> None:
    detector = fit(write(tmp_path / "train", *[(96, 80)] * 24), tile_px=64)
    assert np.isfinite(detector.score(write(tmp_path / "long", (20, 900))).values).all()
    with pytest.raises(DataError, match="it is 8 x 300 px, and the model sees 64 x 64 px: enlarged 8 times"):
        detector.score(write(tmp_path / "odd", (8, 300)))
