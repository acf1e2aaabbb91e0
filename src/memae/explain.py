"""Why a sample scored as it did: which items rebuilt it, where it differs, and what an item looks like."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from memae.autoencoder import Autoencoder
from memae.image.preprocess import ImagePreprocess, TablePreprocess
from memae.memory.base import Fillable, MemoryRead
from memae.scoring import JoinedMap, heat, squares_of
from memae.table.schema import Cell
from memae.types import Key
from memae.video.preprocess import VideoPreprocess

__all__ = ["Explanation", "ItemUse", "MemoryItems", "decode_items", "items_used"]


ITEM_POSITIONS = 4  # on each side of the map that a video item is decoded on
ITEM_BATCH = 32


@dataclass(frozen=True, slots=True)
class ItemUse:
    """One item's part in rebuilding a sample."""

    item: int
    weight: float
    """Its share of the sample's reads; the weights of all items add up to 1."""


@dataclass(frozen=True)
class Explanation:
    """One sample, what the model made of it, and from what."""

    key: Key
    score: float
    p_value: float | None
    """Conformal p-value; None for a model without a threshold."""
    items: tuple[ItemUse, ...]
    """The items that rebuilt it, strongest first; empty for a plain autoencoder."""
    cells: tuple[Cell, ...]
    """Tables: each column as seen and as expected, most surprising first; their errors add up to the score."""
    x: np.ndarray | None
    """Images: (C, H, W) as the network saw it, after per-image scaling. Video: (1, H, W), the frame in its clip."""
    reconstruction: np.ndarray | None
    """Images: (C, H, W) as the network rebuilt it."""
    error_map: np.ndarray | None
    """Images: (H, W) squared error, the mean over the channels; with `score.relative` how many times that which is
    usual in its square. Video: of the frame."""
    square_px: int = 1
    """Images: side of the squares whose mean errors have heat."""
    joined: JoinedMap | None = None
    """The error map of the whole of an image that was cut into tiles; x, reconstruction, error_map and items are then
    those of its hottest tile."""
    tile_at: tuple[int, int] | None = None
    """First row and column of that tile, px."""

    @property
    def heat(self) -> np.ndarray:
        """(h, w) of the squares of an image; see `memae.scoring.heat`."""
        return self.joined.heat if self.joined else heat(self.squares)

    @property
    def squares(self) -> np.ndarray:
        """(h, w): the mean of the error map in each square of an image."""
        assert self.error_map is not None, "only images have squares"
        return squares_of(self.error_map, self.square_px)


@dataclass(frozen=True)
class MemoryItems:
    """The memory laid open."""

    uses: np.ndarray
    """(N,) training queries that read each item; 0 is a dead item."""
    twins: list[tuple[int, int]]
    """Pairs of items with a cosine of at least 0.99."""
    pictures: np.ndarray | None
    """Images: (N, C, H, W), each item decoded alone, in the units that the network sees. Video: the middle frame."""
    rows: list[dict[str, float | str]] | None
    """Tables: each item decoded alone, in the columns' own units."""


def items_used(read: MemoryRead, rows: Iterable[int] | None = None) -> list[tuple[ItemUse, ...]]:
    """For the samples of a batch, all or some rows, the items read, strongest first; weights averaged over queries."""
    found = []
    for row in range(len(read.queries)) if rows is None else rows:  # a copy of all weights may not fit
        weights = read.shares[row].mean(dim=0).cpu()
        used = weights.nonzero().squeeze(1)
        used = used[weights[used].argsort(descending=True, stable=True)]
        found.append(tuple(map(ItemUse, used.tolist(), weights[used].tolist())))
    return found


@torch.inference_mode()
def decode_items(
    model: Autoencoder, preprocess: ImagePreprocess | TablePreprocess | VideoPreprocess
) -> tuple[np.ndarray | None, list[dict[str, float | str]] | None]:
    """Pictures (N, C, H, W) or rows of each item decoded alone, by the kind of data; (None, None) without items.

    An item of one position fills the whole map, as if every place of the image were of its kind.
    """
    if not isinstance(model.memory, Fillable):
        return None, None
    model.eval()
    # a decoder that takes the query beside the item gets the item for both: a query that is the item finds it
    items = model.memory.items.repeat(1, model.memory.out_dim // model.memory.item_dim)
    if isinstance(preprocess, TablePreprocess):
        names = [column.name for column in preprocess.columns]
        rows = preprocess.readable(model.decoder(items).cpu())
        return None, [dict(zip(names, row, strict=True)) for row in rows]
    shape = _encoding_shape(model, preprocess.shape)
    whole = model.query == "whole"
    if isinstance(preprocess, VideoPreprocess):
        # a few positions a side show what an item is; the whole frame would hold nothing else
        few = shape if whole else (*shape[:2], *(min(side, ITEM_POSITIONS) for side in shape[2:]))
        parts = [
            model.decoder(part.view(-1, *shape) if whole else part[:, :, None, None, None].expand(-1, *few))
            for part in torch.split(items, ITEM_BATCH)
        ]
        return torch.cat([part[:, :, part.shape[2] // 2] for part in parts]).float().cpu().numpy(), None
    encodings = items.view(-1, *shape) if whole else items[:, :, None, None].expand(-1, *shape)
    return model.decoder(encodings).cpu().numpy(), None


def _encoding_shape(model: Autoencoder, shape: tuple[int, ...]) -> tuple[int, ...]:
    device = next(model.parameters()).device
    encoding: Tensor = model.encoder(torch.zeros(1, *shape, device=device))
    return tuple(encoding.shape[1:])
