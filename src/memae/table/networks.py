"""Fully connected encoders and decoders for the rows of a table."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import nn

__all__ = ["fully_connected"]


def fully_connected(widths: Sequence[int]) -> nn.Sequential:
    """Linear layers of these widths, input first, with tanh between them and nothing behind the last."""
    stages: list[nn.Module] = []
    for into, out in itertools.pairwise(widths):
        stages += [nn.Linear(into, out), nn.Tanh()]
    return nn.Sequential(*stages[:-1])
