"""What a source yields: samples in their own units, each with the key that a user knows it by."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, Self, TypeAlias, runtime_checkable

import numpy as np
import pyarrow as pa

from memae.errors import DataError

__all__ = [
    "EVERYTHING",
    "FrameKey",
    "Frames",
    "Images",
    "Key",
    "Picture",
    "Samples",
    "Skipped",
    "Source",
    "Table",
    "readable",
    "unreadable_at",
]

Key: TypeAlias = Hashable
"""A path, a row number or an index label; it travels to the last row of the output."""

EVERYTHING = 1 << 62
"""A chunk size that means: all samples in one chunk."""


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

    def take(self, rows: np.ndarray) -> Images:
        """The images of an index (B,)."""
        keys = [self.keys[row] for row in rows.tolist()]
        return Images(self.pixels[rows], keys, self.origin, unreadable_at(self, rows))

    def __len__(self) -> int:
        return len(self.pixels)


@dataclass(frozen=True)
class Table:
    """S rows of named columns."""

    columns: pa.Table
    keys: Sequence[Key]
    origin: str
    """The file or argument that they came from, for messages."""
    unreadable: Mapping[int, str] = field(default_factory=dict)
    """Rows that hold nothing, as they could not be read, and why; only a source that was asked to skip has them."""

    def take(self, rows: np.ndarray) -> Table:
        """The rows of an index (B,)."""
        keys = [self.keys[row] for row in rows.tolist()]
        return Table(self.columns.take(rows), keys, self.origin, unreadable_at(self, rows))

    def __len__(self) -> int:
        return int(self.columns.num_rows)


class Skipped(NamedTuple):
    """A bad sample that was left out, as the user asked for."""

    key: Key
    reason: str


class FrameKey(NamedTuple):
    """What a user knows a frame by."""

    video: str
    """The file or frame folder: its path below what was opened, or its name where it was opened itself."""
    frame: int
    """Counted from 0, in the order of presentation."""
    time_s: float
    """Presentation time, from the first frame of the video."""

    def __str__(self) -> str:
        return f"{self.video} at {self.time_s:,.1f} s"


class Picture(Protocol):
    """A frame as it was decoded, at its own size; it becomes pixels only if somebody draws it."""

    @property
    def nbytes(self) -> int:
        """Memory that it holds."""
        ...

    def rgb(self) -> np.ndarray:
        """(H, W, 3) uint8, upright."""
        ...


@dataclass(frozen=True)
class Frames:
    """S consecutive grey frames of one video."""

    pixels: np.ndarray
    """(S, H, W) uint8, at the size that was asked of the source."""
    keys: Sequence[FrameKey]
    origin: str
    """The file or folder that they came from, for messages."""
    pictures: Sequence[Picture] = ()
    """(S,) the same frames as they were decoded; empty unless the source was asked for them."""

    def __len__(self) -> int:
        return len(self.pixels)


class Samples(Protocol):
    """S samples in their own units, as a source gives them."""

    @property
    def keys(self) -> Sequence[Key]:
        """(S,) what the user knows each sample by."""
        ...

    @property
    def origin(self) -> str:
        """The file or argument that they came from, for messages."""
        ...

    @property
    def unreadable(self) -> Mapping[int, str]:
        """Samples that hold nothing, as they could not be read, and why; only a source that skips bad ones has them."""
        ...

    def take(self, rows: np.ndarray) -> Self:
        """The samples of an index (B,)."""
        ...

    def __len__(self) -> int: ...


@runtime_checkable
class Source(Protocol):
    """Samples in chunks, so that memory does not grow with the length of the input."""

    origin: str

    @property
    def modality(self) -> str:
        """The name of the kind of data."""
        ...

    def chunks(self, size: int) -> Iterator[Any]:
        """At most `size` samples at a time, in order, each time from the start."""
        ...

    def labels(self, name: str) -> np.ndarray:
        """(S,) labels as text, from a column, array, folder or file of that name; only an evaluation asks."""
        ...

    def without(self, names: Sequence[str]) -> Source:
        """The same samples without these columns."""
        ...


def unreadable_at(samples: Samples, rows: np.ndarray) -> dict[int, str]:
    """The unreadable samples among those of an index (B,), by their place in it."""
    bad = samples.unreadable
    return {place: bad[row] for place, row in enumerate(rows.tolist()) if row in bad} if bad else {}


def readable(samples: Any) -> tuple[Any, tuple[Skipped, ...]]:
    """The samples without those that could not be read, and these.

    Raises:
        DataError: none can be read.
    """
    if not samples.unreadable:
        return samples, ()
    good = np.ones(len(samples), dtype=bool)
    good[list(samples.unreadable)] = False
    skipped = tuple(Skipped(samples.keys[row], why) for row, why in samples.unreadable.items())
    if not good.any():
        raise DataError(f"{samples.origin}: holds no sample that can be read; the first {skipped[0].reason}")
    return samples.take(np.flatnonzero(good)), skipped
