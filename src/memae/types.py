"""What a source yields: samples in their own units, each with the key that a user knows it by."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
import pyarrow as pa

__all__ = [
    "EVERYTHING",
    "FrameKey",
    "Frames",
    "Images",
    "Key",
    "Modality",
    "Picture",
    "Samples",
    "Skipped",
    "Table",
]

Key: TypeAlias = Hashable
"""A path, a row number or an index label; it travels to the last row of the output."""

Modality = Literal["image", "table", "video"]

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


Samples: TypeAlias = Images | Table | Frames
