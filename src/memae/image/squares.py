"""Networks of folded images in our own compiled code, for inference on a CPU, in float32: to errors of squares.

Squares of SIDE x SIDE px are channels before the first layer and behind the last. The code is `squares.cpp`; it folds
and unfolds on the way, so that neither is ever whole in memory.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from memae import native
from memae.encoded import Pixels

__all__ = ["SIDE", "Layer", "Memory", "Network"]

SIDE = 4  # of a square, px
GROUP = 16  # outputs of a layer come in so many: a whole number of registers, however wide
MOST_TAPS = 16  # of a side of a kernel
NEVER = -1e30  # a logit whose weight is 0
SHORTEST = 1e-12  # vectors shorter than this are divided by it


class Layer(NamedTuple):
    """A convolution of images or a transposed one, and whether a ReLU is behind it."""

    convolution: nn.Conv2d | nn.ConvTranspose2d
    relu: bool

    @property
    def fits(self) -> bool:
        """Whether the library has this layer: square kernels with equal strides, and zeros as padding."""
        layer = self.convolution
        return (
            layer.out_channels % GROUP == 0
            and layer.groups == 1
            and tuple(layer.dilation) == (1, 1)
            and layer.padding_mode == "zeros"
            and not isinstance(layer.padding, str)
            and all(len({*pair}) == 1 for pair in (layer.kernel_size, layer.stride, layer.padding))
            and layer.kernel_size[0] <= MOST_TAPS
            and layer.weight.dtype == torch.float32
        )


class Memory(NamedTuple):
    """The read by each place of a code: equations 3 to 8 of Gong et al. 2019."""

    items: Tensor
    """(N, C)"""
    cosine: bool
    threshold: float
    """What a weight must be above; 0 keeps every item."""
    temperature: float


def _read(memory: Memory) -> tuple[Layer, Layer]:
    """What makes logits of codes, and values of weights; items that fill up a group are never near."""
    keys = F.normalize(memory.items, dim=1, eps=SHORTEST) if memory.cosine else memory.items
    count, channels = keys.shape
    beyond = -count % GROUP
    # made empty: to initialise them would draw from torch's global generator
    ask = nn.Conv2d(channels, count + beyond, 1, device="meta").to_empty(device="cpu")
    tell = nn.Conv2d(count + beyond, channels, 1, bias=False, device="meta").to_empty(device="cpu")
    assert ask.bias is not None
    with torch.no_grad():
        ask.weight.copy_(F.pad(keys / memory.temperature, (0, 0, 0, beyond))[..., None, None])
        ask.bias.copy_(torch.arange(count + beyond).ge(count) * NEVER)
        tell.weight.copy_(F.pad(memory.items, (0, 0, 0, beyond)).T[..., None, None])
    return Layer(ask, relu=False), Layer(tell, relu=False)


class _ImagesSpec(ctypes.Structure):
    _fields_ = native.fields(
        (ctypes.c_void_p, "values"),
        (ctypes.c_int32, "bytes count channels height width"),
        (ctypes.c_void_p, "shift factor"),
    )


class _PassSpec(ctypes.Structure):
    _fields_ = native.fields(
        (ctypes.c_int32, "taps_y taps_x stride first_y first_x places_y places_x at_y at_x step"),
        (ctypes.c_void_p, "weights bias"),
    )


class _LayerSpec(ctypes.Structure):
    _fields_ = native.fields(
        (ctypes.c_int32, "inputs outputs height width passes relu"), (ctypes.POINTER(_PassSpec), "pass_at")
    )


class _NetworkSpec(ctypes.Structure):
    _fields_ = native.fields(
        (ctypes.POINTER(_LayerSpec), "down up"),
        (ctypes.c_int32, "downs ups"),
        (ctypes.POINTER(_LayerSpec), "ask tell"),
        (ctypes.c_int32, "cosine"),
        (ctypes.c_float, "threshold"),
    )


class _Layers:
    """Layers one behind the other, as the library reads them; `size` is (height, width) of the map before them."""

    def __init__(self, layers: Sequence[Layer], size: tuple[int, int]) -> None:
        self._held: list[Any] = []  # what the library reads
        self.inputs = layers[0].convolution.in_channels
        specs: list[_LayerSpec] = []
        for layer in layers:
            if not layer.fits:
                raise ValueError(f"the compiled code has no layer {layer.convolution}")
            if specs and layer.convolution.in_channels != specs[-1].outputs:
                raise ValueError(
                    f"layers do not follow each other: {specs[-1].outputs} channels, then {layer.convolution}"
                )
            size, passes = self._passes(layer.convolution, size)
            array = (_PassSpec * len(passes))(*passes)
            self._held.append(array)
            specs.append(
                _LayerSpec(layer.convolution.in_channels, layer.convolution.out_channels, *size, len(passes),
                           layer.relu, array)
            )  # fmt: skip
        self.array = (_LayerSpec * len(specs))(*specs)
        self.outputs, self.size = layers[-1].convolution.out_channels, size

    def _passes(
        self, layer: nn.Conv2d | nn.ConvTranspose2d, size: tuple[int, int]
    ) -> tuple[tuple[int, int], list[_PassSpec]]:
        """The size of the map that a layer makes, and the convolutions that make it."""
        weight = layer.weight.detach()
        kernel, stride, padding = layer.kernel_size[0], layer.stride[0], int(layer.padding[0])
        bias = torch.zeros(layer.out_channels) if layer.bias is None else layer.bias.detach().clone()
        if isinstance(layer, nn.Conv2d):
            height, width = ((side + 2 * padding - kernel) // stride + 1 for side in size)
            by_tap = weight.permute(2, 3, 1, 0)
            return (height, width), [
                self._pass(by_tap, bias, stride, (-padding, -padding), (height, width), (0, 0), 1)
            ]
        extra = layer.output_padding
        height, width = (
            (side - 1) * stride - 2 * padding + kernel + more for side, more in zip(size, extra, strict=True)
        )
        by_tap, passes = weight.permute(2, 3, 0, 1), []
        for at_y, rows, first_y in _phases(kernel, stride, padding):
            for at_x, columns, first_x in _phases(kernel, stride, padding):
                places = -(-(height - at_y) // stride), -(-(width - at_x) // stride)
                some = by_tap[rows][:, columns]
                passes.append(self._pass(some, bias, 1, (first_y, first_x), places, (at_y, at_x), stride))
        return (height, width), passes

    def _pass(
        self,
        by_tap: Tensor,
        bias: Tensor,
        stride: int,
        first: tuple[int, int],
        places: tuple[int, int],
        at: tuple[int, int],
        step: int,
    ) -> _PassSpec:
        weights = by_tap.contiguous()
        self._held += [weights, bias]
        return _PassSpec(
            *by_tap.shape[:2], stride, *first, *places, *at, step, weights.data_ptr(), bias.data_ptr()
        )  # fmt: skip


def _phases(kernel: int, stride: int, padding: int) -> list[tuple[int, list[int], int]]:
    """Along one axis, for each place of the output modulo the stride: the taps that fall there, in the order of the
    places of the input that they meet, and the first of these places at output 0."""
    found = []
    for at in range(stride):
        taps = [tap for tap in reversed(range(kernel)) if (at + padding - tap) % stride == 0]
        found.append((at, taps, (at + padding - taps[0]) // stride if taps else 0))
    return found


class Network:
    """Encoder, memory and decoder, with their weights as they are now.

    Args:
        down: the layers of the encoder, in the order of the data; their codes have a multiple of 16 channels.
        memory: what is read by each place of the code; None for a plain autoencoder.
        up: the layers of the decoder.
        size: (height, width) of the folded images, squares.

    Raises:
        ValueError: a layer that does not fit, or layers that do not follow each other.
    """

    def __init__(
        self, down: Sequence[Layer], memory: Memory | None, up: Sequence[Layer], size: tuple[int, int]
    ) -> None:
        self._down = _Layers(down, size)
        self._up = _Layers(up, self._down.size)
        self.numbers, self.size = self._down.inputs, size
        if (self._up.outputs, self._up.size, self._up.inputs) != (self.numbers, size, self._down.outputs):
            raise ValueError("the decoder does not give what the encoder takes, or not take what it gives")
        self._spec = _NetworkSpec(self._down.array, self._up.array, len(down), len(up))
        if memory is not None:
            if memory.items.shape[1] != self._up.inputs:
                raise ValueError(f"items of {memory.items.shape[1]} numbers do not fit codes of {self._up.inputs}")
            self._read = _Layers(_read(memory), self._down.size)
            self._spec.ask, self._spec.tell = map(ctypes.pointer, self._read.array)
            self._spec.cosine, self._spec.threshold = memory.cosine, memory.threshold

    def encode(self, x: Pixels) -> Tensor:
        """(B, C, h', w') codes of images; the channels lie last in memory.

        Raises:
            MemoryError: there is no room.
            ValueError: other images than the network takes.
        """
        images = self._images(x)
        codes = torch.empty(images.count, *self._down.size, self._down.outputs)
        if _library().squares_encode(self._spec, images, torch.get_num_threads(), codes.data_ptr()):
            raise MemoryError(f"no room for the layers of {images.count} images")
        return codes.movedim(-1, 1)

    def errors(self, x: Pixels, keep: bool = False) -> tuple[Tensor, Tensor]:
        """(B, h, w) mean squared errors of the squares of images, over the px that a square has.

        With `keep` also what is rebuilt, (B, C SIDE^2, h, w) squares, whose channels lie last in memory; else none.

        Raises:
            MemoryError: there is no room.
            ValueError: other images than the network takes.
        """
        images = self._images(x)
        errors = torch.empty(images.count, *self.size)
        rebuilt = torch.empty(images.count if keep else 0, *self.size, self.numbers)
        kept = rebuilt.data_ptr() if keep else None
        if _library().squares_errors(self._spec, images, torch.get_num_threads(), errors.data_ptr(), kept):
            raise MemoryError(f"no room for the layers of {images.count} images")
        return errors, rebuilt.movedim(-1, 1)

    def _images(self, x: Pixels) -> _ImagesSpec:
        """As the library reads them: it sees addresses alone."""
        values, scale = x.values, (x.shift, x.factor)
        squares = tuple(-(-side // SIDE) for side in values.shape[2:])
        if (
            values.dtype not in (torch.uint8, torch.float32)
            or squares != self.size
            or values.shape[1] * SIDE**2 != self.numbers
            or any(part.shape != values.shape[:1] or part.dtype != torch.float32 for part in scale)
            or not all(part.is_contiguous() for part in x)
        ):
            raise ValueError(f"images of shape {tuple(values.shape)} and {values.dtype} do not fit the network")
        addresses = [part.data_ptr() for part in scale]
        return _ImagesSpec(values.data_ptr(), values.dtype == torch.uint8, *values.shape, *addresses)


def _library() -> Any:
    return _typed(native.library())


@cache
def _typed(library: Any) -> Any:
    number, pointer = ctypes.c_int, ctypes.c_void_p
    given = [ctypes.POINTER(_NetworkSpec), ctypes.POINTER(_ImagesSpec), number]
    library.squares_encode.argtypes = [*given, pointer]
    library.squares_errors.argtypes = [*given, pointer, pointer]
    return library
