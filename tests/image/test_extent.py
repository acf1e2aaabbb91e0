"""Images whose size is far from the training images are told, or refused, and none that training itself has seen."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from memae import Detector
from memae.errors import DataError
from memae.image.extent import Extent, within

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


@pytest.mark.parametrize("size", [(24, 24), (24, 48), (96, 48), (96, 96), (36, 24)])
def test_an_image_of_a_size_near_enough_is_scored(square: Detector, tmp_path: Path, size: tuple[int, int]) -> None:
    assert np.isfinite(square.score(write(tmp_path / "odd", size)).values).all()


@pytest.mark.parametrize(
    ("size", "how"),
    [
        ((12, 12), "enlarged 4 times"),
        ((48, 144), "stretched 3 times in one direction"),
        ((480, 480), "shrunk 10 times"),
    ],
)
def test_an_image_that_is_a_little_far_is_scored_and_told_once(
    square: Detector, tmp_path: Path, size: tuple[int, int], how: str
) -> None:
    folder = write(tmp_path / "odd", (48, 48), size, size)
    with pytest.warns(UserWarning, match=rf"odd: 2 images are far .* the first is .*01-.*\.png .*{how}") as told:
        scores = square.score(folder)
    assert np.isfinite(scores.values).all() and len(told) == 1


def test_what_training_has_seen_is_scored(tmp_path: Path) -> None:
    folder = write(tmp_path / "train", *[(48, 48)] * 20, (6, 6), (20, 100), (100, 20), (48, 48))
    detector = fit(folder)
    assert detector.preprocess.extent == Extent(enlarged=8.0, stretched=5.0, shrunk=100 / 48)
    assert np.isfinite(detector.score(folder).values).all()
    detector.save(tmp_path / "model")
    with pytest.raises(DataError, match="stretched 6 times"):
        Detector.load(tmp_path / "model").score(write(tmp_path / "odd", (20, 120)))


def test_an_image_much_smaller_than_a_tile_is_refused(tmp_path: Path) -> None:
    detector = fit(write(tmp_path / "train", *[(96, 80)] * 24), tile_px=64)
    assert np.isfinite(detector.score(write(tmp_path / "long", (40, 900))).values).all()
    with pytest.raises(DataError, match="it is 8 x 300 px, and the model sees 64 x 64 px: enlarged 8 times"):
        detector.score(write(tmp_path / "odd", (8, 300)))


SEEN = (48, 64)


@pytest.mark.parametrize(
    ("size", "inside"),
    [
        ((48, 64), (48, 64)),
        ((480, 640), (48, 64)),
        ((100, 50), (48, 24)),
        ((50, 100), (32, 64)),
        ((1, 999), (1, 64)),
    ],
)
def test_an_image_in_its_own_shape_is_as_large_as_there_is_room_for(
    size: tuple[int, int], inside: tuple[int, int]
) -> None:
    assert within(SEEN, size) == inside


def test_where_shapes_are_kept_a_shape_unlike_any_of_the_training_is_told_and_a_line_refused() -> None:
    extent = Extent.of([(48, 64), (50, 25)], SEEN, "kept")
    assert extent.stretched == 1 and extent.shapes == (0.5, 64 / 48)
    assert extent.remark((50, 25), SEEN, "kept") is None
    assert "no training image was of such a shape" in str(extent.remark((48, 10), SEEN, "kept"))
    assert extent.misfit((48, 10), SEEN, "kept") is None
    assert "leaves 64 x 4 px of it" in str(extent.misfit((50, 900), SEEN, "kept"))
    assert extent.misfit((12, 16), SEEN, "kept") is None
    assert "enlarged 6 times" in str(extent.misfit((8, 8), SEEN, "kept"))


def test_a_model_of_before_tells_and_refuses_by_the_size_it_sees() -> None:
    assert Extent().remark((999, 999), (48, 48), "stretched") is None
    assert "stretched 8 times" in str(Extent().misfit((48, 384), (48, 48), "stretched"))
