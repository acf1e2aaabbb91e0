"""Convolutional encoders and decoders for images of any size, channel count and aspect.

Most of the work of such a network is where its maps are largest. One that folds leaves those out: squares of pixels are
channels from the start, and a layer on them is a large matrix product.

Between the layers channels lie last in memory: there a CPU runs BatchNorm and most convolutions up to five times
faster. Only layers that have few channels on one side starve there, and are written as matrix products.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from memae.memory.ops.products import product

__all__ = ["ConvLayer", "conv_decoder", "conv_encoder", "encoded_shape"]

FEW_CHANNELS = 4  # below so many the library's convolutions starve; pictures have 1 or 3


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


class Fold(nn.Module):
    """(B, C, H, W) to (B, C side^2, H / side, W / side), rounded up: squares of side x side px become channels.

    Sides that do not divide are continued by their last line.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        """Folds; channels come last in memory."""
        side, x = self.side, self.continued(x)
        batch, channels, height, width = x.shape
        squares = x.reshape(batch, channels, height // side, side, width // side, side).permute(0, 2, 4, 1, 3, 5)
        return squares.reshape(batch, height // side, width // side, channels * side * side).movedim(-1, 1)

    def continued(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) with sides that divide."""
        beyond = (0, -x.shape[3] % self.side, 0, -x.shape[2] % self.side)
        return F.pad(x, beyond, "replicate") if any(beyond) else x


class Unfold(nn.Module):
    """The inverse of `Fold` for images of height x width px."""

    def __init__(self, side: int, height: int, width: int) -> None:
        super().__init__()
        self.side, self.height, self.width = side, height, width

    def forward(self, x: Tensor) -> Tensor:
        """Unfolds; the result is contiguous."""
        batch, channels, height, width = x.shape
        side = self.side
        squares = x.movedim(1, -1).reshape(batch, height, width, channels // side**2, side, side)
        whole = squares.permute(0, 3, 1, 4, 2, 5).reshape(batch, -1, height * side, width * side)
        return whole[:, :, : self.height, : self.width].contiguous()


def encoded_shape(layers: Sequence[ConvLayer], height: int, width: int, fold: int = 1) -> tuple[int, int, int]:
    """(C, H, W) of the encoding of a height x width image that is folded first."""
    height, width = -(-height // fold), -(-width // fold)
    for layer in layers:
        height, width = layer.shrink(height), layer.shrink(width)
    return layers[-1].channels, height, width


def conv_encoder(channels: int, layers: Sequence[ConvLayer], fold: int = 1) -> nn.Sequential:
    """Convolutions, each with BatchNorm and ReLU behind it (paper, section 4.1).

    Args:
        channels: of the image.
        layers: in the order of the data.
        fold: px of each side that become channels first; see `Fold`.
    """
    stages: list[nn.Module] = [Fold(fold)] if fold > 1 else []
    channels *= fold * fold
    for layer in layers:
        stages += [
            _Conv(channels, layer.channels, layer.kernel, layer.stride, layer.padding, bias=False),
            nn.BatchNorm2d(layer.channels),
            nn.ReLU(inplace=True),
        ]
        channels = layer.channels
    stages[-1] = _LastReLU(inplace=True)
    return nn.Sequential(*stages)


def conv_decoder(
    channels: int, encoder: Sequence[ConvLayer], height: int, width: int, fold: int = 1
) -> nn.Sequential:
    """Transposed 3 x 3 convolutions that undo the encoder layer by layer; nothing behind the last one.

    Args:
        channels: of the image to rebuild.
        encoder: the encoder's layers, in the order of the data; strides of 1 or 2.
        height: of the image, px.
        width: of the image, px.
        fold: the encoder's.
    """
    sizes = [(-(-height // fold), -(-width // fold))]
    for layer in encoder[:-1]:
        sizes.append((layer.shrink(sizes[-1][0]), layer.shrink(sizes[-1][1])))
    # The paper mirrors the list of widths and not the layers: 16-32-64 is undone by 64-32-1, not by 32-16-1. Behind a
    # fold that would be most of all work, and it brings nothing.
    widths = [layer.channels for layer in encoder]
    outputs = [channels * fold * fold] + (widths[:-1] if fold > 1 else widths[1:])
    into, *here = encoded_shape(encoder, height, width, fold)
    stages: list[nn.Module] = []
    for left, layer, target, out in zip(
        range(len(encoder), 0, -1), reversed(encoder), reversed(sizes), reversed(outputs), strict=True
    ):
        # a stride of 2 forgets whether a side was 27 or 28 px long: the output padding tells
        rows, columns = (to - ((at - 1) * layer.stride + 1) for at, to in zip(here, target, strict=True))
        last = left == 1
        stages.append(
            _TransposedConv(into, out, 3, layer.stride, padding=1, output_padding=(rows, columns), bias=last)
        )
        if not last:
            stages += [nn.BatchNorm2d(out), nn.ReLU(inplace=True)]
        into, here = out, list(target)
    if fold > 1:
        stages.append(Unfold(fold, height, width))
    return nn.Sequential(*stages)


class _Conv(nn.Conv2d):
    """Conv2d whose result has its channels last in memory; its strides and padding are equal on both sides."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, out_channels, H', W')."""
        plain = x.device.type != "cpu" or torch.compiler.is_compiling()  # another runtime has forms of its own
        if self.in_channels > 1 or self.bias is not None or plain:
            return super().forward(x.contiguous(memory_format=torch.channels_last))
        # The library starves on one channel. A plane for each tap, that is the pixel it meets at each place, times
        # the weights is a matrix product.
        kernel, stride, padding = self.kernel_size[0], self.stride[0], int(self.padding[0])
        padded = F.pad(x[:, 0], (padding,) * 4)
        height, width = ((size - kernel) // stride + 1 for size in padded.shape[1:])
        planes = torch.stack(
            [
                padded[:, row : row + stride * height : stride, column : column + stride * width : stride]
                for row in range(kernel)
                for column in range(kernel)
            ]
        )
        # contiguous: the gradient of the weights is then a product of long rows, not of long columns
        places = planes.flatten(1).T @ self.weight.flatten(1).T.contiguous()
        return places.view(len(x), height, width, -1).movedim(-1, 1)


class _LastReLU(nn.ReLU):
    """ReLU that takes its gradient in any layout: a memory gives it with the channels first, which is slow here."""

    def forward(self, x: Tensor) -> Tensor:
        """Of the shape of x."""
        y = super().forward(x)
        if y.requires_grad:
            y.register_hook(  # type: ignore[no-untyped-call]
                lambda grad: grad.contiguous(memory_format=torch.channels_last)
            )
        return y


class _TransposedConv(nn.ConvTranspose2d):
    """ConvTranspose2d of a 3 x 3 kernel and padding 1 that takes its input with the channels last in memory."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(B, C, H, W) to (B, out_channels, H', W')."""
        x = x.contiguous(memory_format=torch.channels_last)
        few = self.out_channels < FEW_CHANNELS and x.device.type == "cpu"
        if output_size is not None or not few or torch.compiler.is_compiling():
            return super().forward(x, output_size)
        y: Tensor = _FewPlanes.apply(x, self.weight, self.stride, self.output_padding)  # type: ignore[no-untyped-call]
        return y if self.bias is None else y + self.bias[:, None, None]


class _FewPlanes(torch.autograd.Function):
    """A transposed 3 x 3 convolution to few channels, forward as a matrix product and shifted sums of its rows.

    The product has a row for each output channel and tap. It takes a fifth of the time of the library, which goes
    sample by sample there and loses most to moving data. Backward the library is fast.
    """

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)  # type: ignore[untyped-decorator]
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: Sequence[int], extra: Sequence[int]) -> Tensor:
        (batch, channels, *at), out, step = x.shape, weight.shape[1], stride[0]
        planes = product(weight.flatten(1).T, x.movedim(1, -1).reshape(-1, channels).T).view(out, 3, 3, batch, *at)
        height, width = ((size - 1) * step + 1 + more for size, more in zip(at, extra, strict=True))
        y = x.new_empty(batch, out, height, width)
        for row, column in itertools.product(range(step), repeat=2):
            # one tap falls on these places where it stands, the others from the place before or behind
            there, total = y[:, :, row::step, column::step], planes[:, 1 + row, 1 + column]
            for (above, to_row, from_row), (left, to_column, from_column) in itertools.product(
                _taps(row, step), _taps(column, step)
            ):
                if (above, left) != (1 + row, 1 + column):
                    total[..., to_row, to_column] += planes[:, above, left, :, from_row, from_column]
            there.copy_(total.transpose(0, 1)[..., : there.shape[2], : there.shape[3]])
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.extra = list(stride), list(extra)
        return y

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x, weight = ctx.saved_tensors
        grad_x, grad_weight, _ = torch.ops.aten.convolution_backward(
            grad, x, weight, None, ctx.stride, [1, 1], [1, 1], True, ctx.extra, 1, [True, True, False]
        )
        return grad_x, grad_weight, None, None


def _taps(phase: int, step: int) -> list[tuple[int, slice, slice]]:
    """The taps, along one axis, that fall on every `step`-th place from `phase` on: (tap, to, from) of each."""
    shifts = {
        -1: (slice(None, -1), slice(1, None)),
        0: (slice(None), slice(None)),
        1: (slice(1, None), slice(None, -1)),
    }
    return [(tap, *shifts[(tap - 1 - phase) // step]) for tap in range(3) if (tap - 1 - phase) % step == 0]
