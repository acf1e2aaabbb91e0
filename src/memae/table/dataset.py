"""A table to train on that does not fit into memory: its encoded rows, in a file."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memae.errors import DataError
from memae.files.atomic import temporary_file

__all__ = ["Rows"]

FREE_SHARE = 0.05  # of the disk, which is left to others


@dataclass(frozen=True)
class Rows:
    """S of the encoded rows of a table, read when they are asked for: indexed like a tensor (S, features).

    All rows lie in the order of the table in a nameless temporary file, which the system keeps in memory as far as
    there is room; a part of them is a choice of row numbers.
    """

    stored: Tensor
    """(R, features) float32, mapped."""
    chosen: Tensor
    """(S,) row numbers."""
    device: torch.device

    @classmethod
    def write(cls, parts: Iterable[Tensor], shape: tuple[int, ...], origin: str) -> Rows:
        """All rows, from parts that make up `shape` (R, features) together.

        Raises:
            DataError: the disk of temporary files has no room.
        """
        needed, folder = 4 * prod(shape), Path(tempfile.gettempdir())
        disk = shutil.disk_usage(folder)
        if needed > disk.free - FREE_SHARE * disk.total:
            raise DataError(
                f"{origin}: does not fit into memory, and its encoded rows take {needed / 1e9:.1f} GB of disk; "
                f"{folder} has {disk.free / 1e9:.1f} GB free, and a twentieth of the disk is left alone. Free some, or "
                "set TMPDIR to a folder on another disk"
            )
        with temporary_file("the encoded rows") as file:
            for part in parts:
                file.write(part.numpy().data)
            file.flush()
            stored = np.memmap(file, dtype=np.float32, mode="r+", shape=shape)
        return cls(torch.from_numpy(stored), torch.arange(shape[0]), torch.device("cpu"))

    def part(self, rows: Tensor) -> Rows:
        """The rows of these numbers, in that order."""
        return replace(self, chosen=self.chosen[rows])

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: Any) -> Tensor:
        """The rows (B, features) of a slice or of an index tensor (B,)."""
        index = index.cpu() if isinstance(index, Tensor) else index
        return self.stored.index_select(0, self.chosen[index]).to(self.device)

    @property
    def shape(self) -> tuple[int, ...]:
        """(S, features)."""
        return len(self), self.stored.shape[1]

    def to(self, device: torch.device) -> Rows:
        """The same rows, given out on another device."""
        return replace(self, device=device)
