from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from memae.errors import ConfigError
from memae.image.maps import anomaly_map as heat
from memae.image.render import STEPS, check_maps_folder, map_path, save_map, save_mask, save_overlay
from memae.types import Box, Explanation, Region

GREY = np.full((60, 80, 3), 128, np.uint8)


def explanation(error_map: np.ndarray, x: np.ndarray | None = None) -> Explanation:
    return Explanation("a", 0.1, 0.5, x=x, reconstruction=x, error_map=error_map, anomaly_map=heat(error_map))


def drawn(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(int)


@pytest.fixture
def spot() -> np.ndarray:
    errors = np.zeros((30, 40), np.float32)
    errors[10:16, 20:26] = 4
    return errors


def test_heat_lies_where_the_error_is_and_the_rest_stays_as_it_is(tmp_path: Path, spot: np.ndarray) -> None:
    save_overlay(explanation(spot), 1.0, tmp_path / "deep" / "a.png", GREY)
    found = drawn(tmp_path / "deep" / "a.png")
    assert found.shape == GREY.shape
    hot = np.abs(found - 128).max(axis=2) > 20
    rows, columns = hot.nonzero()
    assert 16 <= rows.min() <= 22  # twice the size of the map
    assert 30 <= rows.max() <= 36
    assert 36 <= columns.min() <= 42
    assert 50 <= columns.max() <= 56
    assert np.array_equal(found[:10], GREY[:10])


def test_all_maps_have_one_scale(tmp_path: Path, spot: np.ndarray) -> None:
    for name, factor in (("weak", 0.1), ("hot", 1.0), ("hotter", 50.0)):
        save_overlay(explanation(spot * factor), 1.0, tmp_path / name, GREY)
    assert np.array_equal(drawn(tmp_path / "weak"), GREY)  # below half the threshold
    assert np.abs(drawn(tmp_path / "hot") - drawn(tmp_path / "hotter"))[25, 45].max() < 3  # twice it and above


def test_without_a_picture_it_is_drawn_on_what_the_network_saw(tmp_path: Path, spot: np.ndarray) -> None:
    x = np.linspace(-1, 1, 30 * 40, dtype=np.float32).reshape(1, 30, 40)
    save_overlay(explanation(np.zeros_like(spot), x), 1.0, tmp_path / "a.png")
    found = drawn(tmp_path / "a.png")
    assert found.shape == (30, 40, 3)
    assert (found.min(), found.max()) == (0, 255)


def test_heat_keeps_the_sum_of_the_error_and_takes_its_peaks(spot: np.ndarray) -> None:
    lone = np.zeros((128, 128))
    lone[64, 64] = 1
    assert heat(lone).sum() == pytest.approx(1)
    assert heat(lone).max() < 0.1
    both = np.stack([lone, lone.T * 2])
    assert np.allclose(heat(both)[1], 2 * heat(lone))  # each map for itself


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("a.png", "a.png.png"),
        ("a.jpg", "a.jpg.png"),
        ("left/deep/a.jpg", "left/deep/a.jpg.png"),
        ("/data/a.jpg", "data/a.jpg.png"),
        ("../up/a.jpg", "__/up/a.jpg.png"),
        (17, "17.png"),
    ],
)
def test_maps_keep_the_path_of_their_image(key: int | str, path: str) -> None:
    assert map_path(key) == Path(path)


def test_maps_among_images_are_refused(tmp_path: Path) -> None:
    (tmp_path / "images" / "deep").mkdir(parents=True)
    (tmp_path / "file").touch()
    for folder in ("images", "images/maps", "images/deep/maps"):
        with pytest.raises(ConfigError, match=r"lies in .*images, so the next run would take the maps for images"):
            check_maps_folder(tmp_path / folder, [str(tmp_path / "images")])
    with pytest.raises(ConfigError, match="file: is a file; name a folder"):
        check_maps_folder(tmp_path / "file", [])
    check_maps_folder(tmp_path / "maps", [str(tmp_path / "images")])


def test_an_anomaly_has_a_box_around_its_region(tmp_path: Path, spot: np.ndarray) -> None:
    found = replace(explanation(spot), regions=(Region(Box(20, 10, 26, 16), 36, 4.0),))
    save_overlay(found, 1.0, tmp_path / "a.png", GREY)
    save_overlay(explanation(spot), 1.0, tmp_path / "b.png", GREY)
    changed = (drawn(tmp_path / "a.png") != drawn(tmp_path / "b.png")).any(axis=2)
    rows, columns = changed.nonzero()
    assert 14 <= rows.min() <= 20 and 32 <= rows.max() <= 38 and 34 <= columns.min() <= 40 and columns.max() >= 52
    assert not changed[24:30, 44:50].any()


def test_a_map_is_16_bits_in_score_units_at_the_size_of_the_image(tmp_path: Path, spot: np.ndarray) -> None:
    found = explanation(spot)
    assert found.anomaly_map is not None
    save_map(found, 0.5, tmp_path / "a.png", GREY)
    with Image.open(tmp_path / "a.png") as image:
        texts = image.info
        values = np.asarray(image)
    assert values.dtype == np.uint16 and values.shape == GREY.shape[:2]
    assert "score units" in texts["unit"]
    assert (float(texts["threshold"]), float(texts["scale"])) == (0.5, 0.5 / STEPS)
    assert float(texts["maximum"]) == found.anomaly_map.max()
    exact = found.anomaly_map.repeat(2, axis=0).repeat(2, axis=1)  # the image is twice as large
    assert np.abs(values * float(texts["scale"]) - exact).max() <= 0.51 * float(texts["scale"])


def test_what_exceeds_16_bits_is_white_and_what_is_no_number_black(tmp_path: Path, spot: np.ndarray) -> None:
    values = spot * 1e6
    values[0, 0] = np.nan
    save_map(replace(explanation(spot), anomaly_map=values, x=spot[None]), 1.0, tmp_path / "a.png")
    found = drawn(tmp_path / "a.png")
    assert found.shape == spot.shape
    assert (found[0, 0], found[12, 22], found[29, 39]) == (0, 65_535, 0)


def test_a_mask_is_white_in_the_regions_alone(tmp_path: Path, spot: np.ndarray) -> None:
    found = replace(explanation(spot), anomaly_map=spot)
    save_mask(found, 1.0, tmp_path / "a.png", np.zeros((75, 100, 3), np.uint8))
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "L"
        mask = np.asarray(image)
    assert mask.shape == (75, 100)
    assert set(np.unique(mask)) == {0, 255}
    rows, columns = (mask == 255).nonzero()
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (25, 39, 50, 64)  # 2.5 times 10:16 and 20:26


def test_a_tile_says_nothing_of_the_size_of_its_image(tmp_path: Path, spot: np.ndarray) -> None:
    tile = replace(explanation(spot, spot[None, :8, :8]), anomaly_map=spot, tile_at=(8, 16))
    save_mask(tile, 1.0, tmp_path / "a.png")
    assert drawn(tmp_path / "a.png").shape == spot.shape
