"""What a preprocess makes and a network takes: encoded samples, whole or made when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any, Protocol

import torch
from torch import Tensor

__all__ = ["FAR", "Encoded", "batches", "fitting"]

FAR = 1e12  # encoded values are cut here, so that float32 still holds their squares and each score is finite


class Encoded(Protocol):
    """Encoded samples that batches are indexed out of: a tensor (S, ...), or what behaves like one."""

    @property
    def device(self) -> torch.device:
        """Where batches come to be."""
        ...

    @property
    def shape(self) -> Sequence[int]:
        """(S, ...)"""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Tensor:
        """The samples (B, ...) of a slice or an index tensor."""
        ...

    def to(self, device: torch.device, /) -> Encoded:
        """The same samples on another device."""
        ...


def batches(x: Encoded, size: int) -> Iterator[Tensor]:
    """All of `x` in order, at most `size` samples at a time."""
    for start in range(0, len(x), size):
        yield x[start : start + size]


def fitting(x: Encoded, limit: int) -> int:
    """How many encoded samples of float32 fit in `limit` bytes, at least one."""
    return max(1, limit // (4 * prod(x.shape[1:])))
