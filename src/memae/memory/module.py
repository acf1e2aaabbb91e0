"""`MemoryModule`, the name and form of MemAE's memory until version 0.2.0."""

from __future__ import annotations

import warnings
from typing import Any

from torch import Tensor, nn

from memae.autoencoder import Autoencoder
from memae.config import Query
from memae.memory.memae import MemAE
from memae.memory.ops import SparseRead

__all__ = ["MemoryModule"]


class MemoryModule(MemAE):
    """`memae.MemAE` that is asked with encodings: until 0.2.0, with a warning.

    Args:
        num_items, item_dim, settings: as `MemAE`.
        query: "position" or "whole"; an argument of `Autoencoder` now, which takes it from here.
    """

    def __init__(self, num_items: int, item_dim: int, *, query: Query = "position", **settings: Any) -> None:
        warnings.warn(
            "memae.MemoryModule is memae.MemAE now, and its `query` an argument of memae.Autoencoder; the old name "
            "ends with version 0.2.0",
            FutureWarning,
            stacklevel=2,
        )
        super().__init__(num_items, item_dim, **settings)
        self.query: Query = query

    def forward(self, encoding: Tensor) -> SparseRead:
        """The read for an encoding (B, C, ...), as `memae.read_memory` gives it; `value` has the encoding's shape."""
        values, read = Autoencoder(nn.Identity(), self, nn.Identity()).read(encoding)
        assert read.weights is not None and read.entropy is not None and read.fallback is not None
        return SparseRead(values, *(part.flatten(0, 1) for part in (read.weights, read.entropy, read.fallback)))
