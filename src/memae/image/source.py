"""Images in files: folders, patterns, lists and single files of any size."""

from __future__ import annotations

import copy
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from memae.errors import DataError
from memae.files.image import UnreadableError
from memae.image.arrays import Images
from memae.image.decode import Header, read_header, read_original, read_pixels
from memae.image.extent import within
from memae.image.paths import ImageFile, find_images
from memae.image.preprocess import ImagePreprocess
from memae.progress import Count
from memae.types import EVERYTHING, Key

__all__ = ["LONGEST_SIDE", "ImageSource"]

CHUNK_BYTES = 64 << 20  # decoded pixels given at a time while scoring
LONGEST_SIDE = 256  # px; larger images are shrunk to it unless another size is asked for
COMMON = 0.1  # share of the images with a size that is the usual one
OWN_SIZE_AHEAD = 2  # images decoded before they are asked for, at their own size, which may be large
PART_IMAGES = 256
THREADS = min(8, os.cpu_count() or 1)  # that decode

T = TypeVar("T")


class ImageSource:
    """The images of folders, patterns, list files and files (see `memae.image.paths`), decoded by a few threads.

    All get one size and one number of channels: those that a model wants, or, left open, those of the images
    themselves. Then the size is the one that most of them have, or that of the median sides, shrunk to a longest side
    of 256 px if it is larger, and they are grey unless any is in colour.

    Args:
        paths: where they are.
        channels: 1 for grey, 3 for colour; 0 reads colour if any image has it.
        size: (height, width) px of all; None finds it.
        longest: side in px that a size that was found is brought to.
        remark: how these images were chosen, for `notes`.
        own_size: each keeps its own size, and comes in a chunk of its own.
        keep_aspect: each keeps its shape, and lies in the upper left of the size, which has room for all of them; see
            `Images.sizes`. False: all are stretched to the size.

    Raises:
        DataError: no image there; while reading, one that is unreadable, or none that is not.
    """

    modality: str = "image"
    is_part: bool = False
    """Whether it is one of several sources of `parts`."""

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        channels: int = 0,
        size: tuple[int, int] | None = None,
        longest: int | None = None,
        remark: str | None = None,
        own_size: bool = False,
        keep_aspect: bool = False,
    ) -> None:
        self.origin = ", ".join(map(str, paths[:3])) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
        self._files = find_images(paths)
        self._channels, self._size = channels, size
        self._longest, self._remark, self._own_size, self._skip = longest, remark, own_size, False
        self._keep_aspect, self._fits = keep_aspect, None
        self._far = 0, ""  # how many images of the latest pass, and the first of them

    def __len__(self) -> int:
        return len(self._files)

    def sized(self, longest: int | None, *, keep_aspect: bool = False) -> ImageSource:
        """The same images with another longest side (px); None leaves them as they are up to 256 px."""
        same = (longest, keep_aspect) == (self._longest, self._keep_aspect)
        return self if same else self._like(_longest=longest, _keep_aspect=keep_aspect)

    def own_size(self) -> ImageSource:
        """The same images, each at its own size and in a chunk of its own."""
        return self._like(_own_size=True)

    def fitting(self, preprocess: ImagePreprocess) -> ImageSource:
        """The same images for a model: one of an unsuitable size counts as unreadable, and `far` tells of others."""
        return self._like(_fits=preprocess)

    @property
    def far(self) -> str | None:
        """After a pass: how many of its images are far from the size or shape of the training images; None if none."""
        count, first = self._far
        if not count:
            return None
        are = "images are" if count > 1 else "image is"
        return (
            f"{self.origin}: {count:,} {are} far from the training images in size or shape, and such scores mean less; "
            f"the first is {first}"
        )

    def parts(self) -> list[ImageSource]:
        """The images in parts of up to 256; see `memae.types.Divisible`."""
        files = [file._replace(path=file.path.absolute()) for file in self._files]
        starts = range(0, len(files), PART_IMAGES)
        return [self._like(_files=files[start : start + PART_IMAGES], is_part=True) for start in starts]

    def skipping(self) -> ImageSource:
        """The same images; unreadable ones are black and named in the chunks, and raise no error."""
        return self._like(_skip=True)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) px that all images get."""
        return self._plan.size

    @property
    def bytes(self) -> int:
        """Size of all decoded pixels, bytes."""
        channels, (height, width) = self._plan.channels, self._plan.size
        return len(self._files) * channels * height * width * self.dtype.itemsize

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the pixels: float32 if any image has more than 8 bits."""
        return self._plan.dtype or np.dtype(np.uint8)

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the user about how the images were chosen and resized, where that may surprise."""
        return tuple(part for part in (self._remark, self._plan.note) if part)

    @property
    def sizes(self) -> frozenset[tuple[int, int]]:
        """The different sizes (height, width) px that images have in their files; none if it was not looked for."""
        return self._plan.sizes

    @property
    def keys(self) -> list[str]:
        """(S,) keys of all images, including unreadable ones."""
        return [file.key for file in self._files]

    @property
    def paths(self) -> list[Path]:
        """(S,) where they lie."""
        return [file.path for file in self._files]

    def size_of(self, key: Key) -> tuple[int, int]:
        """(height, width) px of the image of a key at its own size, upright.

        Raises:
            DataError: it cannot be read.
        """
        return self._read(read_header, key).size

    def chunks(self, size: int) -> Iterator[Images]:
        """Decoded images; a chunk of at most `size`, and of 64 MiB unless `size` is unlimited."""
        channels, (height, width) = self._plan.channels, self._plan.size
        if self._own_size:
            size, ahead = 1, OWN_SIZE_AHEAD
        else:
            fitting = CHUNK_BYTES // (width * height * channels)
            size = size if size == EVERYTHING else max(1, min(size, fitting))
            ahead = max(THREADS, min(size, fitting))
        wanted = None if self._own_size else (height, width)
        self._far = 0, ""
        part: list[tuple[ImageFile, np.ndarray | UnreadableError]] = []
        for file, found in self._read_all(partial(self._decoded, size=wanted), ahead):
            if isinstance(found, _Decoded) and found.remark:
                self._far = self._far[0] + 1, self._far[1] or f"{file.where} ({found.remark})"
            part.append((file, found.pixels if isinstance(found, _Decoded) else found))
            if len(part) == size:
                yield self._images(part)
                part = []
        if part:
            yield self._images(part)

    def count(self) -> Count:
        """How many images."""
        return Count(len(self._files))

    def labels(self, name: str) -> np.ndarray:
        """The label "folder" of all images, including unreadable ones: the first folder on the path of each.

        Raises:
            DataError: another name, or images that lie in no folder of their own.
        """
        if name != "folder":
            raise DataError(
                f"{self.origin}: images have no column {name!r}; sort them into one folder per label and say "
                "`label_column='folder'`"
            )
        flat = next((file for file in self._files if len(Path(file.key).parts) < 2), None)
        if flat is not None:
            raise DataError(
                f"{flat.where}: lies in no folder below {self.origin}, so it has no label; sort it into one"
            )
        return np.array([Path(file.key).parts[0] for file in self._files])

    def original(self, key: Key) -> np.ndarray:
        """(H, W, 3) uint8 of the image of a key at its own size, to be looked at.

        Raises:
            DataError: it cannot be read any more.
        """
        return self._read(read_original, key)

    def without(self, names: Sequence[str]) -> ImageSource:
        """Itself: images have no columns.

        Raises:
            DataError: there is a column to leave out.
        """
        if other := [name for name in names if name != "folder"]:
            raise DataError(f"{self.origin}: images have no column {other[0]!r} to leave out")
        return self

    def _decoded(self, file: Path, size: tuple[int, int] | None) -> _Decoded:
        own: list[tuple[int, int]] = []  # the size of the image, which the decoder sees first

        def misfit(found: tuple[int, int]) -> str | None:
            own.append(found)
            return self._fits.misfit(found) if self._fits else None

        pixels = read_pixels(file, self._plan.channels, size, misfit, keep_aspect=self._keep_aspect)
        return _Decoded(pixels, self._fits.remark(own[0]) if self._fits else None)

    @cached_property
    def _by_key(self) -> dict[Key, ImageFile]:
        return {file.key: file for file in self._files}

    @cached_property
    def _plan(self) -> _Plan:
        if self._channels and (self._size or self._own_size):
            return _Plan(self._size or (1, 1), self._channels)
        found = [header for _, header in self._read_all(read_header, 16 * THREADS)]
        headers = [header for header in found if isinstance(header, Header)]
        sizes = Counter(header.size for header in headers)
        usual, word = _usual_size(sizes)
        size = self._size or _shrunk(usual, self._longest)
        if self._keep_aspect and not self._size:
            each = [within((max(size), max(size)), own) for own in sizes]
            size = max(height for height, _ in each), max(width for _, width in each)
        return _Plan(
            size,
            self._channels or (3 if any(header.colour for header in headers) else 1),
            np.dtype(np.float32 if any(header.deep for header in headers) else np.uint8),
            None if self._own_size else _note(sizes, usual, word, size, keep_aspect=self._keep_aspect),
            frozenset(sizes),
        )

    def _read(self, read: Callable[[Path], T], key: Key) -> T:
        file = self._by_key[key]
        try:
            return read(file.path)
        except UnreadableError as error:
            raise DataError(_unreadable(file, error)) from None

    def _read_all(self, read: Callable[[Path], T], ahead: int) -> Iterator[tuple[ImageFile, T | UnreadableError]]:
        """The content of each file, or the reason if a bad file is skipped; an error if none can be read."""
        good, first_bad = False, ""
        for file, found in _in_threads(read, self._files, ahead):
            if not isinstance(found, UnreadableError):
                good = True
            elif not self._skip:
                raise DataError(_unreadable(file, found))
            else:
                first_bad = first_bad or f"{file.where} ({found})"
            yield file, found
        if not good and not self.is_part:
            raise DataError(
                f"{self.origin}: none of its {len(self._files)} images can be read; the first is {first_bad}; check "
                "how they were written"
            )

    def _like(self, **changes: Any) -> ImageSource:
        other = copy.copy(self)
        vars(other).update(changes)
        for found in ("_plan", "_by_key"):  # which may be another for them
            vars(other).pop(found, None)
        return other

    def _images(self, part: list[tuple[ImageFile, np.ndarray | UnreadableError]]) -> Images:
        found = [pixels for _, pixels in part if isinstance(pixels, np.ndarray)]
        # what is known of no image is float32: 8 bits would say something of the range of its pixels
        dtype = self._plan.dtype or (np.result_type(*{pixels.dtype for pixels in found} or {np.dtype(np.float32)}))
        size = found[0].shape[1:] if found and self._own_size else self._plan.size
        pixels = np.zeros((len(part), self._plan.channels, *size), dtype)
        sizes = np.full((len(part), 2), size) if self._keep_aspect and not self._own_size else None
        unreadable: dict[int, str] = {}
        for row, (_, image) in enumerate(part):
            if isinstance(image, UnreadableError):
                unreadable[row] = f"{image.what} ({image})"
            elif sizes is None:
                pixels[row] = image
            else:
                sizes[row] = image.shape[1:]
                _lay(image, pixels[row])
        return Images(pixels, [file.key for file, _ in part], self.origin, unreadable, sizes)


@dataclass(frozen=True)
class _Decoded:
    """One image, and why its score will mean less than that of others."""

    pixels: np.ndarray
    remark: str | None


@dataclass(frozen=True)
class _Plan:
    """The shape and type that all images are converted to."""

    size: tuple[int, int]
    channels: int
    dtype: np.dtype[Any] | None = None
    """Of the pixels; None: as the files are, chunk by chunk."""
    note: str | None = None
    sizes: frozenset[tuple[int, int]] = frozenset()


def _in_threads(
    read: Callable[[Path], T], files: Sequence[ImageFile], ahead: int
) -> Iterator[tuple[ImageFile, T | UnreadableError]]:
    """The content of each file or the error, in order; threads read up to `ahead` files in advance."""

    def attempt(file: ImageFile) -> T | UnreadableError:
        try:
            return read(file.path)
        except UnreadableError as error:
            return error

    pool = ThreadPoolExecutor(THREADS, "memae-images")
    submitted = ((file, pool.submit(attempt, file)) for file in files)
    try:
        waiting = deque(islice(submitted, ahead))
        while waiting:
            waiting.extend(islice(submitted, 1))
            file, result = waiting.popleft()
            yield file, result.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _shrunk(size: tuple[int, int], longest: int | None) -> tuple[int, int]:
    """The size (height, width) whose longer side is `longest` px, or, left open, at most 256."""
    wanted = longest or min(max(size), LONGEST_SIDE)
    height, width = (max(1, round(side * wanted / max(size))) for side in size)
    return height, width


def _usual_size(sizes: Counter[tuple[int, int]]) -> tuple[tuple[int, int], str]:
    """The size (height, width) that stands for images of these, and how it was found.

    It is the most common one, or, where hardly an image has the size of another, that of the median sides: the most
    common size would then be the shape of a few, and all others would be stretched to it.
    """
    commonest = max(sizes, key=lambda size: (sizes[size], size[0] * size[1], size))
    if sizes[commonest] >= COMMON * sizes.total():
        return commonest, "most of"
    height, width = (int(np.median(sides)) for sides in zip(*sizes.elements(), strict=True))
    return (height, width), "in the median"


def _lay(image: np.ndarray, out: np.ndarray) -> None:
    """Writes an image (C, h, w) to the upper left of (C, H, W); its last column and row go on beyond it.

    Nobody looks at what lies there, but it is of the image's own levels, and the range of pixels stays as it is.
    """
    _, height, width = image.shape
    out[:, :height, :width] = image
    out[:, :height, width:] = image[:, :, -1:]
    out[:, height:] = out[:, height - 1 : height]


def _note(
    sizes: Counter[tuple[int, int]], usual: tuple[int, int], word: str, size: tuple[int, int], *, keep_aspect: bool
) -> str | None:
    if len(sizes) == 1 and usual == size:
        return None
    several = f"images of {len(sizes)} sizes, {word} {_shape(usual)} px" if len(sizes) > 1 else ""
    become = "each keeps its shape, within" if keep_aspect and len(sizes) > 1 else "all become"
    return f"{several or f'images of {_shape(usual)} px'}: {become} {_shape(size)} px (image.size_px)"


def _shape(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]}"  # width first, as everyone says it


def _unreadable(file: ImageFile, error: UnreadableError) -> str:
    what = error.what.removeprefix("is ")
    return f"{file.where}: {what} ({error}); mend or remove it, or leave it out with `skip_bad=True`"
