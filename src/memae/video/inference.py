"""A trained network of clips in the form that scores fastest on a CPU.

BatchNorm is folded into the convolutions, channels lie last in memory, and the convolutions run in the fastest
arithmetic that the CPU has in hardware: 8-bit integers for a network with BatchNorm (`memae.video.quantised`), else
bfloat16. The memory is read in float32 (spec: 1e-12 must not underflow). The two layers that have a single channel on
one side starve the matrix units of a convolution: the first is written as im2col and one matrix product, the last as a
product into the four pixels that each position makes, for three points in time. Activations of 50 MB are taken from the
system and given back for every layer unless the allocator is told to keep them: a quarter of the time.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from memae.autoencoder import Autoencoder, Reconstruction
from memae.video.networks import SLOPE
from memae.video.quantised import Int8Conv, Int8ConvTranspose, Int8Product, code_step

__all__ = ["allows_int8", "clip_form"]

_Stage: TypeAlias = Callable[[Tensor], Tensor]
_Layer: TypeAlias = tuple[nn.Conv3d | nn.ConvTranspose3d, nn.BatchNorm3d | None]


def clip_form(model: Autoencoder, dtype: torch.dtype, floating: torch.dtype) -> Callable[[Tensor], Reconstruction]:
    """The same function of clips (B, 1, T, H, W) as `model` in eval mode, to rounding, with convolutions in `dtype`.

    Under int8 that is for the layers that take the time, and the others are in `floating`.

    Raises:
        ValueError: int8 for a network that `allows_int8` refuses.
    """
    if dtype != torch.int8:
        return _FastAutoencoder(model, dtype, _stages(model.encoder, dtype), _stages(model.decoder, dtype))
    if not allows_int8(model):
        raise ValueError("int8 is for the paper's network of clips, with BatchNorm; use torch.bfloat16 or None")
    return _FastAutoencoder(model, torch.float32, *_int8_stages(model, floating))


class _FastAutoencoder:
    """Runs the stages of both halves, which take `dtype`, with the memory between them."""

    def __init__(
        self, model: Autoencoder, dtype: torch.dtype, encoder: list[_Stage], decoder: list[_Stage]
    ) -> None:
        self._dtype, self._encoder, self._decoder = dtype, encoder, decoder
        self._model = model

    @torch.inference_mode()
    def __call__(self, x: Tensor) -> Reconstruction:
        encoding = _run(self._encoder, x.to(self._dtype)).float()
        if self._model.memory is None:
            return Reconstruction(_run(self._decoder, encoding.to(self._dtype)).float(), None)
        values, read = self._model.read(encoding)
        rebuilt = _run(self._decoder, values.to(self._dtype))
        return Reconstruction(rebuilt.float(), read, self._model.positions(encoding))


def _run(stages: list[_Stage], x: Tensor) -> Tensor:
    """Clip by clip: one fills a CPU, and then none shows in the rounding of another."""
    return torch.cat(
        [functools.reduce(lambda made, stage: stage(made), stages, clip) for clip in torch.split(x, 1)]
    )


def _stages(modules: nn.Module, dtype: torch.dtype) -> list[_Stage]:
    """The layers with BatchNorm folded in, each in its fastest form."""
    stages: list[_Stage] = []
    layers = list(modules.children())
    for place, layer in enumerate(layers):
        if isinstance(layer, nn.BatchNorm3d):
            continue
        if isinstance(layer, nn.LeakyReLU):
            stages.append(_leaky)
            continue
        if not isinstance(layer, nn.Conv3d | nn.ConvTranspose3d):
            stages.append(layer)
            continue
        behind = layers[place + 1] if place + 1 < len(layers) else None
        folded = _folded(layer, behind if isinstance(behind, nn.BatchNorm3d) else None)
        kernel = (folded.kernel_size, folded.padding, folded.stride)
        paper = kernel == ((3, 3, 3), (1, 1, 1), (1, 2, 2))
        if paper and isinstance(folded, nn.Conv3d) and folded.in_channels == 1:
            stages.append(_FirstConv(folded, dtype))
        elif paper and isinstance(folded, nn.ConvTranspose3d) and folded.out_channels == 1:
            stages.append(_LastConv(folded, dtype))
        else:
            stages.append(_placed(folded, dtype))
    return stages


def _layers(modules: nn.Module) -> list[_Layer]:
    """The convolutions, each with the BatchNorm behind it."""
    stages = list(modules.children())
    behind = [*stages[1:], None]
    return [
        (stage, norm if isinstance(norm, nn.BatchNorm3d) else None)
        for stage, norm in zip(stages, behind, strict=True)
        if isinstance(stage, nn.Conv3d | nn.ConvTranspose3d)
    ]


def allows_int8(model: Autoencoder) -> bool:
    """The paper's network: one channel outside, BatchNorm inside."""
    encoder, decoder = _layers(model.encoder), _layers(model.decoder)
    layers = [layer for layer, _ in (*encoder, *decoder)]
    kinds = (nn.Conv3d, nn.ConvTranspose3d, nn.BatchNorm3d, nn.LeakyReLU)
    return (
        all(isinstance(stage, kinds) for stage in (*model.encoder.children(), *model.decoder.children()))
        and min(len(encoder), len(decoder)) > 1
        and all(norm is not None for _, norm in (*encoder, *decoder[:-1]))
        and (layers[0].in_channels, layers[-1].out_channels) == (1, 1)
        and all((layer.kernel_size, layer.padding) == ((3, 3, 3), (1, 1, 1)) for layer in layers)
        and [layer.stride for layer in layers] == [(1, 2, 2), *[(2, 2, 2)] * (len(layers) - 2), (1, 2, 2)]
    )


def _int8_stages(model: Autoencoder, floating: torch.dtype) -> tuple[list[_Stage], list[_Stage]]:
    """Encoder and decoder with the first and last layer of the decoder in `floating` and all else in integers.

    That first layer is small, and what the memory gives it may vary little beside its size. The last one is short of
    channels, not of arithmetic.
    """
    down, up = _equalised(_layers(model.encoder)), _equalised(_layers(model.decoder))
    types = [*[floating] * (len(down) - 2), torch.float32]  # the memory is asked in float32
    encoder: list[_Stage] = [_FirstConvInt8(down[0])]
    encoder += [Int8Conv.of(layer, dtype) for layer, dtype in zip(down[1:], types, strict=True)]
    decoder: list[_Stage] = [lambda x: x.to(floating), _placed(up[0], floating), _leaky]
    decoder += [Int8ConvTranspose(layer, floating) for layer in up[1:-1]]
    return encoder, [*decoder, _LastConv(up[-1], floating)]


@torch.no_grad()
def _equalised(layers: list[_Layer]) -> list[nn.Conv3d | nn.ConvTranspose3d]:
    """The layers with BatchNorm folded in, and each channel between two of them in steps of its codes.

    LeakyReLU(z / s) = LeakyReLU(z) / s, so the layer behind can take s back, and one step suits all channels.
    """
    folded = [_folded(layer, norm) for layer, norm in layers]
    for layer, behind, (_, norm) in zip(folded, folded[1:], layers, strict=False):
        assert norm is not None and layer.bias is not None
        step = code_step(norm)
        outputs, inputs = step.view(-1, 1, 1, 1, 1), step.view(1, -1, 1, 1, 1)
        if isinstance(layer, nn.ConvTranspose3d):
            outputs, inputs = inputs, outputs
        layer.weight.div_(outputs)
        layer.bias.div_(step)
        behind.weight.mul_(inputs)
    return folded


def _placed(layer: nn.Module, dtype: torch.dtype) -> nn.Module:
    return layer.to(dtype=dtype, memory_format=torch.channels_last_3d)  # type: ignore[call-overload, no-any-return]


def _leaky(x: Tensor) -> Tensor:
    return F.leaky_relu_(x, SLOPE)


def _folded(layer: nn.Conv3d | nn.ConvTranspose3d, norm: nn.BatchNorm3d | None) -> nn.Conv3d | nn.ConvTranspose3d:
    """A copy of a convolution that does what the BatchNorm behind it does as well."""
    folded = (
        copy.deepcopy(layer)
        if norm is None
        else fuse_conv_bn_eval(layer, norm, isinstance(layer, nn.ConvTranspose3d))
    )
    if folded.bias is None:
        folded.bias = nn.Parameter(torch.zeros(folded.out_channels))
    return folded.requires_grad_(False)


class _Taps:
    """The 27 places under a Conv3d(3, (1, 2, 2), padding 1) of one channel, as rows of a matrix."""

    ROW = 32  # 27 taps, a column of ones for a bias, and zeros up to what the matrix units like

    def __init__(self) -> None:
        self._taps: Tensor | None = None  # kept from clip to clip: its zeros and ones are written once

    def __call__(self, x: Tensor, padding: int = 0) -> Tensor:
        """(B, T, H', W', 32) from (B, 1, T, H, W), bordered by `padding`; the next call overwrites it."""
        batch, _, time, height, width = x.shape
        rows, columns = (height + 1) // 2, (width + 1) // 2
        shape = (batch, time, rows, columns, self.ROW)
        if self._taps is None or self._taps.shape != shape:
            self._taps = x.new_zeros(shape)
            self._taps[..., 27] = 1
        padded = F.pad(x[:, 0], (1, 1, 1, 1, 1, 1), value=padding)
        for tap in range(27):
            t, r, c = tap // 9, tap // 3 % 3, tap % 3
            self._taps[..., tap] = padded[:, t : t + time, r : r + 2 * rows - 1 : 2, c : c + 2 * columns - 1 : 2]
        return self._taps


class _FirstConv:
    """Conv3d(3, (1, 2, 2), padding 1) of one channel as 27 strided copies and a matrix product."""

    def __init__(self, layer: nn.Conv3d, dtype: torch.dtype) -> None:
        assert layer.bias is not None
        weight = torch.zeros(_Taps.ROW, layer.out_channels)
        weight[:27] = layer.weight.flatten(1).T
        weight[27] = layer.bias
        self._weight, self._taps = weight.to(dtype), _Taps()

    def __call__(self, x: Tensor) -> Tensor:
        taps = self._taps(x)
        return (taps.view(-1, _Taps.ROW) @ self._weight).view(*taps.shape[:-1], -1).movedim(-1, 1)


class _FirstConvInt8:
    """The same and LeakyReLU, for one clip, from float32 to codes.

    The clip's own largest value says what the codes of its pixels stand for.
    """

    ZERO = 128

    def __init__(self, layer: nn.Conv3d | nn.ConvTranspose3d) -> None:
        assert layer.bias is not None
        weight = F.pad(layer.weight.flatten(1), (0, _Taps.ROW - 27))
        self._product, self._taps = Int8Product(weight, layer.bias, self.ZERO), _Taps()

    def __call__(self, x: Tensor) -> Tensor:
        step = max(*(abs(float(end)) for end in x.aminmax()), 1e-12) / (255 - self.ZERO)
        codes = x.mul(1 / step).round_().to(torch.int16).add_(self.ZERO).to(torch.uint8)
        taps = self._taps(codes, self.ZERO)
        return self._product(taps.view(-1, _Taps.ROW), step).view(*taps.shape[:-1], -1).movedim(-1, 1)


class _LastConv:
    """ConvTranspose3d(3, (1, 2, 2), padding 1) to one channel.

    Row 2 i + a of the result sees row i through tap 1 (a = 0), or row i through tap 2 and row i + 1 through tap 0
    (a = 1); columns alike. So each position makes four pixels from itself and its neighbours below and beside: a
    2 x 2 convolution with 4 outputs. Time has stride 1: three such, shifted and added.
    """

    def __init__(self, layer: nn.Conv3d | nn.ConvTranspose3d, dtype: torch.dtype) -> None:
        assert layer.bias is not None
        self._padding: tuple[int, ...] = layer.output_padding
        taps = layer.weight[:, 0]  # (C, 3, 3, 3): time, row, column
        kernel = torch.zeros(
            3, 2, 2, layer.in_channels, 2, 2
        )  # time tap, pixel (a, b), C, neighbour (row, column)
        reach = {
            (0, 0): 1,
            (1, 0): 2,
            (1, 1): 0,
        }  # (a, neighbour) to the tap; an even pixel has no second neighbour
        for (a, down), row in reach.items():
            for (b, right), column in reach.items():
                kernel[:, a, b, :, down, right] = taps[:, :, row, column].T
        self._weight = kernel.flatten(0, 2).to(dtype=dtype, memory_format=torch.channels_last)
        self._bias = float(layer.bias)

    def __call__(self, x: Tensor) -> Tensor:
        batch, channels, time, rows, columns = x.shape
        frames = x.movedim(2, 1).reshape(batch * time, channels, rows, columns)
        # padded on both sides: to pad one alone would copy all of it
        made = F.conv2d(frames, self._weight, padding=1)[..., 1:, 1:]
        made = made.contiguous().view(batch, time, 3, 2, 2, rows, columns)  # whole planes are added fastest
        pixels = made[:, :, 1].float() + self._bias
        pixels[:, 1:] += made[:, :-1, 2]
        pixels[:, :-1] += made[:, 1:, 0]
        whole = pixels.permute(0, 1, 4, 2, 5, 3).reshape(batch, 1, time, 2 * rows, 2 * columns)
        # without output padding the last row or column is not there
        return whole[..., : 2 * rows - 1 + self._padding[1], : 2 * columns - 1 + self._padding[2]]
