"""One image file to pixels: which kinds of images are read, and what becomes of each.

- Grey is 1 channel, colour 3; palettes, CMYK, YCbCr and LAB are colour. An alpha channel is dropped.
- Up to 8 bits a channel give uint8. Deeper grey gives float32: whole numbers of 16 bits scaled to 0 ... 255, fractions
  kept, and images of fractions as they are. Pillow itself reads colour of 16 bits by its upper 8.
- An image is turned upright as its EXIF orientation says. Of an animation the first picture is taken.
"""

from __future__ import annotations

import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import (  # a plugin is known once it is imported
    BmpImagePlugin,  # noqa: F401
    Image,
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)

__all__ = ["Header", "UnreadableError", "read_header", "read_original", "read_pixels"]

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "DIB")  # and no other: EPS, for one, would run a program
DEEP_SCALE = np.float32(255 / 65535)
LARGE_PX = 16_000_000  # images above are decoded one at a time, so that threads do not multiply their memory

_LARGE = threading.Lock()
_GREY = ("1", "L", "LA", "La")
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UnreadableError(Exception):
    """A file that is no image that can be read; the message is the reason, without the file."""


@dataclass(frozen=True)
class Header:
    """What a file says about its image."""

    size: tuple[int, int]
    """(height, width) px, upright."""
    colour: bool
    deep: bool
    """More than 8 bits a channel, read as float32."""


def read_header(file: Path) -> Header:
    """The size and kind of an image, without decoding it.

    Raises:
        UnreadableError: no image.
    """
    with _opened(file) as image:
        size = (image.height, image.width)
        return Header(size[::-1] if _lies(image) else size, _is_colour(image), _is_deep(image))


def read_pixels(file: Path, channels: int, size: tuple[int, int] | None = None) -> np.ndarray:
    """(channels, H, W) uint8 or float32 of an image, resized to `size` (height, width) px where that is given.

    Args:
        file: of the image.
        channels: 1 is grey, which of colour is the luma; 3 is colour, which of grey is three times the same.
        size: upright; another shape is stretched.

    Raises:
        UnreadableError: no image, or a damaged one.
    """
    with _opened(file) as image:
        stored = size[::-1] if size and _lies(image) else size
        # A JPEG can be halved while it is decoded. Twice the size that is wanted remains, because shrinking a little
        # after shrinking leaves steps in the picture.
        draft = None
        if stored and stored != (image.height, image.width):
            draft = image.draft("L" if channels == 1 else "RGB", (2 * stored[1], 2 * stored[0]))
        image.load()
        pixels = _upright(_resized(_plain(image, channels), stored, draft and draft[1]), image)
    array = np.asarray(pixels)
    planes = array.transpose(2, 0, 1) if array.ndim == 3 else np.broadcast_to(array, (channels, *array.shape))
    if planes.dtype == np.float32 and not np.isfinite(planes).all():
        raise UnreadableError("it holds NaN or infinite pixels")
    return planes


def read_original(file: Path) -> np.ndarray:
    """(H, W, 3) uint8 of an image at its own size, to be looked at: deep grey from its least to its greatest value.

    Raises:
        UnreadableError: no image, or a damaged one.
    """
    with _opened(file) as image:
        image.load()
        deep = _is_deep(image)
        pixels = np.asarray(_upright(_plain(image, 1 if deep else 3), image))
    if not deep:
        return pixels
    low, high = float(np.nanmin(pixels)), float(np.nanmax(pixels))
    grey = np.nan_to_num((pixels - low) / max(high - low, 1e-12) * 255).clip(0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


@contextmanager
def _opened(file: Path) -> Iterator[Image.Image]:
    try:
        if not file.is_file():
            raise UnreadableError("no such file")
        # opened here: a file of a name Pillow maps into memory, and then it reads turned TIFFs wrong (13.0)
        with file.open("rb") as opened, Image.open(opened, formats=FORMATS) as image:
            if image.format == "TIFF" and getattr(image, "n_frames", 1) > 1:
                raise UnreadableError("it holds several images; save each as a file of its own")
            with _LARGE if image.width * image.height > LARGE_PX else nullcontext():
                yield image
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableError(f"too large to be opened safely: {_first_line(error)}") from None
    except UnidentifiedImageError:
        raise UnreadableError(_what_it_is(file)) from None
    except (
        OSError,
        ValueError,
        SyntaxError,  # what Pillow makes of a broken PNG
        EOFError,
        LookupError,
        TypeError,
        ArithmeticError,
        struct.error,
        zlib.error,
    ) as error:
        raise UnreadableError(_first_line(error)) from None


def _what_it_is(file: Path) -> str:
    with file.open("rb") as opened:
        start = opened.read(512)
    if not start:
        return "the file is empty"
    if start.startswith(b"PK\x03\x04"):
        return "it is a zip archive; unpack it"
    if all(byte >= 32 or byte in b"\t\r\n" for byte in start):
        return "it is a text file"
    return "it is none of PNG, JPEG, WebP, TIFF and BMP"


def _is_colour(image: Image.Image) -> bool:
    return image.mode not in _GREY and not _is_deep(image)


def _is_deep(image: Image.Image) -> bool:
    return image.mode.startswith(("I", "F"))


def _plain(image: Image.Image, channels: int) -> Image.Image:
    """An image of mode L, RGB or F."""
    if _is_deep(image):
        values = np.asarray(image).astype(np.float32)
        return Image.fromarray(values if image.mode.startswith("F") else values * DEEP_SCALE)
    # by way of RGBA Pillow drops the alpha channel without a warning
    opened = image.convert("RGBA") if "transparency" in image.info else image
    return opened.convert("L" if channels == 1 else "RGB")


def _lies(image: Image.Image) -> bool:
    """Whether height and width change places upright; of a TIFF Pillow has changed them already."""
    return image.format != "TIFF" and _orientation(image) >= 5


def _orientation(image: Image.Image) -> int:
    if image.format != "TIFF" and "exif" not in image.info:
        return 1  # Pillow would decode a whole PNG to look behind its pixels, where nobody writes one
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except (OSError, ValueError, SyntaxError, LookupError, TypeError, struct.error):
        return 1  # broken EXIF is no broken image


def _resized(image: Image.Image, size: tuple[int, int] | None, box: Any) -> Image.Image:
    if size is None or size == (image.height, image.width):
        return image
    shrinks = size[0] <= image.height and size[1] <= image.width
    # as for the frames of a video: HAMMING comes nearest to the mean over an area
    method = Image.Resampling.HAMMING if shrinks else Image.Resampling.BILINEAR
    return image.resize((size[1], size[0]), method, box)


def _upright(pixels: Image.Image, image: Image.Image) -> Image.Image:
    turn = _UPRIGHT.get(_orientation(image))
    return pixels if turn is None else pixels.transpose(turn)


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
