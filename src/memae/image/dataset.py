"""Images that are encoded batch by batch; training sets larger than memory lie in a temporary file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from memae.errors import DataError
from memae.files.atomic import temporary_file
from memae.image.arrays import Images
from memae.image.preprocess import ImagePreprocess
from memae.image.source import ImageSource
from memae.progress import Progress, stage
from memae.types import Key, Skipped, Source, count

__all__ = ["MEMORY_BYTES", "StoredImages", "collect", "store", "write"]

MEMORY_BYTES = 256 << 20  # of decoded pixels; training in memory takes about ten times as much
PART_IMAGES = 1024


def collect(source: Any, progress: Progress | None = None) -> Images:
    """All images of a source in memory; each is copied only once.

    Raises:
        DataError: there are none, or one that cannot be read.
    """
    samples = count(source)
    assert samples is not None and samples.exact, "sources of images know how many they hold"
    pixels, keys, unreadable, sizes = np.empty(0, np.uint8), list[Key](), dict[int, str](), list[np.ndarray]()
    with stage(progress, "reading", "images", samples) as done:
        for part in source.chunks(PART_IMAGES):
            if len(part) == samples.samples:
                done(len(part))
                whole: Images = part
                return whole
            if not keys:
                pixels = np.empty((samples.samples, *part.pixels.shape[1:]), part.pixels.dtype)
            pixels[len(keys) : len(keys) + len(part)] = part.pixels
            unreadable |= {len(keys) + row: why for row, why in part.unreadable.items()}
            keys += part.keys
            sizes += [] if part.sizes is None else [part.sizes]
            done(len(part))
    if not keys:
        raise DataError(f"{source.origin}: holds no samples")
    return Images(pixels[: len(keys)], keys, source.origin, unreadable, np.concatenate(sizes) if sizes else None)


class Written(NamedTuple):
    """Images that lie one behind the other in a file."""

    pixels: np.ndarray
    """Of all images, flat and mapped into memory."""
    keys: list[Key]
    """(S,) of those that could be read."""
    shapes: list[tuple[int, ...]]
    """(S,) of each (C, H, W)."""
    sizes: np.ndarray | None
    """(S, 2); see `Images.sizes`."""
    skipped: tuple[Skipped, ...]
    """The others, if they may be skipped."""


def write(
    source: Source, progress: Progress | None, see: Callable[[Key, np.ndarray], None] | None = None
) -> Written:
    """Writes all images of a source that can be read to a nameless temporary file that the system maps into memory.

    The file lies where TMPDIR says, takes as much room as the pixels do, and goes with them. `progress` is told how
    far the reading is, and `see` is given each image (C, H, W).

    Raises:
        DataError: there are no images, or one that cannot be read.
        WriteError: there is no room for the file.
    """
    keys, shapes, sizes, skipped = list[Key](), list[tuple[int, ...]](), list[np.ndarray](), list[Skipped]()
    dtype = getattr(source, "dtype", None)
    with (
        temporary_file("the images to train on") as file,
        stage(progress, "reading", "images", count(source)) as done,
    ):
        for images in source.chunks(PART_IMAGES):
            for row, (key, pixels) in enumerate(zip(images.keys, images.pixels, strict=True)):
                if row in images.unreadable:
                    skipped.append(Skipped(key, images.unreadable[row]))
                    continue
                dtype = dtype or pixels.dtype
                file.write(np.ascontiguousarray(pixels, dtype).data)
                keys.append(key)
                shapes.append(pixels.shape)
                sizes += [] if images.sizes is None else [images.sizes[row]]
                if see:
                    see(key, pixels)
            done(len(images))
        if not keys:
            raise DataError(f"{source.origin}: holds no samples")
        file.flush()
        mapped = np.memmap(file, dtype=dtype or np.uint8, mode="r+")
        return Written(mapped, keys, shapes, np.stack(sizes) if sizes else None, tuple(skipped))


def store(source: ImageSource, progress: Progress | None = None) -> tuple[Images, tuple[Skipped, ...]]:
    """All images of a source in a file, and those that were skipped; see `write`."""
    pixels, keys, shapes, sizes, skipped = write(source, progress)
    return Images(pixels.reshape(len(keys), *shapes[0]), keys, source.origin, sizes=sizes), skipped


@dataclass(frozen=True)
class StoredImages:
    """S images that are encoded when they are indexed, like a tensor (S, C, H, W)."""

    images: Images
    rows: Tensor | None
    """(S,) which of the images; None is all."""
    preprocess: ImagePreprocess
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    """Where the encoded images are wanted."""

    def __len__(self) -> int:
        return len(self.images if self.rows is None else self.rows)

    def __getitem__(self, index: Any) -> Tensor:
        """The encoded images (B, C, H, W) of a slice or of an index tensor (B,)."""
        if isinstance(index, Tensor):
            index = index.cpu().numpy()
        if self.rows is not None:
            index = self.rows.numpy()[index]
        images = self.images
        keys = [images.keys[row] for row in np.arange(len(images))[index]]
        sizes = None if images.sizes is None else images.sizes[index]
        some = Images(images.pixels[index], keys, images.origin, sizes=sizes)
        return self.preprocess.encode(some).to(self.device)

    @property
    def shape(self) -> tuple[int, ...]:
        """(S, C, H, W)."""
        return len(self), *self.preprocess.shape

    def to(self, device: torch.device) -> StoredImages:
        """The same images, sent to another device batch by batch."""
        return replace(self, device=torch.device(device))
