"""The items of a memory as a person looks at them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from memae.deprecated import renamed_attribute
from memae.memory.usage import ItemCounts

__all__ = ["MemoryItems", "NearestSample"]


class NearestSample(NamedTuple):
    """A training sample that is near to an item."""

    key: str
    """What the user knows it by; empty in a model that was saved before format 15."""
    picture: np.ndarray | None = None
    """Images and video: (C, h, w) uint8, the sample or, around the place of the item, a patch of it."""
    row: Mapping[str, float | str] | None = None
    """Tables: its values in the columns' own units, as far as the network sees them."""


@dataclass(frozen=True)
class MemoryItems:
    """The items of a memory."""

    usage_counts: np.ndarray
    """(N,) training queries that read each item; 0 is a dead item."""
    duplicates: list[tuple[int, int]]
    """Pairs of items that say the same; see `memae.memory.usage.duplicate_pairs`."""
    pictures: np.ndarray | None
    """Images: (N, C, H, W), each item decoded alone, in the units that the network sees. Video: the middle frame."""
    rows: list[dict[str, float | str]] | None
    """Tables: each item decoded alone, in the columns' own units."""
    samples: list[tuple[NearestSample, ...]] | None = None
    """(N,) the training samples nearest to each item, the nearest first; None where the fit kept none."""
    help: str = ""
    """What the memory does for this data, in a sentence; see `memae.memory_help`. Empty where nobody measured it."""

    uses = renamed_attribute("usage_counts")
    twins = renamed_attribute("duplicates")

    @property
    def counts(self) -> ItemCounts:
        """How many items are used, dead and doubled."""
        used, doubled = int((self.usage_counts > 0).sum()), {item for pair in self.duplicates for item in pair}
        return ItemCounts(len(self.usage_counts), used, len(self.usage_counts) - used, len(doubled))

    @property
    def sample_pictures(self) -> np.ndarray | None:
        """(N, C, h, w) uint8: the nearest sample of each item, grey for items that have none; None without pictures."""
        nearest = [found[0].picture if found else None for found in self.samples or ()]
        known = next((picture for picture in nearest if picture is not None), None)
        if known is None:
            return None
        grey = np.full_like(known, 128)
        return np.stack([grey if picture is None else picture for picture in nearest])
