"""Gradients of small autoencoders by our own compiled code, with the samples of a batch in the lanes of its registers.

The code is `lanes.cpp`.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from memae import native

__all__ = ["Layer", "Memory", "Network", "Relation"]

ACTIVATIONS = (type(None), nn.ReLU, nn.Tanh)
Norm = nn.modules.batchnorm._BatchNorm


class Relation(NamedTuple):
    """Which place of a layer's input (pixel of a map) meets which of its output, and by which tap of the kernel."""

    places_in: int
    places_out: int
    taps: int
    out: np.ndarray
    """(pairs,) int32, and so are the others."""
    into: np.ndarray
    tap: np.ndarray

    @classmethod
    def each_to_one(cls, places: int) -> Relation:
        """Every place by a tap of its own to a single one."""
        place = np.arange(places, dtype=np.int32)
        return cls(places, 1, places, np.zeros_like(place), place, place)

    @classmethod
    def each_alone(cls, places: int) -> Relation:
        """Every place by the same tap to itself; one place is a fully connected layer."""
        place = np.arange(places, dtype=np.int32)
        return cls(places, places, 1, place, place, np.zeros_like(place))

    @classmethod
    def convolution(
        cls, size_in: tuple[int, int], size_out: tuple[int, int], kernel: int, stride: int, padding: int
    ) -> Relation:
        """Of a square kernel on maps of these sizes (height, width)."""
        (y, above, row), (x, left, column) = (
            _met(into, out, kernel, stride, padding) for into, out in zip(size_in, size_out, strict=True)
        )
        out, into, tap = (
            np.add.outer(one, other).astype(np.int32).ravel()
            for one, other in ((y * size_out[1], x), (above * size_in[1], left), (row * kernel, column))
        )
        return cls(size_in[0] * size_in[1], size_out[0] * size_out[1], kernel**2, out, into, tap)

    @property
    def reversed(self) -> Relation:
        """From the output to the input: that of the transposed layer."""
        return Relation(self.places_out, self.places_in, self.taps, self.into, self.out, self.tap)


def _met(into: int, out: int, kernel: int, stride: int, padding: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Along one axis: place of the output, place of the input and tap of each pair."""
    met = np.arange(out)[:, None] * stride - padding + np.arange(kernel)
    at, tap = np.nonzero((met >= 0) & (met < into))
    return at, met[at, tap], tap


class Layer(NamedTuple):
    """A linear layer, a convolution or its transpose, and the BatchNorm and activation behind it."""

    relation: Relation
    weight: nn.Parameter
    transposed: bool
    """Whether the weight has its input axis first: (I, O, ...)."""
    bias: nn.Parameter | None = None
    norm: Norm | None = None
    activation: nn.Module | None = None


class Memory(NamedTuple):
    """The read between two layers: equations 3 to 8 of Gong et al. 2019."""

    items: nn.Parameter
    """(N, C), or (N, C places) where an encoding is asked for as a whole."""
    places: int
    """Of the encoding."""
    whole: bool
    cosine: bool
    threshold: float
    """What a weight must be above; 0 keeps every item."""
    temperature: float


class _LayerSpec(ctypes.Structure):
    _fields_ = native.fields(
        (ctypes.c_int32, "inputs outputs places_in places_out taps pairs activation norm"),
        (ctypes.c_int64, "by_output by_input by_tap"),
        (ctypes.c_void_p, "out into tap weight weight_grad bias bias_grad"),
        (ctypes.c_void_p, "gamma gamma_grad beta beta_grad mean variance batches"),
        (ctypes.c_float, "momentum epsilon"),
    )


class _MemorySpec(ctypes.Structure):
    _fields_ = native.fields(
        (ctypes.c_int32, "items cosine"),
        (ctypes.c_float, "threshold temperature"),
        (ctypes.c_void_p, "items_at grads_at"),
    )


class Network:
    """Encoder, memory and decoder whose parameters, with their gradients, lie where they are now.

    Everything is float32 on the CPU and contiguous; gradients must be there, and are added to.

    Args:
        layers: all of them, in the order of the data.
        code: the first layer of the decoder.
        memory: what is read before that one; None for a plain autoencoder.

    Raises:
        MemoryError: there is no room.
    """

    def __init__(self, layers: Sequence[Layer], code: int, memory: Memory | None) -> None:
        library = _library()
        self._step, self._held = library.lanes_step, (layers, memory)
        first = layers[0]
        self._numbers = first.relation.places_in * first.weight.shape[0 if first.transposed else 1]  # of a sample
        self.items = 0 if memory is None else len(memory.items)
        specs = (_LayerSpec * len(layers))(*map(_layer_spec, layers))
        reads = [None] * 3 if memory is None else [ctypes.byref(spec) for spec in _memory_specs(memory)]
        self._handle = library.lanes_network(specs, len(layers), code, *reads)
        if not self._handle:
            raise MemoryError("no room for the layers of a network")
        weakref.finalize(self, library.lanes_free, self._handle)

    def step(
        self, seen: Tensor, wanted: Tensor, weight: float, entropy_weight: float, threads: int
    ) -> tuple[float, Tensor | None]:
        """Adds the gradients of a batch to those of the parameters; running statistics of BatchNorm move, too.

        Args:
            seen: (B, ...) what goes in, with the features or channels on its second axis; contiguous.
            wanted: (B, ...) what is to come out; contiguous.
            weight: of the sum of the squared errors in the loss.
            entropy_weight: of the mean addressing entropy.
            threads: at most so many.

        Returns:
            The loss, and (N + 2,) int64 as `memae.memory.usage.use_counts` has it; None without a memory.

        Raises:
            MemoryError: there is no room for a batch of this size.
            ValueError: samples of another size, layout or dtype than the network takes.
        """
        for x in (seen, wanted):  # the library sees an address alone
            if x.dtype != torch.float32 or not x.is_contiguous() or x.numel() != seen.shape[0] * self._numbers:
                raise ValueError(
                    f"samples are contiguous float32 of {self._numbers} numbers each; got {tuple(x.shape)}, {x.dtype}"
                )
        counts = torch.zeros(self.items + 2, dtype=torch.int64) if self.items else None
        loss, samples = ctypes.c_double(), seen.shape[0]
        failed = self._step(
            self._handle, seen.data_ptr(), wanted.data_ptr(), samples, weight, entropy_weight, threads,
            ctypes.byref(loss), None if counts is None else counts.data_ptr(),
        )  # fmt: skip
        if failed:
            raise MemoryError(f"no room for the layers of {samples} samples")
        return loss.value, counts


def _layer_spec(layer: Layer) -> _LayerSpec:
    first, second = layer.weight.shape[:2]
    inputs, outputs = (first, second) if layer.transposed else (second, first)
    taps, norm = layer.relation.taps, layer.norm
    spec = _relation_spec(layer.relation, inputs, outputs)
    across, along = second * taps, taps
    spec.by_output, spec.by_input = (along, across) if layer.transposed else (across, along)
    spec.by_tap = 1
    spec.weight, spec.weight_grad = _addresses(layer.weight)
    spec.activation = next(n for n, kind in enumerate(ACTIVATIONS) if isinstance(layer.activation, kind))
    spec.norm = norm is not None
    if layer.bias is not None:
        spec.bias, spec.bias_grad = _addresses(layer.bias)
    if norm is not None:
        spec.gamma, spec.gamma_grad = _addresses(norm.weight)
        spec.beta, spec.beta_grad = _addresses(norm.bias)
        spec.mean, spec.variance, spec.batches = (buffer.data_ptr() for buffer in norm.buffers())
        spec.momentum, spec.epsilon = norm.momentum, norm.eps
    return spec


def _memory_specs(memory: Memory) -> tuple[_LayerSpec, _LayerSpec, _MemorySpec]:
    """What makes logits of queries, what makes values of weights, and the rest."""
    relation = (Relation.each_to_one if memory.whole else Relation.each_alone)(memory.places)
    count, channels = len(memory.items), memory.items.shape[1] // relation.taps
    ask, tell = _relation_spec(relation, channels, count), _relation_spec(relation.reversed, count, channels)
    rest = _MemorySpec(count, memory.cosine, memory.threshold, memory.temperature, *_addresses(memory.items))
    return ask, tell, rest


def _relation_spec(relation: Relation, inputs: int, outputs: int) -> _LayerSpec:
    spec = _LayerSpec(inputs, outputs, relation.places_in, relation.places_out, relation.taps, len(relation.tap))
    spec.out, spec.into, spec.tap = (side.ctypes.data for side in (relation.out, relation.into, relation.tap))
    spec.held = relation  # the arrays live until the library has read them
    return spec


def _addresses(parameter: nn.Parameter) -> tuple[int, int]:
    assert parameter.grad is not None and parameter.is_contiguous() and parameter.grad.is_contiguous()
    return parameter.data_ptr(), parameter.grad.data_ptr()


def _library() -> Any:
    return _typed(native.library())


@cache
def _typed(library: Any) -> Any:
    pointer, number = ctypes.c_void_p, ctypes.c_float
    library.lanes_network.restype = pointer
    library.lanes_network.argtypes = [pointer, ctypes.c_int, ctypes.c_int, pointer, pointer, pointer]
    library.lanes_free.argtypes, library.lanes_free.restype = [pointer], None
    library.lanes_step.argtypes = [
        pointer, pointer, pointer, ctypes.c_int, number, number, ctypes.c_int, pointer, pointer,
    ]  # fmt: skip
    return library
