"""Images that are encoded batch by batch; those to train on that are too many for memory lie in a temporary file."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memae.errors import DataError
from memae.image.arrays import Images
from memae.image.preprocess import ImagePreprocess
from memae.image.source import ImageSource
from memae.progress import Progress, stage
from memae.types import Key, Skipped, count

__all__ = ["MEMORY_BYTES", "StoredImages", "collect", "store"]

MEMORY_BYTES = 256 << 20  # of decoded pixels; training in memory takes about ten times as much
PART_IMAGES = 1024


def collect(source: Any, progress: Progress | None = None) -> Images:
    """All images of a source in memory, each copied once to where it stays.

    Raises:
        DataError: there are none, or one that cannot be read.
    """
    samples = count(source)
    assert samples is not None and samples.exact, "sources of images know how many they hold"
    pixels, keys, unreadable = np.empty(0, np.uint8), list[Key](), dict[int, str]()
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
            done(len(part))
    if not keys:
        raise DataError(f"{source.origin}: holds no samples")
    return Images(pixels[: len(keys)], keys, source.origin, unreadable)


def store(source: ImageSource, progress: Progress | None = None) -> tuple[Images, tuple[Skipped, ...]]:
    """All images of a source that can be read, and the others, if they may be skipped.

    The pixels are in a nameless temporary file that the system maps into memory. It lies where TMPDIR says, takes as
    much room as they do, and goes with them. `progress` is told how far the reading is.

    Raises:
        DataError: an image that cannot be read.
    """
    keys: list[Key] = []
    skipped: list[Skipped] = []
    shape: tuple[int, ...] = ()
    with tempfile.TemporaryFile() as file, stage(progress, "reading", "images", source.count()) as done:
        for images in source.chunks(PART_IMAGES):
            skipped += (Skipped(images.keys[row], why) for row, why in images.unreadable.items())
            good = [row for row in range(len(images)) if row not in images.unreadable]
            if good:
                pixels = images.pixels[good] if images.unreadable else images.pixels
                file.write(np.ascontiguousarray(pixels, source.dtype).data)
            keys += (images.keys[row] for row in good)
            shape = images.pixels.shape[1:]
            done(len(images))
        if not keys:
            raise DataError(f"{source.origin}: holds no samples")
        file.flush()
        stored = np.memmap(file, dtype=source.dtype, mode="r+", shape=(len(keys), *shape))
    return Images(stored, keys, source.origin), tuple(skipped)


@dataclass(frozen=True)
class StoredImages:
    """S encoded images, made when they are asked for: indexed like a tensor (S, C, H, W)."""

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
        keys = [self.images.keys[row] for row in np.arange(len(self.images))[index]]
        some = Images(self.images.pixels[index], keys, self.images.origin)
        return self.preprocess.encode(some).to(self.device)

    @property
    def shape(self) -> tuple[int, ...]:
        """(S, C, H, W)."""
        return len(self), *self.preprocess.shape

    def to(self, device: torch.device) -> StoredImages:
        """The same images, sent to another device batch by batch."""
        return replace(self, device=torch.device(device))
