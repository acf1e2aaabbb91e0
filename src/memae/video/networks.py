"""3-D convolutional encoders and decoders for clips of any length and size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ChannelsToPatches", "ClipLayer", "PatchesToChannels", "clip_decoder", "clip_encoder", "encoded_clip"]

SLOPE = 0.2  # of LeakyReLU below zero, as in the released code


@dataclass(frozen=True)
class ClipLayer:
    """Conv3d(3, stride, channels), padded by one; the stride is over (time, height, width)."""

    stride: tuple[int, int, int]
    channels: int

    def shrink(self, shape: Sequence[int]) -> tuple[int, ...]:
        """(T, H, W) behind this layer."""
        return tuple((size - 1) // step + 1 for size, step in zip(shape, self.stride, strict=True))


class PatchesToChannels(nn.Module):
    """(B, 1, T, H, W) to (B, side^2, T, H / side, W / side): side x side patches become channels (pixel unshuffle).

    A convolution on one channel starves the matrix units; on 16 it feeds them.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        """Patches become channels, which come last in memory."""
        batch, _, time, height, width = x.shape
        side = self.side
        blocks = x.reshape(batch, time, height // side, side, width // side, side).permute(0, 1, 2, 4, 3, 5)
        return blocks.reshape(batch, time, height // side, width // side, side * side).movedim(-1, 1)


class ChannelsToPatches(nn.Module):
    """The inverse of `PatchesToChannels`."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        """Channels become patches; the result is contiguous."""
        batch, _, time, height, width = x.shape
        side = self.side
        blocks = x.movedim(1, -1).reshape(batch, time, height, width, side, side).permute(0, 1, 2, 4, 3, 5)
        return blocks.reshape(batch, 1, time, height * side, width * side)


def encoded_clip(layers: Sequence[ClipLayer], patch_px: int, clip: Sequence[int]) -> tuple[int, ...]:
    """(C, T, H, W) of the encoding of a (T, H, W) clip."""
    shape: tuple[int, ...] = (clip[0], clip[1] // patch_px, clip[2] // patch_px)
    for layer in layers:
        shape = layer.shrink(shape)
    return (layers[-1].channels, *shape)


def clip_encoder(layers: Sequence[ClipLayer], patch_px: int, norm: bool = True) -> nn.Sequential:
    """3 x 3 x 3 convolutions, each with BatchNorm and LeakyReLU behind it, the last one too (released code).

    Args:
        layers: in the order of the data.
        patch_px: px of each side that become channels first; see `PatchesToChannels`.
        norm: False leaves BatchNorm out.
    """
    stages: list[nn.Module] = [PatchesToChannels(patch_px)] if patch_px > 1 else []
    channels = patch_px * patch_px
    for layer in layers:
        stages += [
            nn.Conv3d(channels, layer.channels, 3, layer.stride, 1, bias=not norm),
            *_activation(layer.channels, norm),
        ]
        channels = layer.channels
    return _channels_last(nn.Sequential(*stages))


def clip_decoder(
    layers: Sequence[ClipLayer], patch_px: int, clip: Sequence[int], norm: bool = True, widening: int = 1
) -> nn.Sequential:
    """Transposed 3 x 3 x 3 convolutions that undo the encoder layer by layer; nothing behind the last one.

    Args:
        layers: the encoder's, in the order of the data.
        patch_px: the encoder's.
        clip: (T, H, W) of a clip.
        norm: the encoder's.
        widening: see `memae.memory.base.widening`.
    """
    shapes: list[tuple[int, ...]] = [(clip[0], clip[1] // patch_px, clip[2] // patch_px)]
    for layer in layers:
        shapes.append(layer.shrink(shapes[-1]))
    outputs = [patch_px * patch_px] + [layer.channels for layer in layers[:-1]]
    stages: list[nn.Module] = []
    into = layers[-1].channels * widening
    for place in reversed(range(len(layers))):
        stride, out, last = layers[place].stride, outputs[place], place == 0
        # a stride of 2 forgets whether a side was 15 or 16 long: the output padding tells
        padding = [
            to - ((at - 1) * step + 1)
            for at, to, step in zip(shapes[place + 1], shapes[place], stride, strict=True)
        ]
        kind = ToOneChannel if last and (out, *stride) == (1, 1, 2, 2) else nn.ConvTranspose3d
        out_padding: Any = tuple(padding)  # of three numbers, which is what torch's annotation asks for
        stages.append(kind(into, out, 3, stride, 1, out_padding, bias=last or not norm))
        if not last:
            stages += _activation(out, norm)
        into = out
    if patch_px > 1:
        stages.append(ChannelsToPatches(patch_px))
    return _channels_last(nn.Sequential(*stages))


class ToOneChannel(nn.ConvTranspose3d):
    """A transposed 3 x 3 x 3 convolution of stride (1, 2, 2) and padding 1 to one channel.

    Runtimes starve on one channel. Without gradient it is a convolution to twelve: each position gives four pixels at
    three points in time, and sees itself and its neighbours below and beside. Row 2 i of the result sees row i by tap
    1; row 2 i + 1 sees row i by tap 2 and row i + 1 by tap 0; columns alike.
    """

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(B, C, T, H, W) to (B, 1, T, 2 H - 1 + p, 2 W - 1 + q) for an output padding (0, p, q)."""
        if torch.is_grad_enabled() or output_size is not None:
            return super().forward(x, output_size)
        taps = self.weight[:, 0]  # (C, time, row, column)
        rows = torch.stack([F.pad(taps[:, :, 1:2], (0, 0, 0, 1)), taps[:, :, [2, 0]]])
        pixels = torch.stack(
            [F.pad(rows[..., 1:2], (0, 1)), rows[..., [2, 0]]], dim=1
        )  # (2, 2, C, time, row, column)
        kernel = pixels.permute(3, 0, 1, 2, 4, 5).flatten(0, 2)[:, :, None]
        planes = F.conv3d(F.pad(x, (0, 1, 0, 1)), kernel)
        after, now, before = planes.view(x.shape[0], 3, 4, *planes.shape[2:]).unbind(dim=1)
        now = now + F.pad(before[:, :, :-1], (0, 0, 0, 0, 1, 0)) + F.pad(after[:, :, 1:], (0, 0, 0, 0, 0, 1))
        blocks = now.view(x.shape[0], 2, 2, *now.shape[2:]).permute(0, 3, 4, 1, 5, 2)
        whole = blocks.flatten(4, 5).flatten(2, 3)[:, None]
        height, width = (2 * side - 1 + p for side, p in zip(x.shape[3:], self.output_padding[1:], strict=True))
        return whole[..., :height, :width] + cast("Tensor", self.bias).to(whole.dtype)


def _activation(channels: int, norm: bool) -> list[nn.Module]:
    return [*([nn.BatchNorm3d(channels)] if norm else []), nn.LeakyReLU(SLOPE, inplace=True)]


def _channels_last(stages: nn.Sequential) -> nn.Sequential:
    """The weights in the layout that CPU and GPU convolutions are fastest on."""
    return stages.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload, no-any-return]  # torch has no annotation
