"""Images and numbers that are already in memory, or in a numpy file."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from memae.errors import DataError, first_line
from memae.progress import Count
from memae.types import Images, Modality

__all__ = ["ArraySource", "open_npy"]


class ArraySource:
    """Images in memory; the key of each is its number, or what `Images.keys` says."""

    modality: Modality = "image"

    def __init__(self, images: Images, labels: np.ndarray | None = None) -> None:
        self._images, self._labels = images, labels
        self.origin = images.origin

    @classmethod
    def of(cls, array: np.ndarray, origin: str) -> ArraySource:
        """Images from (S, H, W), (S, C, H, W) or (S, H, W, C); uint8 is kept, all else becomes float32.

        Raises:
            DataError: a shape that is none of these, or of which one cannot say which axis is the colour.
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
        else:
            raise DataError(
                f"{origin}: of shape {shape or 'a single number'}; pass (S, D) for a table of numbers, (S, H, W), "
                "(S, C, H, W) or (S, H, W, C) for images"
            )
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and that is refused by name
            pixels = np.ascontiguousarray(array, dtype=np.uint8 if array.dtype == np.uint8 else np.float32)
        return cls(Images(pixels, range(len(pixels)), origin))

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


def open_npy(path: Path) -> tuple[np.ndarray, Mapping[str, np.ndarray] | None]:
    """The array of an npy file, or of an npz file its only array or the one named X or x, and those beside it.

    Raises:
        DataError: a damaged file, pickled objects, or an npz with several arrays and none of that name.
    """
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return loaded, None
            arrays = {name: loaded[name] for name in loaded.files}
    except (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        cure = "memae never unpickles; save plain arrays" if "pickle" in str(error).lower() else "write it again"
        raise DataError(f"{path}: not a readable numpy file ({first_line(error)}); {cure}") from None
    name = next((n for n in ("X", "x") if n in arrays), None) or (next(iter(arrays)) if len(arrays) == 1 else None)
    if name is None:
        raise DataError(
            f"{path}: holds the arrays {', '.join(arrays) or '(none)'}; name the samples X so that they are found"
        )
    return arrays.pop(name), arrays
