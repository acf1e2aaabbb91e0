"""What a source yields: samples in their own units, each with the key that a user knows it by."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import pyarrow as pa

__all__ = ["EVERYTHING", "Images", "Key", "Modality", "Samples", "Table"]

Key: TypeAlias = Hashable
"""A path, a row number or an index label; it travels to the last row of the output."""

Modality = Literal["image", "table"]

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

    def __len__(self) -> int:
        return len(self.pixels)


@dataclass(frozen=True)
class Table:
    """S rows of named columns."""

    columns: pa.Table
    keys: Sequence[Key]
    origin: str
    """The file or argument that they came from, for messages."""

    def __len__(self) -> int:
        return int(self.columns.num_rows)


Samples: TypeAlias = Images | Table
