"""Reads the pixels of one image file; says which kinds of images are read and how.

- Grey is 1 channel, colour 3; palettes, CMYK, YCbCr and LAB are colour. An alpha channel is dropped.
- Up to 8 bits a channel give uint8. Deeper grey gives float32: whole numbers of 16 bits scaled to 0 ... 255, fractions
  kept, and images of fractions as they are. Pillow itself reads colour of 16 bits by its upper 8.
- An image is turned upright as its EXIF orientation says. Of an animation the first picture is taken.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from memae.files.image import UnreadableError, UnsuitableError, as_8_bit, is_deep, lies, open_image, upright
from memae.image.extent import within

__all__ = ["Header", "Misfit", "read_header", "read_original", "read_pixels"]

Misfit: TypeAlias = Callable[[tuple[int, int]], str | None]

DEEP_SCALE = np.float32(255 / 65535)
_GREY = ("1", "L", "LA", "La")


@dataclass(frozen=True)
class Header:
    """The properties of an image that its file states."""

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
    with open_image(file) as image:
        return Header(_upright_size(image), _is_colour(image), is_deep(image))


def read_pixels(
    file: Path,
    channels: int,
    size: tuple[int, int] | None = None,
    misfit: Misfit | None = None,
    *,
    keep_aspect: bool = False,
) -> np.ndarray:
    """(channels, H, W) uint8 or float32 of an image, resized to `size` (height, width) px where that is given.

    Args:
        file: of the image.
        channels: 1 is grey, which of colour is the luma; 3 is colour, which of grey is three times the same.
        size: upright.
        keep_aspect: an image of another shape gets as large as `size` has room for; else it is stretched.
        misfit: why an image of a size (height, width) px is not to be read; None for one that is.

    Raises:
        UnreadableError: no image, or a damaged one.
        UnsuitableError: `misfit` says so.
    """
    with open_image(file) as image:
        if misfit and (why := misfit(_upright_size(image))):
            raise UnsuitableError(why)
        size = within(size, _upright_size(image)) if size and keep_aspect else size
        stored = size[::-1] if size and lies(image) else size
        # A JPEG can be halved while it is decoded. Twice the size that is wanted remains, because shrinking a little
        # after shrinking leaves steps in the picture.
        draft = None
        if stored and stored != (image.height, image.width):
            draft = image.draft("L" if channels == 1 else "RGB", (2 * stored[1], 2 * stored[0]))
        image.load()
        pixels = upright(_resized(_plain(image, channels), stored, draft and draft[1]), image)
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
    with open_image(file) as image:
        image.load()
        deep = is_deep(image)
        pixels = np.asarray(upright(_plain(image, 1 if deep else 3), image))
    if not deep:
        return pixels
    return np.repeat(as_8_bit(pixels)[..., None], 3, axis=2)


def _upright_size(image: Image.Image) -> tuple[int, int]:
    size = (image.height, image.width)
    return size[::-1] if lies(image) else size


def _is_colour(image: Image.Image) -> bool:
    return image.mode not in _GREY and not is_deep(image)


def _plain(image: Image.Image, channels: int) -> Image.Image:
    """An image of mode L, RGB or F."""
    if is_deep(image):
        values = np.asarray(image).astype(np.float32)
        return Image.fromarray(values if image.mode.startswith("F") else values * DEEP_SCALE)
    # by way of RGBA Pillow drops the alpha channel without a warning
    opened = image.convert("RGBA") if "transparency" in image.info else image
    return opened.convert("L" if channels == 1 else "RGB")


def _resized(image: Image.Image, size: tuple[int, int] | None, box: Any) -> Image.Image:
    if size is None or size == (image.height, image.width):
        return image
    shrinks = size[0] <= image.height and size[1] <= image.width
    # as for the frames of a video: HAMMING comes nearest to the mean over an area
    method = Image.Resampling.HAMMING if shrinks else Image.Resampling.BILINEAR
    return image.resize((size[1], size[0]), method, box)
