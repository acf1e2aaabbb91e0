"""How far an image is from the size that the network sees: a few pixels enlarged to a picture score as nothing odd."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

from pydantic import BaseModel

__all__ = ["MOST_ENLARGED", "MOST_STRETCHED", "Extent"]

MOST_ENLARGED = 4.0  # times in height or width, unless training images were enlarged more
MOST_STRETCHED = 2.0  # times in one direction more than in the other, unless training images were stretched more


class Extent(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """The sizes of images (height, width) px in relation to the size that the network sees."""

    enlarged: float = 1.0
    """How many times the smallest was enlarged in height or in width; with tiles, how often it fits into one."""
    stretched: float = 1.0
    """How many times more in one direction than in the other; tiles stretch nothing."""

    @classmethod
    def of(cls, sizes: Iterable[tuple[int, int]], seen: tuple[int, int], *, tiled: bool) -> Self:
        """The extent of images of these sizes.

        Args:
            sizes: (height, width) px of each, upright.
            seen: what the network sees.
            tiled: images keep their size and are cut into tiles of what the network sees.
        """
        factors = [(seen[0] / height, seen[1] / width) for height, width in set(sizes)]
        return cls(
            enlarged=max((max(pair) for pair in factors), default=1.0),
            stretched=1.0 if tiled else max((max(pair) / min(pair) for pair in factors), default=1.0),
        )

    def misfit(self, size: tuple[int, int], seen: tuple[int, int], *, tiled: bool) -> str | None:
        """Why an image of a size is too far from the training images of this extent; None if it is not."""
        one, (height, width) = Extent.of([size], seen, tiled=tiled), size
        is_of = f"it is {width} x {height} px, and the model sees {seen[1]} x {seen[0]} px"
        if one.enlarged > max(MOST_ENLARGED, self.enlarged):
            return f"{is_of}: enlarged {one.enlarged:.3g} times, it holds next to nothing of what the model learnt"
        if one.stretched > max(MOST_STRETCHED, self.stretched):
            return f"{is_of}: stretched {one.stretched:.3g} times in one direction, nothing in it keeps its shape"
        return None
