"""Finds held-out rows that are equal to a row of the training."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from memae.modality.near_duplicates import NearDuplicates
from memae.types import Encoded

__all__ = ["COMPARED", "SEEN", "near_duplicate_note"]

COMPARED, SEEN = 5_000, 50_000  # held-out rows and rows of the training, at most


def near_duplicate_note(
    held_out: Encoded, held_out_rows: Tensor, seen: Encoded, seen_rows: Tensor, *, grouped: bool
) -> str | None:
    """What to tell the user of equal rows across the split; None where there are few.

    Args:
        held_out: (B, features) encoded rows that set the threshold, in a random order.
        held_out_rows: (B,) their numbers.
        seen: (S, features) encoded rows to train on, in a random order.
        seen_rows: (S,) their numbers.
        grouped: they are of different groups.
    """
    known = dict(zip(_keys(seen, SEEN), seen_rows.tolist(), strict=False))
    found = _keys(held_out, COMPARED)
    pairs = [
        (f"row {row}", f"row {known[key]}")
        for key, row in zip(found, held_out_rows.tolist(), strict=False)
        if key in known
    ]
    cure = "say with `group` which rows belong together, or remove what is repeated"
    return NearDuplicates(pairs, len(found)).note("rows", "equal", cure, grouped=grouped)


def _keys(x: Encoded, most: int) -> list[bytes]:
    """The first rows of x (S, features), each as bytes."""
    some = x[torch.arange(min(most, len(x)))].numpy() + np.float32(0)  # makes -0 to 0
    return [row.tobytes() for row in some]
