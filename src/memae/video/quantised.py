"""Convolutions in 8-bit integers, for inference on a CPU that multiplies them in hardware.

Weights are int8, with a step for each output. Activations are uint8 codes, value = step (code - ZERO). All of them
come out of a LeakyReLU, so the negative side, a fifth as long, gets a sixth of the codes. The step is the smallest that
holds the largest activation of the clip itself: nothing is cut off, no data are needed to choose it, and the codes of a
clip depend on no other clip. What the first layer makes is too much to be looked at before it is coded. There BatchNorm
says how far it reaches: behind it a channel has mean beta and deviation |gamma| (Nagel et al., ICCV 2019).

The operators are those of oneDNN that torch's compiler calls. They are private, so `fast_int8` tries them first.
"""

from __future__ import annotations

import functools
import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from memae.video.networks import SLOPE

__all__ = ["ZERO", "Int8Conv", "Int8ConvTranspose", "Int8Product", "code_step", "encode", "fast_int8"]

LEVELS = 255
ZERO = round(LEVELS * SLOPE / (1 + SLOPE))  # the code of 0
TINY = 1e-12  # what is zero throughout still needs a step
# Deviations that the first layer's codes hold to either side of the mean: more than a normal one has, as pictures have
# long tails. On training footage the addressing weights move by 0.6% at 2 deviations (cut off), 0.2% from 4 to 8 and
# 1% at 32 (coarse).
REACH = 8.0


@functools.cache
def fast_int8() -> bool:
    """This CPU multiplies 8-bit integers in hardware, and this torch has the operators for it."""
    vnni = getattr(torch.cpu, "_is_vnni_supported", None)
    if vnni is None or not vnni():
        return False
    try:
        conv = Int8Conv(torch.ones(1, 1, 1, 1, 1), torch.ones(1), (1, 1, 1), 0, torch.float32)
        product = Int8Product(torch.ones(1, 1), torch.ones(1), 1)
        three = conv(torch.full((1, 1, 1, 1, 1), 2.0)).item()
        five = product(torch.full((1, 1), 3, dtype=torch.uint8), 2.0).item() - ZERO
    except (AttributeError, RuntimeError, TypeError):  # another torch may lack them, or call them otherwise
        return False
    return abs(three - 3) < 0.01 and five == 5


def code_step(norm: nn.BatchNorm3d) -> Tensor:
    """The step (C,) of codes for LeakyReLU of what `norm` gives, by its weight and bias alone."""
    mean, deviation = norm.bias.detach().float(), norm.weight.detach().float().abs()
    high = F.leaky_relu(mean + REACH * deviation, SLOPE) / (LEVELS - ZERO)
    low = F.leaky_relu(mean - REACH * deviation, SLOPE) / -ZERO
    return torch.maximum(high, low).clamp_min(TINY)


def encode(x: Tensor) -> tuple[Tensor, float]:
    """uint8 codes of activations, and the step between two of them."""
    rows = x.movedim(1, -1)  # contiguous, which is ten times faster to search and to convert
    low, high = rows.aminmax()
    step = max(float(high) / (LEVELS - ZERO), -float(low) / ZERO, TINY)
    # torch converts floats to int16 in vectors, and to uint8 one by one
    return rows.mul(1 / step).round_().to(torch.int16).add_(ZERO).to(torch.uint8).movedim(-1, 1), step


class Int8Product:
    """LeakyReLU(step W (x - zero) + b) of uint8 codes x (P, K), as codes (P, N) of step 1."""

    def __init__(self, weight: Tensor, bias: Tensor, zero: int) -> None:
        """Prepares a product with a `weight` (N, K) and a `bias` (N,) for codes in which `zero` stands for 0."""
        codes, self._scale = _weight_codes(weight)
        self._weight = torch.ops.onednn.qlinear_prepack(codes, None)
        self._bias, self._zero = bias, zero
        self._zeros = torch.zeros(len(weight), dtype=torch.long)

    def __call__(self, rows: Tensor, step: float) -> Tensor:
        """The product; a result beyond the codes becomes the nearest of them."""
        found: Tensor = torch.ops.onednn.qlinear_pointwise(
            rows, step, self._zero, self._weight, self._scale, self._zeros, self._bias,
            1.0, ZERO, torch.uint8, "leaky_relu", [SLOPE], "",
        )  # fmt: skip
        return found


class Int8Conv:
    """A convolution with LeakyReLU behind it, from activations (1, C, T, H, W), or their codes of step 1."""

    def __init__(
        self, weight: Tensor, bias: Tensor, stride: tuple[int, ...], padding: int, dtype: torch.dtype
    ) -> None:
        """Prepares a convolution with a `weight` (N, C, t, h, w) and a `bias` (N,); the result is of `dtype`."""
        codes, self._scale = _weight_codes(weight)
        self._places = list(stride), [padding] * 3, [1] * 3, 1
        self._weight = torch.ops.onednn.qconv_prepack(codes, self._scale, 1.0, ZERO, *self._places, None)
        self._bias, self._dtype = bias, dtype
        self._zeros = torch.zeros(len(weight), dtype=torch.long)

    @classmethod
    def of(cls, layer: nn.Conv3d | nn.ConvTranspose3d, dtype: torch.dtype) -> Int8Conv:
        """The form of a convolution that pads by one and has a bias."""
        assert layer.bias is not None
        return cls(layer.weight, layer.bias, layer.stride, 1, dtype)

    def __call__(self, x: Tensor) -> Tensor:
        """(1, N, T', H', W') in a floating type."""
        codes, step = (x, 1.0) if x.dtype == torch.uint8 else encode(x)
        return F.leaky_relu_(self.convolved(codes, step), SLOPE)

    def convolved(self, codes: Tensor, step: float) -> Tensor:
        """The convolution alone."""
        made: Tensor = torch.ops.onednn.qconv_pointwise(
            codes, step, ZERO, self._weight, self._scale, self._zeros, self._bias,
            *self._places, 1.0, 0, self._dtype, "none", [], "",
        )  # fmt: skip
        return made


class Int8ConvTranspose:
    """ConvTranspose3d(3, stride 2, padding 1), LeakyReLU behind it, from (1, C, T, H, W).

    Each eighth of the result is a convolution of its own. Along an axis, place 2 i + a of the result sees place i
    through tap 1 (a = 0), or place i through tap 2 and place i + 1 through tap 0 (a = 1).
    """

    TAPS = ([1], [2, 0])

    def __init__(self, layer: nn.Conv3d | nn.ConvTranspose3d, dtype: torch.dtype) -> None:
        """Prepares the eight of `layer`, which has a bias; the result is of `dtype`."""
        assert layer.bias is not None
        self._channels, self._padding, self._dtype = layer.out_channels, layer.output_padding, dtype
        self._parts = []
        for t, h, w in itertools.product((0, 1), repeat=3):
            taps = layer.weight[:, :, self.TAPS[t]][:, :, :, self.TAPS[h]][..., self.TAPS[w]].transpose(0, 1)
            self._parts.append(((t, h, w), Int8Conv(taps, layer.bias, (1, 1, 1), 0, dtype)))

    def __call__(self, x: Tensor) -> Tensor:
        """(1, N, 2 T - 1 + p, ...) for an output padding p."""
        codes, step = encode(x)
        padded = F.pad(codes, (0, 1) * 3, value=ZERO)  # behind the last place there is nothing
        time = x.shape[2]
        sides = (2 * size - 1 + more for size, more in zip(x.shape[2:], self._padding, strict=True))
        whole = x.new_empty((1, *sides, self._channels), dtype=self._dtype).movedim(-1, 1)
        for (t, h, w), part in self._parts:
            place = whole[:, :, t::2, h::2, w::2]
            # planes that this eighth does not need are left out; to leave out columns would copy the rest
            made = part.convolved(padded[:, :, : time + t], step)
            made = made[:, :, : place.shape[2], : place.shape[3], : place.shape[4]]
            torch.ops.aten.leaky_relu.out(made, SLOPE, out=place)
        return whole


def _weight_codes(weight: Tensor) -> tuple[Tensor, Tensor]:
    """int8 codes of a weight (N, ...), and the step (N,) of each output."""
    step = (weight.flatten(1).abs().amax(1) / 127).clamp_min(TINY)
    return (weight / step.view(-1, *[1] * (weight.ndim - 1))).round_().to(torch.int8), step
