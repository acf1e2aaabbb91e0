"""Frames of video as a source gives them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

__all__ = ["FrameKey", "FrameReader", "Frames", "Picture"]


class FrameKey(NamedTuple):
    """The key of a frame: its video, number and time."""

    video: str
    """The file or frame folder: its path below what was opened, or its name where it was opened itself."""
    frame: int
    """Counted from 0, in the order of presentation."""
    time_s: float
    """Presentation time, from the first frame of the video."""

    def __str__(self) -> str:
        return f"{self.video} at {self.time_s:,.1f} s"


class Picture(Protocol):
    """A decoded frame at its own size; it is converted to RGB only if it is drawn."""

    @property
    def nbytes(self) -> int:
        """Memory that it takes, bytes."""
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


class FrameReader(Protocol):
    """A source of video."""

    origin: str

    def chunks(self, size: int) -> Iterator[Frames]:
        """Consecutive frames, at most `size` of one video at a time."""
        ...
