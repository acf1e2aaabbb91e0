"""The samples of a model as named arrays, as programs send them that know no files and no frames."""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["SampleTensor"]


class SampleTensor(NamedTuple):
    """One array that belongs to each sample."""

    name: str
    dtype: Any
    """A type of numpy: numbers, bool, or object for texts."""
    shape: tuple[int, ...] = ()
    """Of one sample; an array of S samples has the shape (S, *shape)."""
