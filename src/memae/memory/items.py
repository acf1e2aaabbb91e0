"""Stored items: what the families have in common that keep N vectors of C numbers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["StoredItems"]


class StoredItems(nn.Module):
    """N items of C numbers, which can be started, replaced and become more; see `memae.memory.base.Editable`.

    Args:
        items: (N, C) the first ones. A parameter learns by gradient, any other tensor becomes a buffer.

    Raises:
        ValueError: no items, or items of no numbers.
    """

    items: Tensor

    def __init__(self, items: Tensor) -> None:
        super().__init__()
        self._numbers = list[str]()
        if items.ndim != 2 or not items.numel():
            raise ValueError(f"items are (N, C) with N and C of at least 1; got shape {tuple(items.shape)}")
        self._hold(items)

    @property
    def num_items(self) -> int:
        """N."""
        return self.items.shape[0]

    @property
    def item_dim(self) -> int:
        """C."""
        return self.items.shape[1]

    @property
    def out_dim(self) -> int:
        """D of a value: C, but for a family that says otherwise."""
        return self.item_dim

    @torch.no_grad()
    def initialise(self, encodings: Tensor) -> None:
        """Makes the first N of the encodings (S, C) the items.

        Raises:
            ValueError: fewer than N, or of another width.
        """
        if encodings.ndim != 2 or len(encodings) < self.num_items or encodings.shape[1] != self.item_dim:
            raise ValueError(
                f"{self.num_items} items of {self.item_dim} numbers cannot start from encodings of shape "
                f"{tuple(encodings.shape)}"
            )
        self.items.copy_(self.as_items(encodings[: self.num_items]))
        self._forget(slice(None))

    @torch.no_grad()
    def replace(self, indices: Tensor, items: Tensor) -> None:
        """Writes items (K, C) over those at the indices (K,)."""
        self.items[indices] = self.as_items(items).to(self.items)
        self._forget(indices)

    @torch.no_grad()
    def extend(self, items: Tensor) -> None:
        """Adds items (K, C). A parameter is a new one then, which an optimiser must be told of."""
        longer = torch.cat([self.items, self.as_items(items).to(self.items)])
        self._hold(nn.Parameter(longer) if isinstance(self.items, nn.Parameter) else longer)
        for name in self._numbers:
            setattr(self, name, F.pad(getattr(self, name), (0, len(items))))

    @torch.no_grad()
    def remove_last(self, count: int) -> None:
        """Takes the last items away again; at least one stays."""
        kept = max(1, self.num_items - count)
        shorter = self.items[:kept].clone()
        self._hold(nn.Parameter(shorter) if isinstance(self.items, nn.Parameter) else shorter)
        for name in self._numbers:
            setattr(self, name, getattr(self, name)[:kept].clone())

    def as_items(self, rows: Tensor) -> Tensor:
        """Rows (K, C) in the form of items: as they are, but for a family that says otherwise."""
        return rows

    def add_number(self, name: str, dtype: torch.dtype) -> None:
        """Adds a buffer `name` (N,) with a number for each item, which is 0 for a new one."""
        self.register_buffer(name, torch.zeros(self.num_items, dtype=dtype))
        self._numbers.append(name)

    def check_queries(self, queries: Tensor) -> None:
        """Raises a ValueError unless queries are (G, T, C)."""
        if queries.ndim != 3 or queries.shape[2] != self.item_dim:
            raise ValueError(
                f"a memory of {self.item_dim}-d items takes queries (G, T, {self.item_dim}); got shape "
                f"{tuple(queries.shape)}"
            )

    def _forget(self, indices: Tensor | slice) -> None:
        for name in self._numbers:
            getattr(self, name)[indices] = 0

    def _hold(self, items: Tensor) -> None:
        if isinstance(items, nn.Parameter):
            self.items = items
        else:
            self.register_buffer("items", items)
