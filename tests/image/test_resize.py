"""The resizing of images as a graph: what Pillow computes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from memae.image.decode import read_pixels
from memae.image.resize import luma, resized

SIZE = (24, 31)


def picture(height: int, width: int) -> np.ndarray:
    """(H, W, 3) uint8."""
    noise = np.random.default_rng(height * width).normal(0, 25, (height, width, 3))
    wave = 120 + 90 * np.sin(np.arange(width) / 4)[:, None] * np.cos(np.arange(height) / 6)[:, None, None]
    return (wave + noise).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("size", [SIZE, (48, 62), (97, 113), (24, 90), (11, 13), (60, 20), (1, 1)])
def test_an_image_of_any_size_becomes_what_the_library_reads(size: tuple[int, int], tmp_path: Path) -> None:
    pixels, path = picture(*size), tmp_path / "one.png"
    Image.fromarray(pixels).save(path)
    wanted = read_pixels(path, 3, SIZE).astype(np.float32)
    found = resized(torch.from_numpy(pixels.transpose(2, 0, 1)[None]).float(), *SIZE, whole=True)[0].numpy()
    away = np.abs(found - wanted)
    assert away.max() <= 1  # a level, where a half is rounded or Pillow takes the other direction first
    if size[0] > SIZE[0] and size[1] > SIZE[1]:
        assert (away > 0).mean() < 0.002
    if size == SIZE:
        assert not away.any()


def test_fractions_are_kept_where_levels_are_not_whole() -> None:
    pixels = np.random.default_rng(0).random((60, 50), dtype=np.float32)
    wanted = Image.fromarray(pixels).resize(SIZE[::-1], Image.Resampling.HAMMING)
    found = resized(torch.from_numpy(pixels[None, None]), *SIZE, whole=False)[0, 0].numpy()
    np.testing.assert_allclose(found, np.asarray(wanted), atol=1e-6)


def test_grey_of_colour_is_what_pillow_makes_of_it() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    found = luma(torch.from_numpy(pixels.transpose(2, 0, 1)[None]).float())[0, 0].numpy()
    assert np.array_equal(found, np.asarray(Image.fromarray(pixels).convert("L"), dtype=np.float32))
