import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
from PIL import Image, ImageCms

from memae.files.image import UnreadableError
from memae.image.decode import read_header, read_original, read_pixels

GREY = np.random.default_rng(0).integers(0, 256, (6, 8), dtype=np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (6, 8, 3), dtype=np.uint8)
SMOOTH = np.add.outer(np.arange(0, 120, 20), np.arange(0, 80, 10)).astype(np.uint8)
DEEP = np.linspace(0, 65535, 48).astype(np.uint16).reshape(6, 8)


def saved(path: Path, array: Image.Image | np.ndarray, **options: Any) -> Path:
    (array if isinstance(array, Image.Image) else Image.fromarray(array)).save(path, **options)
    return path


def tiff(array: np.ndarray, bits: int, kind: int) -> bytes:
    """A big-endian TIFF of an array (H, W)."""
    pixels = array.tobytes()
    tags = [(256, array.shape[1]), (257, array.shape[0]), (258, bits), (259, 1), (262, 1), (273, 8), (277, 1)]
    tags += [(278, array.shape[0]), (279, len(pixels)), (339, kind)]
    entries = b"".join(struct.pack(">HHII", tag, 4, 1, value) for tag, value in tags)
    return (
        b"MM\0*" + struct.pack(">I", 8 + len(pixels)) + pixels + struct.pack(">H", len(tags)) + entries + bytes(4)
    )


def png16(array: np.ndarray, kind: int) -> bytes:
    """A PNG of 16 bits a channel; kind 0 is grey, 2 RGB."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    header = struct.pack(">IIBBBBB", array.shape[1], array.shape[0], 16, kind, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize("name", ["a.png", "a.PNG", "a.tif", "a.TIFF", "a.bmp"])
@pytest.mark.parametrize("array", [GREY, COLOUR], ids=["grey", "colour"])
def test_formats_without_loss_come_back_exactly(tmp_path: Path, name: str, array: np.ndarray) -> None:
    path = saved(tmp_path / name, array)
    channels = 1 if array.ndim == 2 else 3
    header = read_header(path)
    assert (header.size, header.colour, header.deep) == ((6, 8), channels == 3, False)
    pixels = read_pixels(path, channels)
    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels, array[None] if channels == 1 else array.transpose(2, 0, 1))


@pytest.mark.parametrize(("name", "options"), [("a.jpg", {"quality": 95}), ("a.webp", {"quality": 95})])
def test_formats_with_loss_come_back_nearly(tmp_path: Path, name: str, options: dict[str, int]) -> None:
    pixels = read_pixels(saved(tmp_path / name, SMOOTH, **options), 1)
    assert np.abs(pixels[0].astype(int) - SMOOTH).max() < 8


def test_webp_without_loss_comes_back_exactly(tmp_path: Path) -> None:
    pixels = read_pixels(saved(tmp_path / "a.webp", COLOUR, lossless=True), 3)
    assert np.array_equal(pixels, COLOUR.transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("mode", "colour"), [("1", False), ("L", False), ("LA", False), ("P", True), ("RGB", True), ("RGBA", True)]
)
def test_modes_are_grey_or_colour(tmp_path: Path, mode: str, colour: bool) -> None:
    path = saved(tmp_path / "a.png", Image.fromarray(COLOUR).convert(mode))
    assert read_header(path).colour == colour
    for channels in (1, 3):
        assert read_pixels(path, channels).shape == (channels, 6, 8)


RAW_YCBCR = pytest.mark.skipif(int(PIL.__version__.split(".")[0]) < 13, reason="Pillow cannot read what it wrote")


@pytest.mark.parametrize(
    ("mode", "compression"),
    [("CMYK", "raw"), pytest.param("YCbCr", "raw", marks=RAW_YCBCR), ("YCbCr", "tiff_lzw"), ("LAB", "raw")],
)
def test_other_colours_are_read_as_rgb(tmp_path: Path, mode: str, compression: str) -> None:
    plain = Image.new("RGB", (8, 6), (200, 40, 30))
    image = plain.convert(mode) if mode != "LAB" else to_lab(plain)
    path = saved(tmp_path / "a.tif", image, compression=compression)
    assert read_header(path).colour
    assert np.abs(read_pixels(path, 3)[:, 0, 0].astype(int) - (200, 40, 30)).max() < 8


def to_lab(image: Image.Image) -> Image.Image:
    rgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    found = ImageCms.profileToProfile(image, rgb, lab, outputMode="LAB")
    assert found is not None
    return found


def test_alpha_is_dropped(tmp_path: Path) -> None:
    clear = Image.fromarray(COLOUR)
    clear.putalpha(0)
    assert np.array_equal(read_pixels(saved(tmp_path / "a.png", clear), 3), COLOUR.transpose(2, 0, 1))


def test_a_transparent_palette_is_read_without_a_warning(tmp_path: Path) -> None:
    palette = Image.fromarray(COLOUR).convert("P")
    path = saved(tmp_path / "a.png", palette, transparency=bytes(range(256)))
    assert np.array_equal(read_pixels(path, 3), np.asarray(palette.convert("RGB")).transpose(2, 0, 1))


def test_grey_that_is_asked_for_in_colour_is_three_times_the_same(tmp_path: Path) -> None:
    assert np.array_equal(read_pixels(saved(tmp_path / "a.png", GREY), 3), np.stack([GREY] * 3))


class TestDeepGrey:
    @pytest.mark.parametrize("name", ["a.png", "a.tif"])
    def test_16_bits_keep_all_of_their_steps(self, tmp_path: Path, name: str) -> None:
        path = saved(tmp_path / name, DEEP)
        assert read_header(path).deep
        assert not read_header(path).colour
        pixels = read_pixels(path, 1)
        assert pixels.dtype == np.float32
        assert np.allclose(pixels[0], DEEP / 257)
        assert (pixels.min(), pixels.max()) == (0, 255)

    def test_12_bits_in_16_are_not_cut_to_a_few_levels(self, tmp_path: Path) -> None:
        array = np.arange(48, dtype=np.uint16).reshape(6, 8) + 1000
        assert len(np.unique(read_pixels(saved(tmp_path / "a.png", array), 1))) == 48

    def test_big_endian_tiff(self, tmp_path: Path) -> None:
        (tmp_path / "a.tif").write_bytes(tiff(DEEP.astype(">u2"), 16, 1))
        assert np.allclose(read_pixels(tmp_path / "a.tif", 1)[0], DEEP / 257)

    def test_whole_numbers_of_32_bits_are_not_cut_off(self, tmp_path: Path) -> None:
        array = DEEP.astype(np.int32) * 3 - 5
        (tmp_path / "a.tif").write_bytes(tiff(array.astype(">i4"), 32, 2))
        assert np.allclose(read_pixels(tmp_path / "a.tif", 1)[0], array / 257, atol=1e-4)

    def test_fractions_stay_as_they_are(self, tmp_path: Path) -> None:
        array = (DEEP / 7e4 - 0.3).astype(np.float32)
        (tmp_path / "a.tif").write_bytes(tiff(array.astype(">f4"), 32, 3))
        assert np.array_equal(read_pixels(tmp_path / "a.tif", 1)[0], array)

    def test_nan_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "a.tif").write_bytes(tiff(np.full((6, 8), np.nan, ">f4"), 32, 3))
        with pytest.raises(UnreadableError, match="it holds NaN or infinite pixels"):
            read_pixels(tmp_path / "a.tif", 1)

    def test_colour_of_16_bits_is_read_by_its_upper_8(self, tmp_path: Path) -> None:
        array = np.random.default_rng(0).integers(0, 65536, (6, 8, 3))
        (tmp_path / "a.png").write_bytes(png16(array, 2))
        assert not read_header(tmp_path / "a.png").deep
        assert np.array_equal(read_pixels(tmp_path / "a.png", 3), (array >> 8).transpose(2, 0, 1))

    def test_they_are_resized_as_numbers(self, tmp_path: Path) -> None:
        array = np.full((12, 16), 12345, np.uint16)
        pixels = read_pixels(saved(tmp_path / "a.png", array), 3, (6, 8))
        assert pixels.shape == (3, 6, 8)
        assert np.allclose(pixels, 12345 / 257)

    def test_to_be_looked_at_they_span_all_greys(self, tmp_path: Path) -> None:
        array = np.linspace(1000, 2000, 48).astype(np.uint16).reshape(6, 8)
        shown = read_original(saved(tmp_path / "a.png", array))
        assert (shown.shape, shown.min(), shown.max()) == ((6, 8, 3), 0, 255)
        assert shown.dtype == np.uint8


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.webp"])
def test_images_are_turned_upright(tmp_path: Path, name: str, orientation: int) -> None:
    upright = np.zeros((64, 96), np.uint8)
    upright[:32, :48] = 250  # bright at the top left
    upright[:32, 48:] = 120
    stored = Image.fromarray(upright)
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    if orientation in undo:
        stored = stored.transpose(undo[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / name, stored, exif=exif)
    assert read_header(path).size == (64, 96)
    assert np.abs(read_pixels(path, 1)[0].astype(int) - upright).mean() < 3
    assert np.abs(read_original(path)[..., 0].astype(int) - upright).mean() < 3
    small = read_pixels(path, 1, (16, 24))[0]
    assert small.shape == (16, 24)
    assert np.abs(small.astype(int) - upright[2::4, 2::4]).mean() < 8


def test_broken_exif_is_no_broken_image(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", SMOOTH, exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff nonsense")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's word on it
        assert read_header(path).size == (6, 8)
        assert read_pixels(path, 1).shape == (1, 6, 8)


def test_a_jpeg_that_is_shrunk_a_lot_is_what_the_whole_of_it_shrinks_to(tmp_path: Path) -> None:
    array = np.kron(np.random.default_rng(0).integers(0, 256, (4, 5)), np.ones((200, 200))).astype(np.uint8)
    pixels = read_pixels(saved(tmp_path / "a.jpg", array, quality=95), 1, (4, 5))
    whole = np.asarray(Image.fromarray(array).resize((5, 4), Image.Resampling.HAMMING))
    assert np.abs(pixels[0].astype(int) - whole).max() < 8


def test_an_animation_is_its_first_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.webp"
    Image.fromarray(COLOUR).save(path, save_all=True, append_images=[Image.fromarray(COLOUR[::-1])], lossless=True)
    assert np.array_equal(read_pixels(path, 3), COLOUR.transpose(2, 0, 1))


def content(image: Image.Image, kind: str, **options: bool | list[Image.Image]) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        (b"", "the file is empty"),
        (b"PK\x03\x04\x14\x00", "it is a zip archive; unpack it"),
        (b"hello, world\n", "it is a text file"),
        (b"\x00\x01\x02\x03" * 50, "it is none of PNG, JPEG, WebP, TIFF and BMP"),
        (content(NOISE, "GIF"), "it is none of PNG, JPEG, WebP, TIFF and BMP"),
        (content(NOISE, "EPS"), "it is a text file|it is none of"),
        (content(NOISE, "PNG")[:900], "truncated|Truncated|broken"),
        (content(NOISE, "JPEG")[:900], "truncated|Truncated|broken"),
        (content(NOISE, "BMP")[:900], "truncated|Truncated|not enough"),
        (content(NOISE, "WEBP")[:900], "."),
        (content(NOISE, "TIFF")[:900], "."),
        (content(NOISE, "TIFF", save_all=True, append_images=[NOISE]), "it holds several images"),
        (png16(np.zeros((1, 1), np.uint16), 0).replace(b"\0\0\0\x01\0\0\0\x01", b"\0\0\xff\xff\0\0\xff\xff"), "."),
    ],
)
def test_what_is_no_image_is_refused_with_the_reason(tmp_path: Path, written: bytes, reason: str) -> None:
    (tmp_path / "a.png").write_bytes(written)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(UnreadableError, match=reason):
            read_pixels(tmp_path / "a.png", 3)


def test_a_bomb_is_refused_before_it_goes_off(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", Image.new("1", (20_000, 20_000)))
    assert path.stat().st_size < 100_000
    for read in (read_header, read_original):
        with pytest.raises(UnreadableError, match=r"too large to be opened safely: .*400000000 pixels"):
            read(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match="no such file"):
        read_pixels(tmp_path / "gone.png", 1)
