import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from memae.errors import DataError
from memae.video.masks import Mask, read_mask


def saved(tmp_path: Path, picture: Image.Image | np.ndarray, name: str = "mask.png") -> Path:
    if not isinstance(picture, Image.Image):
        picture = Image.fromarray(np.asarray(picture, dtype=np.uint8))
    picture.save(tmp_path / name)
    return tmp_path / name


def polygons(
    tmp_path: Path, exclude: list[list[list[int]]], width: int = 40, height: int = 20, **other: Any
) -> Path:
    path = tmp_path / "mask.json"
    path.write_text(json.dumps({"width": width, "height": height, "exclude": exclude, **other}))
    return path


TOP_BLACK = np.repeat([[0], [255]], 10, axis=0) * np.ones((1, 40))


class TestMask:
    def test_black_is_excluded_at_any_size(self, tmp_path: Path) -> None:
        mask = read_mask(saved(tmp_path, TOP_BLACK))
        for height, width in [(2, 4), (4, 3), (20, 40), (50, 64)]:
            watched = mask.watched(height, width)
            assert watched.shape == (height, width)
            assert not watched[: height // 2].any() and watched[height // 2 :].all()

    def test_a_place_is_watched_when_half_of_it_is(self) -> None:
        grid = np.ones((1, 12), dtype=bool)
        grid[0, :2] = grid[0, 4:7] = False  # half of the first place, three quarters of the second
        assert Mask("m", grid).watched(1, 3).tolist() == [[True, False, True]]

    def test_a_place_may_span_fractions_of_px(self) -> None:
        grid = np.array([[True, False, True, False, False]])
        assert Mask("m", grid).watched(1, 2).tolist() == [[True, False]]  # 1.5 of 2.5 px, and 0.5 of 2.5

    @pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "LA", "I;16"])
    def test_every_kind_of_image_is_read(self, tmp_path: Path, mode: str) -> None:
        grey = TOP_BLACK.astype(np.uint16) if mode == "I;16" else TOP_BLACK.astype(np.uint8)
        picture = Image.fromarray(grey)
        path = saved(tmp_path, picture if mode == "I;16" else picture.convert(mode))
        assert (read_mask(path).grid == (TOP_BLACK > 0)).all()

    def test_labels_of_0_and_1_are_read_as_they_are_meant(self, tmp_path: Path) -> None:
        assert (read_mask(saved(tmp_path, TOP_BLACK // 255)).grid == (TOP_BLACK > 0)).all()

    def test_a_jpeg_is_read_though_its_black_is_not_quite_black(self, tmp_path: Path) -> None:
        grey = np.kron(np.random.default_rng(0).integers(0, 2, (4, 6)) * 255, np.ones((13, 13)))
        mask = read_mask(saved(tmp_path, grey, "mask.jpg"))
        assert (mask.watched(4, 6) == (grey[::13, ::13] > 0)).all()

    def test_what_is_transparent_is_watched(self, tmp_path: Path) -> None:
        layer = Image.new("RGBA", (40, 20), (0, 0, 0, 0))
        layer.paste((0, 0, 0, 255), (0, 0, 40, 10))
        assert (read_mask(saved(tmp_path, layer)).grid == (TOP_BLACK > 0)).all()

    def test_polygons_exclude_the_px_inside(self, tmp_path: Path) -> None:
        path = polygons(tmp_path, [[[0, 0], [10, 0], [10, 20], [0, 20]], [[30, 5], [35, 5], [35, 10], [30, 10]]])
        expected = np.ones((20, 40), dtype=bool)
        expected[:, :10] = expected[5:10, 30:35] = False
        assert (read_mask(path).grid == expected).all()

    def test_a_triangle_excludes_its_half(self, tmp_path: Path) -> None:
        grid = read_mask(polygons(tmp_path, [[[0, 0], [40, 0], [0, 20]]])).grid
        assert not grid[2, 2] and grid[17, 37]
        assert grid.mean() == pytest.approx(0.5, abs=0.03)

    def test_a_polygon_may_be_hollow_on_one_side(self, tmp_path: Path) -> None:
        grid = read_mask(polygons(tmp_path, [[[0, 0], [30, 0], [30, 4], [10, 4], [10, 20], [0, 20]]])).grid
        expected = np.ones((20, 40), dtype=bool)
        expected[:4, :30] = expected[:, :10] = False
        assert (grid == expected).all()

    def test_polygons_may_leave_the_picture_and_may_be_none(self, tmp_path: Path) -> None:
        assert read_mask(polygons(tmp_path, [])).grid.all()
        assert not read_mask(polygons(tmp_path, [[[-50, -50], [90, -50], [90, 10], [-50, 10]]])).grid[:10].any()

    def test_its_aspect_must_be_that_of_the_video(self, tmp_path: Path) -> None:
        mask = read_mask(saved(tmp_path, TOP_BLACK))
        mask.check_aspect(height=180, width=361)
        with pytest.raises(DataError, match=r"mask.png: the mask is 40 x 20 px and the video 640 x 480 .*draw it"):
            mask.check_aspect(height=480, width=640)

    def test_all_excluded_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"mask.png: excludes the whole picture; leave white"):
            read_mask(saved(tmp_path, np.zeros((4, 4))))
        with pytest.raises(DataError, match=r"mask.json: excludes the whole picture"):
            read_mask(polygons(tmp_path, [[[0, 0], [40, 0], [40, 20], [0, 20]]]))

    def test_too_little_left_for_the_places_of_the_map_is_an_error(self) -> None:
        grid = np.zeros((10, 10), dtype=bool)
        grid[5, 5] = True
        with pytest.raises(DataError, match=r"m.png: leaves no place to watch on the 2 x 3 places"):
            Mask("m.png", grid).watched(3, 2)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("{", "Invalid JSON: EOF while parsing"),
            ("[]", 'Input should be an object; give {"width": ..., "height": ..., "exclude": [polygon, ...]}'),
            ('{"width": 4, "height": 4}', "Field required, at exclude; give"),
            ('{"exclude": [], "height": 4}', "Field required, at width; give"),
            ('{"exclude": [], "width": true, "height": 4}', "Input should be a valid integer, at width; give"),
            ('{"exclude": [], "width": 4, "height": -1}', "Input should be greater than 0, at height; give"),
            (
                '{"exclude": [[[0, 0], [1, 1]]], "width": 4, "height": 4}',
                "List should have at least 3 items after validation, not 2, at exclude 0; give",
            ),
            ('{"exclude": [[0, 0, 1]], "width": 4, "height": 4}', "Input should be a valid array, at exclude 0 0"),
            (
                '{"exclude": [[[0, 0], [1, NaN], [2, 2]]], "width": 4, "height": 4}',
                "Input should be a finite number, at exclude 0 1 1",
            ),
        ],
    )
    def test_bad_json_is_named(self, tmp_path: Path, content: str, message: str) -> None:
        path = tmp_path / "bad.json"
        path.write_text(content)
        with pytest.raises(DataError) as caught:
            read_mask(path)
        assert str(caught.value).startswith(f"{path}: ") and message in str(caught.value)

    @pytest.mark.parametrize("name", ["bad.png", "bad.jpg"])
    def test_an_unreadable_file_is_named(self, tmp_path: Path, name: str) -> None:
        path = tmp_path / name
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(30))
        with pytest.raises(DataError, match=rf"{name}: cannot read this mask"):
            read_mask(path)

    @pytest.mark.parametrize("name", ["missing.png", "missing.json"])
    def test_a_missing_file_is_named(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(DataError, match=rf"{name}: no such mask; check the path"):
            read_mask(tmp_path / name)

    def test_a_cut_png_is_named(self, tmp_path: Path) -> None:
        path = saved(tmp_path, np.random.default_rng(0).integers(0, 255, (64, 64)))
        path.write_bytes(path.read_bytes()[:900])
        with pytest.raises(DataError, match=r"mask.png: cannot read this mask as an image"):
            read_mask(path)
