"""Cuts images at their own size into overlapping tiles, and joins maps of tiles without seams.

The tiles of an image lie evenly from edge to edge. Their maps are weighed by windows that add up to 1 at every px and
fade towards the edges of a tile, where a network knows least of the surroundings. An image that is shorter than a tile
is continued by reflection, and its map is cut back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memae.image.dataset import write
from memae.image.preprocess import ImagePreprocess, levels_of
from memae.progress import Progress
from memae.types import Key, Skipped, Source

__all__ = ["OwnSizeImages", "Tiles", "Tiling", "store_own_size"]


@dataclass(frozen=True)
class Tiling:
    """How an image of (height, width) px is cut into square tiles."""

    height: int
    width: int
    tile: int
    overlap: int

    @cached_property
    def places(self) -> np.ndarray:
        """(N, 2) the first row and column of each tile, px of the continued image."""
        rows, columns = (_starts(side, self.tile, self.overlap) for side in (self.height, self.width))
        return np.array([(row, column) for row in rows for column in columns])

    def cut(self, pixels: np.ndarray, row: int, column: int) -> np.ndarray:
        """(C, tile, tile): the tile of an image (C, H, W) that begins at a row and column."""
        return self._continued(pixels)[:, row : row + self.tile, column : column + self.tile]

    def empty(self) -> np.ndarray:
        """(H, W) float32 of zeros that maps of tiles can be added to, as large as the continued image."""
        return np.zeros((max(self.height, self.tile), max(self.width, self.tile)), np.float32)

    def add(self, joined: np.ndarray, row: int, column: int, part: np.ndarray) -> None:
        """Adds the map (tile, tile) of the tile that begins there to the joined map, weighed by its window."""
        window = self._windows[0][row][:, None] * self._windows[1][column]
        joined[row : row + self.tile, column : column + self.tile] += window * part

    def trimmed(self, joined: np.ndarray) -> np.ndarray:
        """(H, W): the joined map without the part that pads the image."""
        return joined[: self.height, : self.width]

    def nearest(self, row: int, column: int) -> int:
        """The number of the tile whose centre is nearest to a px of the image."""
        return int(np.square(self.places + self.tile / 2 - (row, column)).sum(axis=1).argmin())

    @cached_property
    def _windows(self) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray]]:
        """The weights (tile,) float32 along the rows and columns of a tile that begins there."""
        return _windows(self.height, self.tile, self.overlap), _windows(self.width, self.tile, self.overlap)

    def _continued(self, pixels: np.ndarray) -> np.ndarray:
        below, right = max(0, self.tile - self.height), max(0, self.tile - self.width)
        return np.pad(pixels, ((0, 0), (0, below), (0, right)), "reflect") if below or right else pixels


def _starts(side: int, tile: int, overlap: int) -> list[int]:
    """First px of each tile along a side: evenly spaced, as few as an overlap of at least `overlap` px allows."""
    left = max(0, side - tile)
    count = 1 + -(-left // (tile - overlap))
    return [round(place) for place in np.linspace(0, left, count)]


def _windows(side: int, tile: int, overlap: int) -> dict[int, np.ndarray]:
    bell = np.sin(np.pi * (np.arange(tile) + 0.5) / tile) ** 2
    starts = _starts(side, tile, overlap)
    total = np.zeros(max(side, tile))
    for start in starts:
        total[start : start + tile] += bell
    return {start: (bell / total[start : start + tile]).astype(np.float32) for start in starts}


@dataclass(frozen=True)
class Tiles:
    """N encoded tiles, cut when they are asked for: indexed like a tensor (N, C, tile, tile).

    Each image is scaled as a whole, by its own brightness, before it is cut.
    """

    images: Sequence[np.ndarray]
    """(C, H, W) each."""
    levels: np.ndarray
    """(images, 4) of each image; see `memae.image.preprocess.levels_of`."""
    places: np.ndarray
    """(N, 3) of each tile: the number of its image, first row, first column."""
    preprocess: ImagePreprocess
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    """Where the encoded tiles are wanted."""

    @classmethod
    def of(cls, pixels: np.ndarray, preprocess: ImagePreprocess, origin: str) -> Tiles:
        """All tiles of one image (C, H, W).

        Raises:
            DataError: another number of channels, another range of pixels, or a NaN or infinite one.
        """
        levels = preprocess.checked_levels(pixels, origin)
        places = np.pad(_tiling(pixels, preprocess).places, ((0, 0), (1, 0)))
        return cls([pixels], levels[None], places, preprocess)

    @property
    def tiling(self) -> Tiling:
        """The tiling of the first image."""
        return _tiling(self.images[0], self.preprocess)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: Any) -> Tensor:
        """The encoded tiles (B, C, tile, tile) float32 of a slice or of an index tensor (B,)."""
        places = self.places[index.cpu().numpy() if isinstance(index, Tensor) else index]
        pixels = np.stack([self._tile(*place) for place in places])
        return self.preprocess.encode_levelled(pixels, self.levels[places[:, 0]]).to(self.device)

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, tile, tile)."""
        return len(self), *self.preprocess.shape

    def to(self, device: torch.device) -> Tiles:
        """The same tiles, sent to another device batch by batch."""
        return replace(self, device=torch.device(device))

    def _tile(self, image: int, row: int, column: int) -> np.ndarray:
        pixels = self.images[image]
        return _tiling(pixels, self.preprocess).cut(pixels, row, column)


def _tiling(pixels: np.ndarray, preprocess: ImagePreprocess) -> Tiling:
    """How a model cuts an image (C, H, W)."""
    assert preprocess.overlap is not None
    return Tiling(pixels.shape[1], pixels.shape[2], preprocess.height, preprocess.overlap)


@dataclass(frozen=True)
class OwnSizeImages:
    """S images (C, H, W), each of its own size, one behind the other in a file."""

    images: Sequence[np.ndarray]
    levels: np.ndarray
    """(S, 4) of each image; see `memae.image.preprocess.levels_of`."""
    origin: str
    keys: Sequence[Key]

    def __len__(self) -> int:
        return len(self.images)

    def part(self, rows: Tensor) -> OwnSizeImages:
        """The images of an index (B,)."""
        some = rows.tolist()
        keys = [self.keys[row] for row in some]
        return OwnSizeImages([self.images[row] for row in some], self.levels[rows.numpy()], self.origin, keys)

    def tiles(self, preprocess: ImagePreprocess, most: int | None, generator: np.random.Generator) -> Tiles:
        """The tiles of all images, at most so many drawn from each."""
        places = []
        for number, pixels in enumerate(self.images):
            found = _tiling(pixels, preprocess).places
            if most is not None and len(found) > most:
                found = found[np.sort(generator.choice(len(found), most, replace=False))]
            places.append(np.insert(found, 0, number, axis=1))
        return Tiles(self.images, self.levels, np.concatenate(places), preprocess)


def store_own_size(source: Source, progress: Progress | None = None) -> tuple[OwnSizeImages, tuple[Skipped, ...]]:
    """All images of a source at their own size in a file, and those that were skipped.

    Raises:
        DataError: as `memae.image.dataset.write`, or an image with NaN or infinite pixels.
    """
    levels: list[np.ndarray] = []

    def see(key: Key, pixels: np.ndarray) -> None:
        levels.append(levels_of(pixels, f"{source.origin}: image {key}"))

    flat, keys, shapes, _, skipped = write(source, progress, see)
    ends = np.cumsum([prod(shape) for shape in shapes])
    images = [pixels.reshape(shape) for pixels, shape in zip(np.split(flat, ends[:-1]), shapes, strict=True)]
    return OwnSizeImages(images, np.stack(levels), source.origin, keys), skipped
