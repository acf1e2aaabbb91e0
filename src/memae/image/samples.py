"""Images as a source gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from memae.types import Key, unreadable_at

__all__ = ["Images"]


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
