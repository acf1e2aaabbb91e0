"""Masks of every kind that Pillow reads."""

import ast
import io
import struct
import sys
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from memae.datasets import cifar10
from memae.errors import DataError
from memae.files.image import UnreadableError, open_image, read_bright, read_values
from memae.image.decode import read_original, read_pixels
from memae.image.source import ImageSource
from memae.video.frame_folder import FrameFolder

ROOT = Path(__file__).parents[2]
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


def png(width: int, height: int) -> bytes:
    """A black PNG of 1 bit a px, written row by row."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    packed, row = zlib.compressobj(), bytes(1 + -(-width // 8))
    rows = b"".join(packed.compress(row) for _ in range(height)) + packed.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("width", "height"), [(50_000_000, 1), (1, 100_000), (9_000, 8_000)], ids=["wide", "high", "large"]
)
def test_an_image_beyond_the_limits_is_refused_before_it_is_decoded(
    tmp_path: Path, width: int, height: int
) -> None:
    (tmp_path / "a.png").write_bytes(png(width, height))
    for read in (read_values, lambda path: read_pixels(path, 3), lambda path: read_pixels(path, 1, (8, 8))):
        with pytest.raises(
            UnreadableError, match=f"too large to be opened safely: {width:,} x {height:,} px, and"
        ):
            read(tmp_path / "a.png")


def test_an_image_without_memory_for_it_is_unreadable(
    saved: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", no_memory)
    with pytest.raises(UnreadableError, match="there is no memory left for it"):
        read_pixels(saved(VALUES), 1)


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.fixture
def ghostscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a program called gs says that it has run."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    (tmp_path / "bin" / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/bin:/usr/bin")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)
    return tmp_path / "ran"


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script is no program there")
def test_an_image_that_is_a_program_is_not_run(
    tmp_path: Path, ghostscript: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with suppress(OSError), Image.open(io.BytesIO(EPS)) as image:
        image.load()
    assert ghostscript.exists()  # so this file would run it
    ghostscript.unlink()
    for name in ("frames/000.png", "cifar10/train_00.webp"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(EPS)
    (tmp_path / "cifar10" / "train_labels.csv").write_text("label\n0\n")
    monkeypatch.setenv("MEMAE_DATA", str(tmp_path))
    for read in (
        lambda: FrameFolder(tmp_path / "frames", 25.0),
        lambda: list(ImageSource([tmp_path / "frames"]).chunks(1)),
        lambda: cifar10("train"),
    ):
        with pytest.raises(DataError):
            read()
    for reading in (read_values, partial(read_bright, lossy_black=0), read_original):
        with pytest.raises(UnreadableError, match="it is a text file"):
            reading(tmp_path / "frames" / "000.png")
    assert not ghostscript.exists()


def test_every_image_is_opened_as_one_of_the_formats_that_are_named() -> None:
    calls = [
        (file, node)
        for folder in ("src", "experiments", "benchmarks")
        for file in sorted((ROOT / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Image.open"
    ]
    assert calls
    for file, call in calls:
        assert "formats" in [keyword.arg for keyword in call.keywords], f"{file}:{call.lineno}"
