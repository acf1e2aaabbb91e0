"""The training patch that is nearest to each item of a memory of features: what the item stands for, as a picture."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from memae.files.image import as_8_bit
from memae.memory.base import Fillable, MemoryRead
from memae.types import Encoded

__all__ = ["MOST_ITEMS", "SIDE_PX", "NearestPlaces"]

SIDE_PX = 32  # of a patch
MOST_ITEMS = 1_000  # that have a patch: 3 MB in colour


class NearestPlaces:
    """Looks at the reads of training images, batch by batch, for the place whose query is nearest to each item.

    Args:
        memory: with items of its own.
        positions: (h, w) places of an image.
    """

    def __init__(self, memory: Fillable, positions: tuple[int, ...]) -> None:
        self._memory, self._positions, self._seen = memory, positions, 0
        count = min(len(memory.items), MOST_ITEMS)
        self._nearness = torch.full((count,), -torch.inf)
        self._at = torch.zeros(count, 2, dtype=torch.long)  # the number of the image, and of its place

    @torch.no_grad()
    def see(self, read: MemoryRead) -> None:
        """The read of the next images (B, T, C)."""
        queries = read.queries.float()
        images, places = queries.shape[:2]
        flat = queries.flatten(0, 1)
        nearness = self._nearness_of(flat).masked_fill(~flat.any(dim=1, keepdim=True), -torch.inf)
        best, at = (found.cpu() for found in nearness.max(dim=0))
        nearer = best > self._nearness
        self._nearness[nearer] = best[nearer]
        found = torch.stack([self._seen + at // places, at % places], dim=1)
        self._at[nearer] = found[nearer]
        self._seen += images

    def patches(self, training: Encoded) -> np.ndarray:
        """(N, C, 32, 32) uint8: what lies around those places, of images (S, C, H, W); grey where there is nothing."""
        (rows, columns), (height, width) = self._positions, training.shape[2:]
        found = []
        for image, place in self._at.tolist():
            row, column = divmod(place, columns)
            middle = (2 * row + 1) * height // (2 * rows), (2 * column + 1) * width // (2 * columns)
            found.append(_around(training[image : image + 1][0].cpu(), middle))
        patches = np.stack(found)
        grey = np.nan_to_num(patches, nan=float(np.nanmean(patches)))
        return as_8_bit(grey)

    def _nearness_of(self, queries: Tensor) -> Tensor:
        """(Q, N): greater is nearer."""
        items = self._memory.items[: len(self._at)].detach().float()
        if self._memory.directional:
            return F.normalize(queries, dim=1) @ F.normalize(items, dim=1).T
        return -torch.cdist(queries, items)


def _around(image: Tensor, middle: tuple[int, int]) -> np.ndarray:
    """(C, 32, 32) of an image (C, H, W) around a px; NaN beyond its edges where it is smaller."""
    window = []
    for at, side in zip(middle, image.shape[1:], strict=True):
        start = max(0, min(at - SIDE_PX // 2, side - SIDE_PX))
        window.append(slice(start, start + SIDE_PX))
    cut = image[:, window[0], window[1]]
    patch = torch.full((len(image), SIDE_PX, SIDE_PX), torch.nan)
    patch[:, : cut.shape[1], : cut.shape[2]] = cut
    return patch.numpy()
