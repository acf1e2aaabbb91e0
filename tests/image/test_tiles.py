from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from memae.errors import DataError
from memae.image.arrays import Images
from memae.image.preprocess import ImagePreprocess, levels_of
from memae.image.source import ImageSource
from memae.image.tiles import Tiles, Tiling, store_own_size
from memae.modality import open_source

SIZES = [
    (64, 64, 64, 16),
    (65, 64, 64, 16),
    (200, 131, 48, 12),
    (97, 40, 48, 0),
    (20, 30, 48, 12),
    (150, 90, 33, 32),
]


@pytest.mark.parametrize(("height", "width", "tile", "overlap"), SIZES)
def test_tiles_cover_an_image_from_edge_to_edge(height: int, width: int, tile: int, overlap: int) -> None:
    tiling = Tiling(height, width, tile, overlap)
    covered = np.zeros(tiling.empty().shape, int)
    for row, column in tiling.places:
        assert 0 <= row <= max(0, height - tile)
        assert 0 <= column <= max(0, width - tile)
        covered[row : row + tile, column : column + tile] += 1
    assert covered.min() == 1
    rows = np.unique(tiling.places[:, 0])
    assert len(rows) == 1 or tile - np.diff(rows).max() >= overlap


@pytest.mark.parametrize(("height", "width", "tile", "overlap"), SIZES)
def test_a_constant_map_joins_to_itself(height: int, width: int, tile: int, overlap: int) -> None:
    tiling = Tiling(height, width, tile, overlap)
    joined = tiling.empty()
    for row, column in tiling.places:
        tiling.add(joined, row, column, np.full((tile, tile), 0.7, np.float32))
    assert tiling.trimmed(joined).shape == (height, width)
    assert tiling.trimmed(joined) == pytest.approx(0.7, rel=1e-5)


def test_maps_of_tiles_join_to_the_map_they_were_cut_from() -> None:
    wanted = np.random.default_rng(0).random((1, 150, 101)).astype(np.float32)
    tiling = Tiling(150, 101, 48, 12)
    joined = tiling.empty()
    for row, column in tiling.places:
        tiling.add(joined, row, column, tiling.cut(wanted, row, column)[0])
    assert np.allclose(joined, wanted[0], rtol=1e-5)


def test_tiles_that_disagree_leave_no_edge() -> None:
    """Where neighbours differ by 1, the joined map never steps by more than a fade over their overlap has to."""
    tiling = Tiling(48, 48 * 2 - 24, 48, 24)
    joined = tiling.empty()
    for value, (row, column) in enumerate(tiling.places):
        tiling.add(joined, row, column, np.full((48, 48), float(value), np.float32))
    steps = np.abs(np.diff(joined, axis=1))
    assert (joined.min(), joined.max()) == pytest.approx((0, 1))
    assert steps.max() < 2.5 / 24


def test_a_small_image_is_continued_by_reflection() -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(1, 3, 4)
    tiling = Tiling(3, 4, 6, 1)
    assert tiling.places.tolist() == [[0, 0]]
    tile = tiling.cut(pixels, 0, 0)[0]
    assert tile[:3, :4].tolist() == pixels[0].tolist()
    assert tile[3].tolist() == tile[1].tolist()
    assert tile[0].tolist() == [0, 1, 2, 3, 2, 1]


def test_the_tile_nearest_to_a_pixel_is_found() -> None:
    tiling = Tiling(100, 100, 40, 10)
    assert tiling.places[tiling.nearest(95, 20)].tolist() == [60, 0]


@pytest.mark.parametrize("scale", ["none", "unit", "centred", "shared"])
@pytest.mark.parametrize("deep", [False, True])
def test_an_image_of_one_tile_is_encoded_as_an_image(scale: Any, deep: bool) -> None:
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (11, 3, 32, 32)).astype(np.float32 if deep else np.uint8)
    images = Images(pixels, range(11), "the array")
    whole = ImagePreprocess.fit(images, scale)
    levels = np.stack([levels_of(image, "the array") for image in pixels])
    tiled = ImagePreprocess.fit_tiles(levels, 3, 32, 8, scale, "the array", deep=deep)
    assert (tiled.low, tiled.high) == (whole.low, whole.high)
    assert tiled.floor == pytest.approx(whole.floor, rel=1e-4)
    wanted = whole.encode(images)
    for image, x in zip(pixels, wanted, strict=True):
        assert torch.allclose(Tiles.of(image, tiled, "the array")[:][0], x, atol=1e-5)


def test_every_tile_is_scaled_by_the_brightness_of_its_whole_image() -> None:
    pixels = np.full((1, 32, 64), 40, np.uint8)
    pixels[..., 32:] = 200
    preprocess = ImagePreprocess.fit_tiles(levels_of(pixels, "")[None], 1, 32, 0, "unit", "", deep=False)
    dark, bright = Tiles.of(pixels, preprocess, "")[:]
    assert bright.mean() / dark.mean() == pytest.approx(5)
    assert torch.cat([dark, bright]).square().mean() == pytest.approx(1, rel=1e-4)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for place, (height, width) in enumerate([(40, 60), (33, 33), (100, 20), (64, 64)]):
        Image.fromarray(generator.integers(0, 256, (height, width), np.uint8)).save(tmp_path / f"{place}.png")
    return tmp_path


def test_images_of_several_sizes_are_stored_as_they_are(folder: Path) -> None:
    images, skipped = store_own_size(ImageSource([folder]).own_size())
    assert (len(images), skipped) == (4, ())
    for place, pixels in enumerate(images.images):
        wanted = np.asarray(Image.open(folder / f"{place}.png"))
        assert np.array_equal(pixels[0], wanted)
        assert images.levels[place] == pytest.approx(
            [wanted.min(), wanted.max(), wanted.mean(), np.square(wanted.astype(float)).mean()]
        )


def test_what_cannot_be_read_is_named_and_left_out_where_asked(folder: Path) -> None:
    (folder / "1.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"1\.png: not a readable image"):
        store_own_size(ImageSource([folder]).own_size())
    images, skipped = store_own_size(ImageSource([folder]).own_size().skipping())
    assert len(images) == 3
    assert [bad.key for bad in skipped] == ["1.png"]


def test_tiles_of_many_images_are_indexed_like_a_tensor(folder: Path) -> None:
    images, _ = store_own_size(ImageSource([folder]).own_size())
    preprocess = ImagePreprocess.fit_tiles(images.levels, 1, 32, 8, "unit", "", deep=False)
    tiles = images.tiles(preprocess, None, np.random.default_rng(0))
    alone = torch.cat([Tiles.of(pixels, preprocess, "")[:] for pixels in images.images])
    assert tiles.shape == alone.shape == (len(tiles), 1, 32, 32)
    assert torch.equal(tiles[:], alone)
    assert torch.equal(tiles[torch.tensor([5, 0])], alone[[5, 0]])
    assert torch.equal(tiles.to(torch.device("cpu"))[2:4], alone[2:4])


def test_some_tiles_of_each_image_are_drawn_by_the_seed(folder: Path) -> None:
    images, _ = store_own_size(ImageSource([folder]).own_size())
    preprocess = ImagePreprocess.fit_tiles(images.levels, 1, 32, 8, "unit", "", deep=False)
    drawn = [images.tiles(preprocess, 3, np.random.default_rng(seed)).places for seed in (0, 0, 1)]
    counts = np.bincount(drawn[0][:, 0])
    assert counts.max() == 3
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


def test_nan_is_refused_by_name() -> None:
    pixels = np.zeros((3, 40, 40), np.float32)
    pixels[1, 7, 7] = np.nan
    with pytest.raises(DataError, match="the array: image 1 holds NaN or infinite pixels"):
        store_own_size(open_source(pixels))
