"""The published variants of the method, which the networks of all kinds of data share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["PUBLISHED", "VARIANTS"]

# What the two published readings of the method share over all networks; only the read and the loss differ.
PUBLISHED: Mapping[str, Mapping[str, Any]] = {
    "paper": {
        "memory": {"similarity": "cosine", "temperature": 1.0, "shrinkage": 1.0, "entropy_weight": 2e-4},
        "train": {"reduction": "sum", "patience": 0},
    },
    "released": {
        # the released lambda is 0.0025 at N = 2000, that is 5/N
        "memory": {"similarity": "dot", "temperature": 1.0, "shrinkage": 5.0, "entropy_weight": 2e-4},
        "train": {"reduction": "mean", "patience": 0},
    },
}
VARIANTS = (*PUBLISHED, "default")
