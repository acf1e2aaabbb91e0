"""A layer as a list of place pairs: which place of its input leads to which of its output, by which weight."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["PlacePairs"]


class PlacePairs(NamedTuple):
    """The pairs (tap, out, into) of a layer.

    The weight at `tap` of the kernel leads from place `into` of the input to place `out` of the output. A place is a
    pixel of a map, counted row by row; the row of a table has a single one. Taps on the padding have no pair.
    """

    places_in: int
    places_out: int
    taps: int
    tap: np.ndarray
    """(pairs,) int32, and so are the others."""
    out: np.ndarray
    into: np.ndarray

    @classmethod
    def pointwise(cls, places: int) -> PlacePairs:
        """Each place to itself by the same tap: a 1 x 1 convolution, or a linear layer where there is one place."""
        place = np.arange(places, dtype=np.int32)
        return cls(places, places, 1, np.zeros_like(place), place, place)

    @classmethod
    def flattened(cls, places: int) -> PlacePairs:
        """Each place to a single one by a tap of its own: a linear layer on the flattened map."""
        place = np.arange(places, dtype=np.int32)
        return cls(places, 1, places, place, np.zeros_like(place), place)

    @classmethod
    def convolution(
        cls, size_in: tuple[int, int], size_out: tuple[int, int], kernel: int, stride: int, padding: int
    ) -> PlacePairs:
        """Those of a square kernel, from a map of one size (height, width) to one of another."""
        (row, y_out, y_in), (column, x_out, x_in) = (
            _axis_pairs(*sizes, kernel, stride, padding) for sizes in zip(size_in, size_out, strict=True)
        )
        tap, out, into = (
            np.add.outer(one, other).astype(np.int32).ravel()
            for one, other in ((row * kernel, column), (y_out * size_out[1], x_out), (y_in * size_in[1], x_in))
        )
        return cls(size_in[0] * size_in[1], size_out[0] * size_out[1], kernel**2, tap, out, into)

    @property
    def transposed(self) -> PlacePairs:
        """From the output to the input: those of the transposed layer."""
        return PlacePairs(self.places_out, self.places_in, self.taps, self.tap, self.into, self.out)


def _axis_pairs(into: int, out: int, kernel: int, stride: int, padding: int) -> tuple[np.ndarray, ...]:
    """Along one axis: tap, place of the output and place of the input of each pair."""
    reached = np.arange(out)[:, None] * stride - padding + np.arange(kernel)
    at, tap = np.nonzero((reached >= 0) & (reached < into))
    return tap, at, reached[at, tap]
