"""The training samples nearest to each item of a memory: what an item stands for, as far as a fit may keep them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from memae.errors import printable
from memae.files.image import as_8_bit
from memae.memory.base import Fillable, Memory, MemoryRead

__all__ = ["MOST_ITEMS", "NEAREST", "SIDE_PX", "ItemSamples", "NearestQueries", "window"]

NEAREST = 3  # samples of each item
MOST_ITEMS = 1_000  # that have samples: with the pictures of all, at most 9 MB in colour
SIDE_PX = 32  # of a picture
KEY_CHARACTERS = 300


@dataclass(frozen=True)
class ItemSamples:
    """The training samples nearest to each of the first items."""

    nearest: np.ndarray
    """(n, K) int64: which of the S samples are nearest to each item, the nearest first; -1 is none."""
    keys: tuple[Any, ...]
    """(S,) text; while a model is fitted, their numbers among its training samples."""
    pictures: np.ndarray | None = None
    """(S, C, h, w) uint8."""
    rows: np.ndarray | None = None
    """(S, features) float32, encoded."""

    def named(self, key_of: Callable[[int], object] | None) -> ItemSamples:
        """With the key behind each number, as text."""
        return replace(self, keys=tuple(_text(key_of(number) if key_of else number) for number in self.keys))

    def of(self, item: int) -> list[int]:
        """Which of the S samples are nearest to an item; none for one that came later."""
        return [found for found in self.nearest[item].tolist() if found >= 0] if item < len(self.nearest) else []

    def forget(self, changed: np.ndarray) -> None:
        """Takes the samples of items (N,) bool away that are no longer what they were."""
        self.nearest[changed[: len(self.nearest)]] = -1

    def tensors(self) -> dict[str, Tensor]:
        """The arrays, by their names in a model file."""
        arrays = {"nearest": self.nearest, "pictures": self.pictures, "rows": self.rows}
        return {f"item_samples.{name}": torch.from_numpy(one) for name, one in arrays.items() if one is not None}

    @classmethod
    def load(cls, tensors: Mapping[str, Tensor], keys: Sequence[str], items: int) -> ItemSamples | None:
        """Those in a model file; None where the fit kept none.

        Raises:
            ValueError: they do not fit together.
        """
        found = {name: tensors.get(f"item_samples.{name}") for name in ("nearest", "pictures", "rows")}
        nearest, pictures, rows = (None if one is None else one.numpy() for one in found.values())
        if "item_samples" in tensors:  # before format 15: the nearest patch of each item, without a key
            pictures = tensors["item_samples"].numpy()
            nearest, keys = np.arange(len(pictures))[:, None], [""] * len(pictures)
        if nearest is None:
            return None
        if nearest.ndim != 2 or nearest.dtype != np.int64 or len(nearest) > items:
            raise ValueError(f"'item_samples.nearest' is of shape {nearest.shape} and type {nearest.dtype}")
        if nearest.size and not -1 <= nearest.min() <= nearest.max() < len(keys):
            raise ValueError("'item_samples.nearest' names samples that are not there")
        for one, dimensions, kind in ((pictures, 4, np.uint8), (rows, 2, np.float32)):
            if one is not None and (one.ndim != dimensions or one.dtype != kind or len(one) != len(keys)):
                raise ValueError(f"'item_samples' holds {one.dtype} of shape {one.shape} for {len(keys)} samples")
        return cls(nearest, tuple(keys), pictures, rows)


class NearestQueries:
    """Looks at the reads of training samples, batch by batch, for the samples whose queries are nearest to each item.

    Of each sample the nearest query counts, so that an item is shown by different samples.

    Args:
        memory: with items of its own.
    """

    def __init__(self, memory: Fillable) -> None:
        self._memory, self._seen = memory, 0
        count = min(len(memory.items), MOST_ITEMS)
        self._nearness = torch.full((count, NEAREST), -torch.inf)
        self._numbers = torch.full((count, NEAREST), -1)
        self._places = torch.zeros(count, NEAREST, dtype=torch.long)

    @classmethod
    def of(cls, memory: Memory | None, *, wanted: bool) -> NearestQueries | None:
        """For a memory; None where its items are made from the input, or nothing is to be kept."""
        return cls(memory) if wanted and isinstance(memory, Fillable) else None

    @torch.no_grad()
    def see(self, read: MemoryRead) -> None:
        """The read of the next samples (B, T, C)."""
        samples, places = read.queries.shape[:2]
        nearness = self._nearness_of(read.queries.float().flatten(0, 1)).cpu()
        nearer = (nearness.amax(dim=1) > self._nearness[:, -1]).nonzero().squeeze(1)  # few, after some batches
        best, place = nearness[nearer].view(-1, samples, places).max(dim=2)
        best, sample = best.topk(min(NEAREST, samples), dim=1)
        merged = torch.cat([self._nearness[nearer], best], dim=1).topk(NEAREST, dim=1)
        self._nearness[nearer] = merged.values
        for kept, new in ((self._numbers, sample + self._seen), (self._places, place.gather(1, sample))):
            kept[nearer] = torch.cat([kept[nearer], new], dim=1).gather(1, merged.indices)
        self._numbers[self._nearness == -torch.inf] = -1
        self._seen += samples

    def samples(
        self,
        picture_of: Callable[[int, int], np.ndarray] | None = None,
        row_of: Callable[[int], np.ndarray] | None = None,
    ) -> ItemSamples:
        """What was found, each sample once for each of its places.

        Args:
            picture_of: (C, h, w) of the number of a sample and of a place; NaN where there is nothing.
            row_of: (features,) of the number of a sample.
        """
        pairs = torch.stack([self._numbers, self._places], dim=2).numpy()
        if row_of:
            pairs[..., 1] = 0
        distinct, at = np.unique(pairs.reshape(-1, 2), axis=0, return_inverse=True)
        none = int((distinct[:, 0] < 0).sum())
        nearest = np.where(self._numbers.numpy() < 0, -1, at.reshape(self._numbers.shape) - none)
        found = distinct[none:].tolist()
        pictures = (
            np.stack([picture_of(number, place) for number, place in found]) if picture_of and found else None
        )
        return ItemSamples(
            nearest,
            tuple(number for number, _ in found),
            None if pictures is None else _grey_where_empty(pictures),
            np.stack([row_of(number) for number, _ in found]) if row_of and found else None,
        )

    def _nearness_of(self, queries: Tensor) -> Tensor:
        """(N, Q): greater is nearer; of places without an image least of all."""
        items = self._memory.items[: len(self._nearness)].detach().float()
        if self._memory.directional:
            nearness = F.normalize(items, dim=1) @ F.normalize(queries, dim=1).T
            return nearness.masked_fill(~queries.any(dim=1), -torch.inf)
        return -torch.cdist(items, queries)


def window(picture: Tensor, middle: tuple[int, int]) -> np.ndarray:
    """(C, 32, 32) of a picture (C, H, W) around a px; NaN beyond its edges where it is smaller."""
    cuts = []
    for at, side in zip(middle, picture.shape[1:], strict=True):
        start = max(0, min(at - SIDE_PX // 2, side - SIDE_PX))
        cuts.append(slice(start, start + SIDE_PX))
    cut = picture[:, cuts[0], cuts[1]]
    patch = torch.full((len(picture), SIDE_PX, SIDE_PX), torch.nan)
    patch[:, : cut.shape[1], : cut.shape[2]] = cut
    return patch.numpy()


def _grey_where_empty(pictures: np.ndarray) -> np.ndarray:
    if pictures.dtype == np.uint8:
        return pictures
    return as_8_bit(np.nan_to_num(pictures, nan=float(np.nanmean(pictures))))


def _text(key: object) -> str:
    # a path of other bytes than UTF-8 has no place in JSON as it is
    text = str(key).encode(errors="surrogateescape").decode(errors="backslashreplace")
    return printable(text)[:KEY_CHARACTERS]
