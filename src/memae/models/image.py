"""Convolutional encoders and decoders for images of any size, channel count and aspect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

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


def encoded_shape(layers: Sequence[ConvLayer], height: int, width: int) -> tuple[int, int, int]:
    """(C, H, W) of the encoding of a height x width image."""
    for layer in layers:
        height, width = layer.shrink(height), layer.shrink(width)
    return layers[-1].channels, height, width


def conv_encoder(channels: int, layers: Sequence[ConvLayer]) -> nn.Sequential:
    """Convolutions, each with BatchNorm and ReLU behind it (paper, section 4.1)."""
    stages: list[nn.Module] = []
    for layer in layers:
        stages += [
            nn.Conv2d(channels, layer.channels, layer.kernel, layer.stride, layer.padding, bias=False),
            nn.BatchNorm2d(layer.channels),
            nn.ReLU(inplace=True),
        ]
        channels = layer.channels
    return nn.Sequential(*stages)


def conv_decoder(channels: int, encoder: Sequence[ConvLayer], height: int, width: int) -> nn.Sequential:
    """Transposed 3 x 3 convolutions that undo the encoder layer by layer; nothing behind the last one.

    Args:
        channels: of the image to rebuild.
        encoder: the encoder's layers, in the order of the data; strides of 1 or 2.
        height: of the image, px.
        width: of the image, px.
    """
    sizes = [(height, width)]
    for layer in encoder[:-1]:
        sizes.append((layer.shrink(sizes[-1][0]), layer.shrink(sizes[-1][1])))
    # the paper mirrors the list of widths and not the layers: 16-32-64 is undone by 64-32-1, not by 32-16-1
    outputs = [channels] + [layer.channels for layer in encoder[1:]]
    into, *here = encoded_shape(encoder, height, width)
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
    return nn.Sequential(*stages)
