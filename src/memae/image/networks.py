"""Convolutional encoders and decoders for images of any size, channel count and aspect.

Most of the work of such a network is where its maps are largest. Where patches of pixels become channels first (pixel
unshuffle), there are no such maps, and a layer is a large matrix product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ConvLayer", "conv_decoder", "conv_encoder", "encoded_shape"]


@dataclass(frozen=True)
class ConvLayer:
    """Conv(k, s, c) of the paper: kernel, stride, output channels; padded by (kernel - 1) // 2."""

    kernel: int
    stride: int
    channels: int

    def shrink(self, size: int) -> int:
        """The size (px) of one axis behind this layer."""
        return (size + 2 * self.padding - self.kernel) // self.stride + 1

    @property
    def padding(self) -> int:
        """Pixels of zeros on each side."""
        return (self.kernel - 1) // 2


class ChannelsLast(nn.Sequential):
    """Layers between which channels lie last in memory: a CPU runs BatchNorm and convolutions up to twice as fast."""

    def forward(self, x: Tensor) -> Tensor:
        """All layers on a batch (B, C, H, W)."""
        for layer in self:  # each time: behind a map of one place the library forgets it
            x = layer(x.contiguous(memory_format=torch.channels_last))
        return x


class PatchesToChannels(nn.PixelUnshuffle):
    """(B, C, H, W) to (B, C side^2, H / side, W / side), rounded up: patches of side x side px become channels.

    An image whose sides are no multiples of the patch is continued by its last row and column.
    """

    def forward(self, x: Tensor) -> Tensor:
        """The channels of a batch."""
        side = self.downscale_factor
        beyond = (0, -x.shape[3] % side, 0, -x.shape[2] % side)
        channels = super().forward(F.pad(x, beyond, "replicate") if any(beyond) else x)
        return channels.contiguous(memory_format=torch.channels_last)  # torch gives them first


class ChannelsToPatches(nn.Module):
    """The inverse of `PatchesToChannels` for images of height x width px."""

    def __init__(self, side: int, height: int, width: int) -> None:
        super().__init__()
        self.side, self.height, self.width = side, height, width

    def forward(self, x: Tensor) -> Tensor:
        """The images of a batch, contiguous."""
        # what `nn.PixelShuffle` gives, in half of its time where channels lie last
        patches = x.view(x.shape[0], -1, self.side, self.side, *x.shape[2:]).permute(0, 1, 4, 2, 5, 3)
        return patches.flatten(4, 5).flatten(2, 3)[:, :, : self.height, : self.width].contiguous()


def encoded_shape(layers: Sequence[ConvLayer], height: int, width: int, patch_px: int = 1) -> tuple[int, int, int]:
    """(C, H, W) of the encoding of a height x width image whose patches become channels first."""
    height, width = -(-height // patch_px), -(-width // patch_px)
    for layer in layers:
        height, width = layer.shrink(height), layer.shrink(width)
    return layers[-1].channels, height, width


def conv_encoder(channels: int, layers: Sequence[ConvLayer], patch_px: int = 1) -> nn.Sequential:
    """Convolutions, each with BatchNorm and ReLU behind it (paper, section 4.1).

    Args:
        channels: of the image.
        layers: in the order of the data.
        patch_px: side of the patches that become channels first; 1 is none.
    """
    stages: list[nn.Module] = [PatchesToChannels(patch_px)] if patch_px > 1 else []
    channels *= patch_px * patch_px
    for layer in layers:
        stages += [
            nn.Conv2d(channels, layer.channels, layer.kernel, layer.stride, layer.padding, bias=False),
            nn.BatchNorm2d(layer.channels),
            nn.ReLU(inplace=True),
        ]
        channels = layer.channels
    return ChannelsLast(*stages)


def conv_decoder(
    channels: int, encoder: Sequence[ConvLayer], height: int, width: int, patch_px: int = 1, widening: int = 1
) -> nn.Sequential:
    """Transposed 3 x 3 convolutions that undo the encoder layer by layer; nothing behind the last one.

    Args:
        channels: of the image to rebuild.
        encoder: the encoder's layers, in the order of the data; strides of 1 or 2.
        height: of the image, px.
        width: of the image, px.
        patch_px: the encoder's.
        widening: see `memae.memory.base.widening`.
    """
    sizes = [(-(-height // patch_px), -(-width // patch_px))]
    for layer in encoder[:-1]:
        sizes.append((layer.shrink(sizes[-1][0]), layer.shrink(sizes[-1][1])))
    # The paper mirrors the list of widths and not the layers: 16-32-64 is undone by 64-32-1, not by 32-16-1. Where
    # patches are channels that would be most of all work, and it brings nothing.
    widths = [layer.channels for layer in encoder]
    outputs = [channels * patch_px * patch_px] + (widths[:-1] if patch_px > 1 else widths[1:])
    into, *here = encoded_shape(encoder, height, width, patch_px)
    into *= widening
    stages: list[nn.Module] = []
    for left, layer, target, out in zip(
        range(len(encoder), 0, -1), reversed(encoder), reversed(sizes), reversed(outputs), strict=True
    ):
        # a stride of 2 forgets whether a side was 27 or 28 px long: the output padding tells
        rows, columns = (to - ((at - 1) * layer.stride + 1) for at, to in zip(here, target, strict=True))
        last = left == 1
        stages.append(
            nn.ConvTranspose2d(into, out, 3, layer.stride, padding=1, output_padding=(rows, columns), bias=last)
        )
        if not last:
            stages += [nn.BatchNorm2d(out), nn.ReLU(inplace=True)]
        into, here = out, list(target)
    if patch_px > 1:
        stages.append(ChannelsToPatches(patch_px, height, width))
    return ChannelsLast(*stages)
