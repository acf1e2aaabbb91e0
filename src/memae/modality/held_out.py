"""Held-out normal samples that a model keeps, so that a memory that was taught can be calibrated again."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

__all__ = ["HeldOut"]

MOST_SAMPLES, MOST_BYTES = 1_000, 4 << 20
FEWEST_SAMPLES = 100
"""Fewer say too little of a threshold to be worth their room, unless there are no more."""


class HeldOut(NamedTuple):
    """Some of the samples that the threshold was set from."""

    samples: Tensor
    """(S, ...) float32, encoded."""
    groups: np.ndarray | None
    """(S,) int64 the number of the group of each; None: each is its own."""

    @classmethod
    def of(cls, calibration: Any, groups: np.ndarray | None) -> Self | None:
        """At most 1,000 samples and 4 MiB, evenly taken out of the held-out part.

        None for what is not encoded sample by sample (video, tiles), and where so little room holds fewer than 100.
        """
        shape = getattr(calibration, "shape", None)
        if shape is None or not len(calibration):
            return None
        most = min(MOST_SAMPLES, MOST_BYTES // (4 * prod(shape[1:])))
        if most < min(FEWEST_SAMPLES, len(calibration)):
            return None
        rows = torch.linspace(0, len(calibration) - 1, min(most, len(calibration))).round().long()
        samples = calibration[rows].cpu().float()
        if not bool(torch.isfinite(samples).all()):  # an image that keeps its shape is empty beside it
            return None
        return cls(samples, None if groups is None else groups[rows.numpy()])

    def with_more(self, samples: Tensor) -> HeldOut:
        """With further samples behind them, each a group of its own."""
        groups = self.groups
        if groups is not None:
            groups = np.append(groups, groups.max(initial=-1) + 1 + np.arange(len(samples)))
        return HeldOut(torch.cat([self.samples, samples]), groups)

    def first(self, count: int) -> HeldOut:
        """The first so many."""
        return HeldOut(self.samples[:count], None if self.groups is None else self.groups[:count])

    def tensors(self) -> dict[str, Tensor]:
        """The arrays, by their names in a model file."""
        found = {"held_out": self.samples.contiguous()}
        return found if self.groups is None else found | {"held_out_groups": torch.from_numpy(self.groups)}

    @classmethod
    def load(cls, tensors: Mapping[str, Tensor], shape: tuple[int, ...]) -> Self | None:
        """Those in a model file; None where it holds none.

        Raises:
            ValueError: they are of another shape than the model takes.
        """
        samples, groups = tensors.get("held_out"), tensors.get("held_out_groups")
        if samples is None:
            return None
        if tuple(samples.shape[1:]) != tuple(shape) or samples.dtype != torch.float32 or not len(samples):
            raise ValueError(f"'held_out' is of shape {tuple(samples.shape)} and type {samples.dtype}")
        if groups is not None and (groups.shape != samples.shape[:1] or groups.dtype != torch.int64):
            raise ValueError(f"'held_out_groups' is of shape {tuple(groups.shape)} and type {groups.dtype}")
        return cls(samples, None if groups is None else groups.numpy())
