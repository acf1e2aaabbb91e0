"""One image file: opened safely, turned upright, or read as a mask."""

from __future__ import annotations

import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
from PIL import (  # a plugin is known once it is imported
    BmpImagePlugin,  # noqa: F401
    ExifTags,
    Image,
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)

from memae.errors import first_line

__all__ = [
    "MOST_PX",
    "UnreadableError",
    "UnsuitableError",
    "as_8_bit",
    "is_deep",
    "lies",
    "open_image",
    "read_bright",
    "read_values",
    "upright",
]

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "DIB")  # and no other: EPS, for one, would run a program
LOSSY = ("JPEG", "WEBP")
# A file of 100 kB may hold any number of pixels. 64 million take a few hundred MB on the way to the network, and hardly
# a camera makes more; no camera makes a side longer than a JPEG may have.
MOST_PX = 64_000_000
MOST_SIDE_PX = 65_535
LARGE_PX = 16_000_000  # images above are decoded one at a time, so that threads do not multiply their memory

_LARGE = threading.Lock()
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

    what = "is not a readable image"


class UnsuitableError(UnreadableError):
    """An image that could be read, and whose score would mean nothing."""

    what = "is not an image for this model"


@contextmanager
def open_image(file: Path) -> Iterator[Image.Image]:
    """The image in a file, not yet decoded; what goes wrong in the block is an UnreadableError, too.

    Raises:
        UnreadableError: no image of a known format, a damaged one, one that is too large, or several in one file.
    """
    try:
        if not file.is_file():
            raise UnreadableError("no such file")
        # opened here: a file of a name Pillow maps into memory, and then it reads turned TIFFs wrong (13.0)
        with file.open("rb") as opened, Image.open(opened, formats=FORMATS) as image:
            _check_size(image)
            if image.format == "TIFF" and getattr(image, "n_frames", 1) > 1:
                raise UnreadableError("it holds several images; save each as a file of its own")
            with _LARGE if image.width * image.height > LARGE_PX else nullcontext():
                yield image
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableError(f"too large to be opened safely: {first_line(error)}") from None
    except UnidentifiedImageError:
        raise UnreadableError(_what_it_is(file)) from None
    except MemoryError:
        raise UnreadableError("there is no memory left for it") from None
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
        raise UnreadableError(first_line(error)) from None


def as_8_bit(values: np.ndarray) -> np.ndarray:
    """Numbers of any range as uint8, to be looked at: the least becomes 0 and the greatest 255; NaN becomes 0."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    levels: np.ndarray = np.nan_to_num((values - low) / max(high - low, 1e-12) * 255).clip(0, 255).astype(np.uint8)
    return levels


def is_deep(image: Image.Image) -> bool:
    """Whether it is grey of more than 8 bits."""
    return image.mode.startswith(("I", "F"))


def lies(image: Image.Image) -> bool:
    """Whether height and width change places upright; of a TIFF Pillow has changed them already."""
    return image.format != "TIFF" and _orientation(image) >= 5


def upright(pixels: Image.Image, image: Image.Image) -> Image.Image:
    """The pixels of an image, turned as its EXIF orientation says."""
    turn = _UPRIGHT.get(_orientation(image))
    return pixels if turn is None else pixels.transpose(turn)


def read_bright(file: Path, *, lossy_black: int, transparent: bool = False) -> np.ndarray:
    """(H, W) bool of a mask: True where it is not black.

    Args:
        file: of the mask, upright.
        lossy_black: of 255: what is at most as bright is black in a JPEG or WebP, where black is not quite black.
        transparent: what transparent places count as; False leaves alpha out.

    Raises:
        UnreadableError: no image, or a damaged one.
    """
    with open_image(file) as image:
        image.load()
        if is_deep(image):
            return np.asarray(upright(image, image)) > 0
        colours = image.convert("RGBA")
        if transparent:
            colours = Image.alpha_composite(Image.new("RGBA", image.size, "white"), colours)
        brightest: np.ndarray = np.asarray(upright(colours, image))[..., :3].max(axis=2)
        return brightest > (lossy_black if image.format in LOSSY else 0)


def read_values(file: Path) -> np.ndarray:
    """(H, W) numbers of a mask: of a palette the entry, of colour one number a colour; alpha is left out.

    Raises:
        UnreadableError: no image, or a damaged one.
    """
    with open_image(file) as image:
        opened: Image.Image = image
        if len(image.getbands()) > 1:
            opened = image.convert("L" if image.mode == "LA" else "RGB")
        pixels = np.asarray(opened)
    return pixels if pixels.ndim == 2 else pixels.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.int32)


def _check_size(image: Image.Image) -> None:
    if image.width * image.height > MOST_PX or max(image.size) > MOST_SIDE_PX:
        raise UnreadableError(
            f"too large to be opened safely: {image.width:,} x {image.height:,} px, and at most {MOST_PX:,} px with "
            f"sides of {MOST_SIDE_PX:,} px are read; shrink it, or cut it into pieces"
        )


def _orientation(image: Image.Image) -> int:
    if image.format != "TIFF" and "exif" not in image.info:
        return 1  # Pillow would decode a whole PNG to look behind its pixels, where nobody writes one
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except (OSError, ValueError, SyntaxError, LookupError, TypeError, struct.error):
        return 1  # broken EXIF is no broken image


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
