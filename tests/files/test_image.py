"""Masks of every kind that Pillow reads."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from memae.files.image import UnreadableError, open_image, read_bright, read_values

VALUES = np.array([[0, 0, 1], [2, 255, 0]], np.uint8)


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    def save(image: Image.Image | np.ndarray, name: str = "mask.png", **options: Any) -> Path:
        image = image if isinstance(image, Image.Image) else Image.fromarray(image)
        image.save(tmp_path / name, **options)
        return tmp_path / name

    return save


def black_palette_entry() -> Image.Image:
    """Entry 0 is white and entry 1 black."""
    image = Image.fromarray(np.array([[0, 1, 1]], np.uint8)).convert("P")
    image.putdata([0, 1, 1])
    image.putpalette([255, 255, 255, 0, 0, 0])
    return image


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "I;16"])
def test_what_is_not_black_is_bright(saved: Callable[..., Path], mode: str) -> None:
    image = Image.fromarray(VALUES.astype(np.uint16)) if mode == "I;16" else Image.fromarray(VALUES).convert(mode)
    assert read_bright(saved(image), lossy_black=127).tolist() == (VALUES > 0).tolist()


def test_a_faint_value_of_16_bits_is_bright(saved: Callable[..., Path]) -> None:
    deep = np.array([[0, 1, 60_000]], np.uint16)
    assert read_bright(saved(deep), lossy_black=127).tolist() == [[False, True, True]]
    assert read_values(saved(deep)).tolist() == deep.tolist()


def test_of_a_palette_the_colours_are_bright_and_the_entries_are_values(saved: Callable[..., Path]) -> None:
    path = saved(black_palette_entry())
    assert read_bright(path, lossy_black=0).tolist() == [[True, False, False]]
    assert read_values(path).tolist() == [[0, 1, 1]]


@pytest.mark.parametrize("transparent", [False, True])
def test_transparent_black_is_what_is_asked_for(saved: Callable[..., Path], transparent: bool) -> None:
    path = saved(Image.new("RGBA", (2, 1), (0, 0, 0, 0)))
    assert read_bright(path, lossy_black=0, transparent=transparent).tolist() == [[transparent] * 2]
    assert read_values(path).tolist() == [[0, 0]]


@pytest.mark.parametrize(("grey", "black", "bright"), [(60, 127, False), (60, 16, True), (8, 16, False)])
def test_black_of_a_jpeg_has_a_limit(saved: Callable[..., Path], grey: int, black: int, bright: bool) -> None:
    path = saved(Image.new("L", (8, 8), grey), "mask.jpg")
    assert read_bright(path, lossy_black=black).all() == bright


def test_a_mask_is_turned_upright(saved: Callable[..., Path]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(
        np.kron(VALUES[:, :2] * 0 + [[255, 0], [255, 0]], np.ones((8, 8))).astype(np.uint8), "a.jpg", exif=exif
    )
    bright = read_bright(path, lossy_black=127)
    assert bright[:8].all() and not bright[8:].any()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"0,1,1\n", "it is a text file"),
        (b"PK\x03\x04\x00", "it is a zip archive; unpack it"),
        (b"%!PS-Adobe\x00", "it is none of PNG, JPEG, WebP, TIFF and BMP"),
    ],
)
def test_what_is_no_image_is_called_what_it_is(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.png").write_bytes(content)
    for read in (read_values, lambda path: read_bright(path, lossy_black=0)):
        with pytest.raises(UnreadableError, match=f"^{reason}$"):
            read(tmp_path / "a.png")


def test_a_missing_file_and_a_stack_are_refused(tmp_path: Path, saved: Callable[..., Path]) -> None:
    with pytest.raises(UnreadableError, match="no such file"), open_image(tmp_path / "none.png"):
        pass
    page = Image.fromarray(VALUES)
    with pytest.raises(UnreadableError, match="it holds several images; save each as a file of its own"):
        read_values(saved(page, "a.tif", save_all=True, append_images=[page]))
