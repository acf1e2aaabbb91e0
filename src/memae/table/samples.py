"""Rows of a table as a source gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from memae.types import Key, unreadable_at

__all__ = ["Table"]


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
