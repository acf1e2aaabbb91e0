"""A fixed bank of filters at several scales, and how its responses are spread over normal images place by place.

The network rebuilds what is coarse; a crack of one px it rebuilds nowhere, also in a normal image. Responses to edges
and to dark and bright lines see it where normal images have none. Nothing here is trained: a place has the mean and the
deviation that the training images have there (Leung and Malik, IJCV 2001, for the filters; Defard et al., ICPR 2021,
for statistics of each position).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from memae.types import Encoded, fitting

__all__ = ["CELL_PX", "FilterStatistics", "responses"]

CELL_PX = 8
"""Side of the places, px."""
SCALES = 3  # each half as fine as the one before
DIRECTIONS = 4
SIDE, WIDTH, LENGTH = 7, 1.0, 1.6  # of a filter: its side, and the deviations across and along it, px
FEWEST = 4  # of the responses that a place stands out by: a line shows in one direction and two or three scales
FLOOR = 0.1  # of the mean variance of a response: where training images have none, rounding is no anomaly
SMALLEST = 1e-12  # that is divided by
BATCH_BYTES = 4 << 20  # of images that are filtered at a time


def responses(x: Tensor) -> Tensor:
    """(B, C', h, w): how images x (B, C, H, W) respond to edges and lines, and their levels, in places of 8 px.

    C' is 12 + C for each of three scales: edges in four directions, bright lines and dark lines in as many, and the
    level of each channel. A response is the root mean square over a place, a level the mean. Edges and lines are those
    of the mean of the channels.
    """
    height, width = (-(-side // CELL_PX) for side in x.shape[2:])
    found, filters, least = [], _filters().to(x), _least().to(x)
    for scale in range(SCALES):
        grey = F.pad(x.mean(dim=1, keepdim=True), (SIDE // 2,) * 4, "replicate")
        squares = torch.maximum(F.conv2d(grey, filters), least).square_()
        of_place = partial(F.avg_pool2d, kernel_size=CELL_PX >> scale, ceil_mode=True)
        parts = of_place(squares).sqrt_(), of_place(x)
        found.append(torch.cat(parts, dim=1)[:, :, :height, :width])
        x = F.avg_pool2d(x, 2, ceil_mode=True)
    return torch.cat(found, dim=1)


@cache
def _filters() -> Tensor:
    """(12, 1, 7, 7): first and second derivatives of a Gaussian in four directions, and the second ones negated.

    Each has mean 0.
    """
    at = torch.arange(SIDE, dtype=torch.float32) - SIDE // 2
    y, x = torch.meshgrid(at, at, indexing="ij")
    edges, lines = [], []
    for direction in range(DIRECTIONS):
        angle = math.pi * direction / DIRECTIONS
        across, along = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
        bell = torch.exp(-(across**2) / (2 * WIDTH**2) - along**2 / (2 * LENGTH**2))
        edges.append(across * bell)
        lines.append((1 - across**2 / WIDTH**2) * bell)
    both = torch.stack([*edges, *lines])[:, None]
    both -= both.mean(dim=(2, 3), keepdim=True)
    both /= both.abs().sum(dim=(2, 3), keepdim=True)
    return torch.cat([both, -both[DIRECTIONS:]])


@cache
def _least() -> Tensor:
    """(12, 1, 1): what counts of a response at least: a bright line is no dark one."""
    return torch.tensor([-math.inf] * DIRECTIONS + [0.0] * (2 * DIRECTIONS))[:, None, None]


@dataclass(frozen=True)
class FilterStatistics:
    """What the training images respond at each place."""

    mean: Tensor
    """(C', h, w) float32."""
    variance: Tensor
    """(C', h, w) float32."""
    usual: Tensor
    """(h, w) float32: what `deviation` is a multiple of."""

    @classmethod
    def fit(cls, training: Encoded) -> Self:
        """The statistics of encoded training images (S, C, H, W); `usual` is their mean squared deviation."""
        size = max(1, fitting(training, BATCH_BYTES))
        batches = [slice(start, start + size) for start in range(0, len(training), size)]
        first = second = total = torch.zeros((), dtype=torch.float64)
        for some in batches:
            found = responses(training[some]).double().cpu()
            first, second = first + found.sum(dim=0), second + found.square().sum(dim=0)
        mean = first / len(training)
        variance = (second / len(training) - mean**2).clamp_min(0)
        bare = cls(mean.float(), variance.float(), torch.ones(mean.shape[1:]))
        for some in batches:
            total = total + bare._squares(training[some]).sum(dim=0, dtype=torch.float64).cpu()
        return replace(bare, usual=(total / len(training)).float())

    def scaled(self, factor: float) -> Self:
        """The same, with deviations that are `factor` times as large."""
        return replace(self, usual=self.usual / factor)

    def deviation(self, x: Tensor) -> Tensor:
        """(B, h, w): how far images x (B, C, H, W) lie from the training images, as a multiple of what these do.

        It is the mean of the four largest squared deviations of responses, in units of their variance at the place.
        """
        return self._squares(x) / (self.usual + FLOOR * self.usual.mean()).clamp_min(SMALLEST).to(x)

    def at_patches(self, x: Tensor, patch_px: int) -> Tensor:
        """(B, h, w): the deviation where the middles of patches of so many px lie."""
        found = self.deviation(x)
        rows, columns = (
            ((torch.arange(-(-side // patch_px)) * patch_px + patch_px // 2) // CELL_PX).clamp_max(most - 1)
            for side, most in zip(x.shape[2:], found.shape[1:], strict=True)
        )
        return found[:, rows.to(x.device)][:, :, columns.to(x.device)]

    def _squares(self, x: Tensor) -> Tensor:
        floor = FLOOR * self.variance.mean(dim=(1, 2), keepdim=True) + SMALLEST
        squares = (responses(x) - self.mean.to(x)).square_().div_((self.variance + floor).to(x))
        found: Tensor = squares.topk(FEWEST, dim=1).values.mean(dim=1)
        return found

    def tensors(self) -> dict[str, Tensor]:
        """The arrays by their names in a model file."""
        return {
            "filter_mean": self.mean.contiguous(),
            "filter_variance": self.variance.contiguous(),
            "filter_usual": self.usual.contiguous(),
        }

    @classmethod
    def load(cls, tensors: Mapping[str, Tensor], shape: tuple[int, ...]) -> Self:
        """Reads the statistics from the tensors of a model file of images (C, H, W).

        Raises:
            KeyError: one is missing.
            ValueError: one is of another shape, or not finite.
        """
        places = tuple(-(-side // CELL_PX) for side in shape[1:])
        channels = SCALES * (3 * DIRECTIONS + shape[0])
        found = {name: tensors[f"filter_{name}"] for name in ("mean", "variance", "usual")}
        for name, tensor in found.items():
            wanted = places if name == "usual" else (channels, *places)
            if tensor.shape != wanted or tensor.dtype != torch.float32:
                raise ValueError(
                    f"'filter_{name}' is of shape {tuple(tensor.shape)}, and the model needs {wanted}"
                )
            if not tensor.isfinite().all() or (name != "mean" and bool((tensor < 0).any())):
                raise ValueError(f"'filter_{name}' holds values that no statistics have")
        return cls(**found)
