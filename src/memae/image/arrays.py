"""Images as a source gives them, and the source of those that are already in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from memae.errors import DataError
from memae.progress import Count
from memae.types import Key, unreadable_at

__all__ = ["ArraySource", "Images"]


@dataclass(frozen=True)
class Images:
    """S images of one size."""

    pixels: np.ndarray
    """(S, C, H, W), uint8 or float32, in the units of the source."""
    keys: Sequence[Key]
    origin: str
    """The file or argument that they came from, for messages."""
    unreadable: Mapping[int, str] = field(default_factory=dict)
    """Images that are black, as they could not be read, and why; only a source that was asked to skip has them."""
    sizes: np.ndarray | None = None
    """(S, 2) height and width, px, of what is an image in `pixels`, from their first row and column on; what lies below
    and beside it counts for nothing. None: all of it."""

    def take(self, rows: np.ndarray) -> Images:
        """The images of an index (B,)."""
        keys = [self.keys[row] for row in rows.tolist()]
        sizes = None if self.sizes is None else self.sizes[rows]
        return Images(self.pixels[rows], keys, self.origin, unreadable_at(self, rows), sizes)

    def __len__(self) -> int:
        return len(self.pixels)


class ArraySource:
    """Images in memory; the key of an image is its number, unless `Images.keys` gives another."""

    modality: str = "image"

    def __init__(self, images: Images, labels: np.ndarray | None = None) -> None:
        self._images, self._labels = images, labels
        self.origin = images.origin

    @classmethod
    def of(cls, array: np.ndarray, origin: str) -> ArraySource:
        """Images from (S, H, W), (S, C, H, W) or (S, H, W, C); uint8 is kept, all else becomes float32.

        Raises:
            DataError: a shape of which one cannot say which axis is the colour.
        """
        shape = " x ".join(map(str, array.shape))
        if array.ndim == 3:
            array = array[:, None]
        elif array.ndim == 4:
            first, last = array.shape[1] in (1, 3, 4), array.shape[3] in (1, 3, 4)
            if first == last:
                raise DataError(
                    f"{origin}: of shape {shape}: cannot tell the colour axis; pass (S, C, H, W) or (S, H, W, C) "
                    "with C of 1, 3 or 4"
                )
            array = array if first else array.transpose(0, 3, 1, 2)
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and that is refused by name
            pixels = np.ascontiguousarray(array, dtype=np.uint8 if array.dtype == np.uint8 else np.float32)
        return cls(Images(pixels, range(len(pixels)), origin))

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) px of all images."""
        height, width = self._images.pixels.shape[2:]
        return height, width

    def chunks(self, size: int) -> Iterator[Images]:
        """The images in slices."""
        images = self._images
        for start in range(0, len(images), size):
            part = slice(start, start + size)
            yield Images(images.pixels[part], images.keys[part], images.origin)

    def count(self) -> Count:
        """How many images."""
        return Count(len(self._images))

    def labels(self, name: str) -> np.ndarray:
        """The labels that came with the images, whatever `name` says; only idx files have them.

        Raises:
            DataError: none came with them.
        """
        if self._labels is None:
            raise DataError(f"{self.origin}: comes without labels, so there is no {name!r} to evaluate against")
        return self._labels.astype(str)

    def without(self, names: Sequence[str]) -> ArraySource:
        """Itself: images have no columns.

        Raises:
            DataError: there is a column to leave out.
        """
        if names and self._labels is None:
            raise DataError(f"{self.origin}: images have no column {names[0]!r} to leave out")
        return self
