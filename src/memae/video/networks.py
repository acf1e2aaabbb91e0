"""3-D convolutional encoders and decoders for clips of any length and size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["ClipLayer", "Fold", "Unfold", "clip_decoder", "clip_encoder", "encoded_clip"]

SLOPE = 0.2  # of LeakyReLU below zero, as in the released code


@dataclass(frozen=True)
class ClipLayer:
    """Conv3d(3, stride, channels), padded by one; the stride is over (time, height, width)."""

    stride: tuple[int, int, int]
    channels: int

    def shrink(self, shape: Sequence[int]) -> tuple[int, ...]:
        """(T, H, W) behind this layer."""
        return tuple((size - 1) // step + 1 for size, step in zip(shape, self.stride, strict=True))


class Fold(nn.Module):
    """(B, 1, T, H, W) to (B, side^2, T, H / side, W / side): each side x side block of pixels becomes channels.

    A convolution on one channel starves the matrix units; on 16 it feeds them.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        """Folds; channels come last in memory."""
        batch, _, time, height, width = x.shape
        side = self.side
        blocks = x.reshape(batch, time, height // side, side, width // side, side).permute(0, 1, 2, 4, 3, 5)
        return blocks.reshape(batch, time, height // side, width // side, side * side).movedim(-1, 1)


class Unfold(nn.Module):
    """The inverse of `Fold`."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        """Unfolds; the result is contiguous."""
        batch, _, time, height, width = x.shape
        side = self.side
        blocks = x.movedim(1, -1).reshape(batch, time, height, width, side, side).permute(0, 1, 2, 4, 3, 5)
        return blocks.reshape(batch, 1, time, height * side, width * side)


def encoded_clip(layers: Sequence[ClipLayer], fold: int, clip: Sequence[int]) -> tuple[int, ...]:
    """(C, T, H, W) of the encoding of a (T, H, W) clip."""
    shape: tuple[int, ...] = (clip[0], clip[1] // fold, clip[2] // fold)
    for layer in layers:
        shape = layer.shrink(shape)
    return (layers[-1].channels, *shape)


def clip_encoder(layers: Sequence[ClipLayer], fold: int, norm: bool = True) -> nn.Sequential:
    """3 x 3 x 3 convolutions, each with BatchNorm and LeakyReLU behind it, the last one too (released code).

    Args:
        layers: in the order of the data.
        fold: px of each side that become channels first; see `Fold`.
        norm: False leaves BatchNorm out.
    """
    stages: list[nn.Module] = [Fold(fold)] if fold > 1 else []
    channels = fold * fold
    for layer in layers:
        stages += [
            nn.Conv3d(channels, layer.channels, 3, layer.stride, 1, bias=not norm),
            *_activation(layer.channels, norm),
        ]
        channels = layer.channels
    return _channels_last(nn.Sequential(*stages))


def clip_decoder(layers: Sequence[ClipLayer], fold: int, clip: Sequence[int], norm: bool = True) -> nn.Sequential:
    """Transposed 3 x 3 x 3 convolutions that undo the encoder layer by layer; nothing behind the last one.

    Args:
        layers: the encoder's, in the order of the data.
        fold: the encoder's.
        clip: (T, H, W) of a clip.
        norm: the encoder's.
    """
    shapes: list[tuple[int, ...]] = [(clip[0], clip[1] // fold, clip[2] // fold)]
    for layer in layers:
        shapes.append(layer.shrink(shapes[-1]))
    outputs = [fold * fold] + [layer.channels for layer in layers[:-1]]
    stages: list[nn.Module] = []
    into = layers[-1].channels
    for place in reversed(range(len(layers))):
        stride, out, last = layers[place].stride, outputs[place], place == 0
        # a stride of 2 forgets whether a side was 15 or 16 long: the output padding tells
        padding = [
            to - ((at - 1) * step + 1)
            for at, to, step in zip(shapes[place + 1], shapes[place], stride, strict=True)
        ]
        biased = last or not norm
        stages.append(nn.ConvTranspose3d(into, out, 3, stride, 1, tuple(padding), bias=biased))  # type: ignore[arg-type]
        if not last:
            stages += _activation(out, norm)
        into = out
    if fold > 1:
        stages.append(Unfold(fold))
    return _channels_last(nn.Sequential(*stages))


def _activation(channels: int, norm: bool) -> list[nn.Module]:
    return [*([nn.BatchNorm3d(channels)] if norm else []), nn.LeakyReLU(SLOPE, inplace=True)]


def _channels_last(stages: nn.Sequential) -> nn.Sequential:
    """The weights in the layout that CPU and GPU convolutions are fastest on."""
    return stages.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload, no-any-return]
