"""A folder of images as one video of constant rate."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from memae.errors import DataError
from memae.files.image import UnreadableError, is_deep, open_image
from memae.video.decode import DecodedFrame
from memae.video.frames import FrameKey
from memae.video.paths import images_in

__all__ = ["FrameFolder"]


class FrameFolder:
    """The images of a folder, in natural order.

    Args:
        path: of the folder.
        rate: frames per second, which images do not carry.

    Raises:
        DataError: a gap in the numbers of the images, images of several sizes, or one that cannot be read.
    """

    def __init__(self, path: Path, rate: float) -> None:
        self.path, self.rate = path, rate
        self._files = images_in(path.iterdir())
        self.about = len(self._files)
        _check_numbers(path, [file.name for file in self._files])
        self.size = _image_size(self._files[0])
        for file in self._files:
            if (size := _image_size(file)) != self.size:
                raise DataError(
                    f"{file}: is {size[1]} x {size[0]} px, and {self._files[0].name} is {self.size[1]} x "
                    f"{self.size[0]} (width x height); the frames of a video have one "
                    "size: resize them, or put those of another size into a folder of their own"
                )

    def check_whole(self) -> None:
        """Accepts every folder, because nothing in it states where it should end."""

    def frames(self, name: str, size: tuple[int, int], pictures: bool) -> Iterator[DecodedFrame]:
        """All images, each decoded when it is asked for; see `memae.video.decode.Video`."""
        for number, file in enumerate(self._files):
            grey, picture = _read(file, size, pictures)
            yield DecodedFrame(FrameKey(name, number, number / self.rate), grey, picture)


class _FilePicture(NamedTuple):
    """The file of an image, from which a picture can be drawn."""

    file: Path
    image: Image.Image | None
    """As it was decoded; None of a JPEG that was decoded at a smaller size, and is decoded again if it is drawn."""

    @property
    def nbytes(self) -> int:
        """Memory that it holds, as Pillow does: 1 byte a pixel of grey, else 4."""
        return (
            self.image.width * self.image.height * (1 if len(self.image.getbands()) == 1 else 4)
            if self.image
            else 0
        )

    def rgb(self) -> np.ndarray:
        """(H, W, 3) uint8."""
        with nullcontext(self.image) if self.image else _opened(self.file) as image:
            return np.array(image.convert("RGB"))


def _read(file: Path, size: tuple[int, int], pictures: bool) -> tuple[np.ndarray, _FilePicture | None]:
    """An image as grey pixels (H, W) of a size, and as a picture if it may be drawn."""
    height, width = size
    with _opened(file) as image:
        own_size = image.size
        # A JPEG can be halved while it is decoded, and its luma read alone. Twice the size that is wanted remains,
        # because shrinking a little after shrinking leaves steps in the image.
        draft = image.draft("YCbCr" if pictures else "L", (2 * width, 2 * height))
        whole = image.size == own_size
        plain = _eight_bits(image, file)
        # by way of RGBA Pillow drops the alpha channel without a warning
        opened = plain.convert("RGBA") if "transparency" in image.info else plain
        shrinks = height <= image.height and width <= image.width
        # HAMMING is what comes nearest to the mean over an area, as the scaler for files takes it (0.4 grey levels
        # on UCSD Ped2, at most 16); Pillow's BOX counts a pixel fully or not at all, and is up to 79 levels away.
        method = Image.Resampling.HAMMING if shrinks else Image.Resampling.BILINEAR
        grey = np.array(opened.convert("L").resize((width, height), method, draft[1] if draft else None))
        return grey, _FilePicture(file, opened if whole else None) if pictures else None


def _eight_bits(image: Image.Image, file: Path) -> Image.Image:
    """Scales 16-bit grey to 8 bits; Pillow would clip it."""
    if not is_deep(image):
        return image
    values = np.asarray(image)
    if values.dtype.kind == "f" or values.min() < 0 or values.max() > 0xFFFF:
        raise DataError(f"{file}: grey of more than 16 bits or with a fraction; save it with 8 or 16 bits")
    return Image.fromarray(((values.astype(np.uint32) * 255 + 0x7FFF) // 0xFFFF).astype(np.uint8))


def _check_numbers(folder: Path, names: list[str]) -> None:
    """Raises an error for a missing frame if names differ in one number only; a constant step (0, 10, 20) is no gap."""
    split = [re.split(r"(\d+)", Path(name).stem) for name in names]
    if len({len(parts) for parts in split}) > 1:
        return
    varying = [column for column, parts in enumerate(zip(*split, strict=True)) if len(set(parts)) > 1]
    if len(varying) != 1 or varying[0] % 2 == 0:
        return
    numbers = [int(parts[varying[0]]) for parts in split]
    steps = [later - number for number, later in pairwise(numbers)]
    step = min(steps, default=0)
    if 0 in steps:
        at = steps.index(0)
        raise DataError(f"{folder}: {names[at]} and {names[at + 1]} have one number; remove one of them")
    for name, number, this_step in zip(names, numbers, steps, strict=False):
        if this_step != step:
            raise DataError(
                f"{folder}: frame {number + step} is missing after {name}; restore it, or number the frames "
                "without a gap"
            )


def _image_size(file: Path) -> tuple[int, int]:
    with _opened(file) as image:
        return image.height, image.width


@contextmanager
def _opened(file: Path) -> Iterator[Image.Image]:
    try:
        with open_image(file) as image:
            yield image
    except UnreadableError as error:
        raise DataError(
            f"{file}: not a readable image ({error}); restore it, or split the folder there into two"
        ) from None
