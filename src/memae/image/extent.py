"""How far an image is from the size that the network sees, and from the sizes and shapes of the training images.

What is a little far is scored and told; a few pixels enlarged to a picture would score as nothing odd, and are refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Self, TypeAlias

from pydantic import BaseModel

__all__ = ["FAR", "LEAST_SIDE_PX", "TOO_FAR", "Extent", "Fit", "within"]

FAR = 2.0  # times larger, smaller, or of another shape than any training image: from here on it is told
TOO_FAR = 4.0  # times enlarged or stretched, unless training images were more: from here on it is refused
LEAST_SIDE_PX = 8  # of an image that keeps its shape, as the network sees it, unless training images were as long

Fit: TypeAlias = Literal["stretched", "kept", "tiled"]
"""How images come to the size that the network sees: stretched to it, in their own shape within it, or cut."""


def within(box: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """The largest size (height, width) px of the shape of `size` that a box has room for; at least 1 px."""
    factor = min(box[0] / size[0], box[1] / size[1])
    height, width = (max(1, min(most, round(side * factor))) for side, most in zip(size, box, strict=True))
    return height, width


class Extent(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """The sizes of images (height, width) px in relation to the size that the network sees."""

    enlarged: float = 1.0
    """How many times the smallest was enlarged in height or in width; with tiles, how often it fits into one."""
    stretched: float = 1.0
    """How many times more in one direction than in the other; 1 where nothing is stretched."""
    shrunk: float | None = None
    """How many times the largest was made smaller; None: not known, as in models of before 0.2.0."""
    shapes: tuple[float, float] | None = None
    """The least and the greatest width as a multiple of the height; None: not known, or stretched away."""

    @classmethod
    def of(cls, sizes: Iterable[tuple[int, int]], seen: tuple[int, int], fit: Fit) -> Self:
        """The extent of images of these sizes.

        Args:
            sizes: (height, width) px of each, upright.
            seen: what the network sees.
            fit: how they come to it.
        """
        distinct = set(sizes)
        factors = [(seen[0] / height, seen[1] / width) for height, width in distinct]
        if not factors:
            return cls()
        if fit == "kept":  # by the smaller of both factors, so that nothing lies outside
            factors = [(min(pair), min(pair)) for pair in factors]
        shapes = [width / height for height, width in distinct]
        return cls(
            enlarged=max(max(pair) for pair in factors),
            stretched=max(max(pair) / min(pair) for pair in factors) if fit == "stretched" else 1.0,
            shrunk=None if fit == "tiled" else max(1 / min(pair) for pair in factors),
            shapes=(min(shapes), max(shapes)) if fit == "kept" else None,
        )

    def misfit(self, size: tuple[int, int], seen: tuple[int, int], fit: Fit) -> str | None:
        """Why an image of a size is too far from the training images of this extent to be scored; None if it is not."""
        one, is_of = Extent.of([size], seen, fit), _is_of(size, seen)
        if one.enlarged > max(TOO_FAR, self.enlarged):
            return f"{is_of}: enlarged {one.enlarged:.3g} times, it holds next to nothing of what the model learnt"
        if one.stretched > max(TOO_FAR, self.stretched):
            return f"{is_of}: stretched {one.stretched:.3g} times in one direction, nothing in it keeps its shape"
        if fit == "kept" and min(within(seen, size)) < LEAST_SIDE_PX and self._farther_shaped(one) > 1:
            height, width = within(seen, size)
            return f"{is_of}: in its own shape that leaves {width} x {height} px of it, and nothing to be seen"
        return None

    def remark(self, size: tuple[int, int], seen: tuple[int, int], fit: Fit) -> str | None:
        """Why the score of an image of a size means less than that of others; None if it does not."""
        one, is_of = Extent.of([size], seen, fit), _is_of(size, seen)
        if one.enlarged > max(FAR, self.enlarged):
            return f"{is_of}: enlarged {one.enlarged:.3g} times"
        if one.stretched > max(FAR, self.stretched):
            return f"{is_of}: stretched {one.stretched:.3g} times in one direction"
        if self.shrunk is not None and one.shrunk is not None and one.shrunk > FAR * max(1.0, self.shrunk):
            return f"{is_of}: shrunk {one.shrunk:.3g} times"
        if self._farther_shaped(one) > FAR:
            return f"{is_of}, and no training image was of such a shape"
        return None

    def _farther_shaped(self, one: Extent) -> float:
        """How many times the shape of one image is longer than that of any training image; 1 where nothing is known."""
        if self.shapes is None or one.shapes is None:
            return 1.0
        return max(1.0, self.shapes[0] / one.shapes[0], one.shapes[1] / self.shapes[1])


def _is_of(size: tuple[int, int], seen: tuple[int, int]) -> str:
    return f"it is {size[1]} x {size[0]} px, and the model sees {seen[1]} x {seen[0]} px"
