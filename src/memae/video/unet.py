"""The U-Net of MNAD and MPN: predicts the last frame of a clip from those before it, or rebuilds a clip.

H. Park, J. Noh, B. Ham, "Learning Memory-guided Normality for Anomaly Detection", CVPR 2020, arXiv 2003.13228: the
memory lies at the bottleneck. H. Lv et al., "Learning Normal Dynamics in Videos with Meta Prototype Network", CVPR
2021, arXiv 2104.06689: the unit reads the last map, at full resolution, and there is no BatchNorm.

Frames are channels here, and all convolutions are 3 x 3. Maps are (B, C, 1, h, w) between the parts of an autoencoder,
as the maps of clips have an axis of time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["UNet"]


class Contracted(NamedTuple):
    """What the contracting half makes of frames."""

    encoding: Tensor
    """(B, C, h, w)"""
    skips: tuple[Tensor, ...]
    """The map of each level above the encoding, the largest first; empty without skips."""


@dataclass(frozen=True)
class UNet:
    """A U-Net for clips (B, 1, T, H, W); H and W are multiples of `shrinking`.

    With skips an item cannot be decoded alone, and a network that sees what it rebuilds would copy it past the memory.
    So a prediction has skips, and a reconstruction has none.
    """

    channels: tuple[int, ...]
    """Of each level, at least two; every level but the first has half the resolution of the one before."""
    seen: int
    """Frames at the beginning of a clip that it sees."""
    made: int
    """Frames at the end of a clip that it makes."""
    skips: bool
    norm: bool
    """BatchNorm behind the convolutions."""
    late: bool
    """The encoding is the last map of the whole U-Net, of full resolution, and the decoder only its head."""

    @property
    def shrinking(self) -> int:
        """Px of a frame on each side of a position of the bottleneck."""
        return int(2 ** (len(self.channels) - 1))

    @property
    def last_map(self) -> int:
        """Channels of the map before the head."""
        return 2 * self.channels[0] if self.skips else self.channels[1]

    def encoded(self, height: int, width: int) -> tuple[int, ...]:
        """(C, 1, h, w) of the encoding of a clip of frames of this size."""
        if self.late:
            return self.last_map, 1, height, width
        return self.channels[-1], 1, height // self.shrinking, width // self.shrinking

    def encoder(self) -> nn.Module:
        """From clips to an encoding, with skips where there are any and the decoder expands."""
        contraction = Contraction(self.seen, self.channels, self.skips, self.norm)
        if self.late:
            return WholeBody(contraction, self._expansion(1))
        return FrameEncoder(contraction)

    def decoder(self, widening: int = 1) -> nn.Module:
        """From an encoding to frames in [-1, 1]; `widening`: see `memae.memory.base.widening`."""
        wide = self.last_map * (widening if self.late else 1)
        head = _Head(wide, self.channels[0], self.made, self.norm)
        return FrameDecoder(None if self.late else self._expansion(widening), head)

    def _expansion(self, widening: int) -> Expansion:
        return Expansion(self.channels, self.skips, self.norm, widening)


class Contraction(nn.Module):
    """The first frames of clips (B, 1, T, H, W) to an encoding: two convolutions a level, 2 x 2 pooling between levels.

    Nothing follows the last convolution, as a query may point anywhere.
    """

    def __init__(self, frames: int, channels: Sequence[int], skips: bool, norm: bool) -> None:
        super().__init__()
        wide = (frames, *channels)
        self.frames, self.skips = frames, skips
        self.levels = nn.ModuleList(_block(*pair, norm) for pair in pairwise(wide[:-1]))
        self.last = nn.Sequential(
            *_convolution(wide[-2], wide[-1], norm), nn.Conv2d(wide[-1], wide[-1], 3, padding=1)
        )
        self.pool = nn.MaxPool2d(2)

    def forward(self, clips: Tensor) -> Contracted:
        """The encoding, and the map of each level above it if skips are wanted."""
        skips, x = list[Tensor](), clips[:, 0, : self.frames]
        for level in self.levels:
            x = level(x)
            skips.append(x)
            x = self.pool(x)
        return Contracted(self.last(x), tuple(skips) if self.skips else ())


class Expansion(nn.Module):
    """Values (B, D, h, w) to the last map (B, C, H, W): transposed convolutions, with the skip of each level beside."""

    def __init__(self, channels: Sequence[int], skips: bool, norm: bool, widening: int) -> None:
        super().__init__()
        self.first = _block(channels[-1] * widening, channels[-1], norm)
        self.ups, self.blocks = nn.ModuleList(), nn.ModuleList()
        for place in reversed(range(len(channels) - 1)):
            here, below = channels[place], channels[place + 1]
            up = here if skips else below
            self.ups.append(_up(below, up, norm))
            self.blocks.append(_block(2 * up if skips else up, here, norm) if place else nn.Identity())

    def forward(self, values: Tensor, skips: tuple[Tensor, ...] = ()) -> Tensor:
        """The map before the head; `skips` are those of `Contraction`."""
        x: Tensor = self.first(values)
        beside = list(skips)
        for up, block in zip(self.ups, self.blocks, strict=True):
            x = up(x)
            x = block(torch.cat([x, beside.pop()], dim=1) if beside else x)
        return x


class FrameEncoder(nn.Module):
    """Clips (B, 1, T, H, W) to the encoding of their first frames, and skips where there are any."""

    def __init__(self, contraction: Contraction) -> None:
        super().__init__()
        self.contraction = contraction

    def forward(self, clips: Tensor) -> Tensor | tuple[Tensor, tuple[Tensor, ...]]:
        """The encoding (B, C, 1, h, w)."""
        found = self.contraction(clips)
        encoding = found.encoding[:, :, None]
        return (encoding, found.skips) if found.skips else encoding


class WholeBody(nn.Module):
    """Clips (B, 1, T, H, W) to the last map of a U-Net (B, C, 1, H, W)."""

    def __init__(self, contraction: Contraction, expansion: Expansion) -> None:
        super().__init__()
        self.contraction, self.expansion = contraction, expansion

    def forward(self, clips: Tensor) -> Tensor:
        """The map before the head, which the memory reads."""
        last: Tensor = self.expansion(*self.contraction(clips))
        return last[:, :, None]


class FrameDecoder(nn.Module):
    """Values (B, D, 1, h, w) to the frames (B, 1, F, H, W) at the end of a clip."""

    def __init__(self, expansion: Expansion | None, head: nn.Module) -> None:
        super().__init__()
        self.expansion, self.head = expansion, head

    def forward(self, values: Tensor, skips: tuple[Tensor, ...] = ()) -> Tensor:
        """Frames in [-1, 1]."""
        flat = values[:, :, 0]
        frames: Tensor = self.head(flat if self.expansion is None else self.expansion(flat, skips))
        return frames[:, None]


class _Head(nn.Sequential):
    """The last map to frames in [-1, 1]."""

    def __init__(self, channels: int, narrow: int, frames: int, norm: bool) -> None:
        last = nn.Conv2d(narrow, frames, 3, padding=1)
        super().__init__(*_block(channels, narrow, norm), last, nn.Tanh())


def _convolution(channels: int, out: int, norm: bool) -> list[nn.Module]:
    return [nn.Conv2d(channels, out, 3, padding=1, bias=not norm), *_activation(out, norm)]


def _block(channels: int, out: int, norm: bool) -> nn.Sequential:
    return nn.Sequential(*_convolution(channels, out, norm), *_convolution(out, out, norm))


def _up(channels: int, out: int, norm: bool) -> nn.Sequential:
    twice = nn.ConvTranspose2d(channels, out, 3, stride=2, padding=1, output_padding=1, bias=not norm)
    return nn.Sequential(twice, *_activation(out, norm))


def _activation(channels: int, norm: bool) -> list[nn.Module]:
    return [*([nn.BatchNorm2d(channels)] if norm else []), nn.ReLU(inplace=True)]
