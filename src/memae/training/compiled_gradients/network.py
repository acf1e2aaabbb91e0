"""A network as the compiled library sees it: every address and size that the library gets is checked here."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from operator import is_
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from memae.training.compiled_gradients import library
from memae.training.compiled_gradients.place_pairs import PlacePairs

__all__ = ["CompiledNetwork", "Layer", "Read", "address"]

ACTIVATIONS = (type(None), nn.ReLU, nn.Tanh)  # in the order of the header's enum
ALIGNMENT = 64  # bytes, of the workspace


class Layer(NamedTuple):
    """A linear layer, a convolution or its transpose; then BatchNorm and an activation, if there are any."""

    pairs: PlacePairs
    weight: nn.Parameter
    """(O, I, ...), or (I, O, ...) where it is `transposed`."""
    transposed: bool
    bias: nn.Parameter | None = None
    """None in front of BatchNorm."""
    norm: nn.BatchNorm2d | None = None
    activation: nn.Module | None = None

    @property
    def inputs(self) -> int:
        """I, its input channels."""
        return self.weight.shape[0 if self.transposed else 1]

    @property
    def outputs(self) -> int:
        """O, its output channels."""
        return self.weight.shape[1 if self.transposed else 0]


class Read(NamedTuple):
    """The memory read between encoder and decoder: equations 3 to 8 of Gong et al. 2019."""

    items: nn.Parameter
    """(N, C), or (N, C places) where the encoding is one query."""
    places: int
    """Of the encoding."""
    whole: bool
    """Whether the encoding is one query, and not one for each place."""
    cosine: bool
    """The similarity; else the dot product."""
    threshold: float
    """lambda: weights above it are kept; 0 keeps all."""
    temperature: float
    entropy_weight: float
    """alpha: of the mean addressing entropy in the loss."""


class CompiledNetwork:
    """Encoder, memory and decoder, whose gradients the compiled library adds to those that the parameters hold.

    Parameters and gradients are contiguous float32 on the CPU, and stay where they are.

    Args:
        layers: in the order of the data.
        decoder: index of the decoder's first layer.
        read: the memory in front of that layer; None for a plain autoencoder.

    Raises:
        ValueError: a parameter, gradient or buffer of another shape, dtype, layout or device than its layer takes; or
            layers that do not fit one behind the other.
    """

    def __init__(self, layers: Sequence[Layer], decoder: int, read: Read | None) -> None:
        if not 0 < decoder < len(layers):
            raise ValueError(f"the decoder begins with one of layers 1 to {len(layers) - 1}; got {decoder}")
        _check_chain(layers, decoder, read)
        self._library = library.library()
        self._numbers = layers[0].inputs * layers[0].pairs.places_in  # of a sample
        self._kept: list[object] = []  # arrays that the structures point to
        structs = [self._layer(f"layer {number}", layer) for number, layer in enumerate(layers)]
        self._network = library.NetworkStruct((library.LayerStruct * len(layers))(*structs), len(layers), decoder)
        self._parameters = [parameter for layer in layers for parameter in _parameters(layer)]
        self._num_items, self._entropy_weight = 0, 0.0
        if read is not None:
            self._network.memory = ctypes.pointer(self._memory(read))
            self._num_items, self._entropy_weight = len(read.items), read.entropy_weight
            self._parameters.append(read.items)
        self._grads = [parameter.grad for parameter in self._parameters]
        self._data_ptr = [parameter.data_ptr for parameter in self._parameters]
        self._places = [place() for place in self._data_ptr]
        self._workspace, self._needed = torch.empty(0), dict[tuple[int, int], int]()

    def add_gradients(
        self, seen: Tensor, target: Tensor, weight: float, share: float, threads: int
    ) -> tuple[float, Tensor | None]:
        """Adds the gradients of a batch to those of the parameters, and moves the running statistics of BatchNorm.

        Args:
            seen: (B, C, ...) what goes in: contiguous float32 on the CPU.
            target: of the same shape, what is to come out.
            weight: of the sum of the squared errors in the loss.
            share: of the batch that these samples are: the entropy weighs that much of what it weighs.
            threads: at most so many, 1 or more.

        Returns:
            The loss, and (N + 2,) int64 as `memae.memory.usage.use_counts` has it; None without a memory.

        Raises:
            ValueError: samples of another size, dtype or layout than the network takes, none at all, or no threads.
            RuntimeError: parameters or gradients no longer lie where they did, or memory runs out.
        """
        samples = len(seen)
        if not 0 < samples < 2**31 or threads < 1:
            raise ValueError(f"a batch has at least one sample and one thread; got {samples} and {threads}")
        for x in (seen, target) if target is not seen else (seen,):
            good = x.is_cpu and x.dtype is torch.float32 and x.is_contiguous() and x.shape == seen.shape
            if not good or x.numel() != samples * self._numbers:
                raise ValueError(
                    f"samples are contiguous float32 of {self._numbers} numbers each, on the CPU; "
                    f"got {x.dtype} of shape {tuple(x.shape)}, strides {x.stride()}, on {x.device}"
                )
        if not self._in_place():
            raise RuntimeError("parameters and their gradients must stay where the network was made with them")
        counts = torch.zeros(self._num_items + 2, dtype=torch.int64) if self._num_items else None
        loss = self._library.memae_gradients(
            self._network, seen.data_ptr(), target.data_ptr(), samples, weight, share * self._entropy_weight, threads,
            self._room(samples, threads), None if counts is None else counts.data_ptr(),
        )  # fmt: skip
        return loss, counts

    def _in_place(self) -> bool:
        return [place() for place in self._data_ptr] == self._places and all(
            map(is_, [p.grad for p in self._parameters], self._grads)
        )

    def _room(self, samples: int, threads: int) -> int:
        """Address of a workspace that is large enough."""
        if (samples, threads) not in self._needed:
            self._needed[samples, threads] = self._library.memae_workspace(self._network, samples, threads)
        if self._workspace.numel() < (needed := self._needed[samples, threads]):
            self._workspace = torch.empty(0)  # gives the old one back first
            self._workspace = torch.empty(needed)
        address = self._workspace.data_ptr()
        assert address % ALIGNMENT == 0, "torch aligns what it allocates"
        return address

    def _layer(self, name: str, layer: Layer) -> library.LayerStruct:
        pairs, norm = layer.pairs, layer.norm
        struct = self._pairs(layer.pairs, layer.inputs, layer.outputs)
        second, taps = layer.weight.shape[1] * pairs.taps, pairs.taps
        struct.by_output, struct.by_input = (taps, second) if layer.transposed else (second, taps)
        struct.by_tap = 1
        struct.activation = next(n for n, kind in enumerate(ACTIVATIONS) if isinstance(layer.activation, kind))
        if layer.weight[0, 0].numel() != taps:
            raise ValueError(f"{name} has {taps} taps; its weight has shape {tuple(layer.weight.shape)}")
        struct.weight, struct.weight_grad = _addresses(f"{name}, weight", layer.weight, layer.weight.shape)
        channels = (layer.outputs,)
        if norm is not None:
            struct.shift, struct.shift_grad = _addresses(f"{name}, beta", norm.bias, channels)
            struct.scale, struct.scale_grad = _addresses(f"{name}, gamma", norm.weight, channels)
            struct.running_mean = address(f"{name}, running mean", norm.running_mean, channels)
            struct.running_variance = address(f"{name}, running variance", norm.running_var, channels)
            struct.batches = address(f"{name}, batch count", norm.num_batches_tracked, (), torch.int64)
            struct.momentum, struct.epsilon = norm.momentum, norm.eps
        elif layer.bias is not None:
            struct.shift, struct.shift_grad = _addresses(f"{name}, bias", layer.bias, channels)
        return struct

    def _memory(self, read: Read) -> library.MemoryStruct:
        pairs = (PlacePairs.flattened if read.whole else PlacePairs.pointwise)(read.places)
        num_items, channels = len(read.items), read.items.shape[1] // pairs.taps
        return library.MemoryStruct(
            num_items,
            read.cosine,
            read.threshold,
            read.temperature,
            *_addresses("memory items", read.items, (num_items, channels * pairs.taps)),
            self._pairs(pairs, channels, num_items),
            self._pairs(pairs.transposed, num_items, channels),
        )

    def _pairs(self, pairs: PlacePairs, inputs: int, outputs: int) -> library.LayerStruct:
        """What a layer of these pairs and channels has in any case."""
        columns = {"tap": pairs.taps, "out": pairs.places_out, "into": pairs.places_in}
        for name, end in columns.items():
            column = getattr(pairs, name)
            if column.dtype != np.int32 or column.shape != pairs.tap.shape or column.ndim != 1:
                raise ValueError(f"{name} of the pairs: int32 of one length; got {column.dtype}, {column.shape}")
            if len(column) and not 0 <= column.min() <= column.max() < end:
                raise ValueError(f"{name} of the pairs lies in [0, {end}); got {column.min()} to {column.max()}")
        by = [self._sorted(pairs, getattr(pairs, key), columns[key]) for key in ("out", "into", "tap")]
        struct = library.LayerStruct(inputs, outputs, pairs.places_in, pairs.places_out, pairs.taps)
        struct.sorted_by_out, struct.sorted_by_in, struct.sorted_by_tap = by
        return struct

    def _sorted(self, pairs: PlacePairs, key: np.ndarray, keys: int) -> library.PairsStruct:
        order = np.argsort(key, kind="stable")
        start = np.append(0, np.bincount(key, minlength=keys).cumsum()).astype(np.int32)
        arrays = [start, *(column[order] for column in (pairs.tap, pairs.out, pairs.into))]
        self._kept.append(arrays)
        return library.PairsStruct(*(array.ctypes.data for array in arrays))


def _check_chain(layers: Sequence[Layer], decoder: int, read: Read | None) -> None:
    """Each layer takes what the one before gives, the last gives what the first takes, and the memory fits between."""
    for number, (before, layer) in enumerate(zip([layers[-1], *layers], layers, strict=False)):
        given, taken = (before.outputs, before.pairs.places_out), (layer.inputs, layer.pairs.places_in)
        if given != taken:
            raise ValueError(f"layer {number} takes (channels, places) {taken} and is given {given}")
    if read is None:
        return
    channels, places = layers[decoder].inputs, layers[decoder].pairs.places_in
    wanted = channels * places if read.whole else channels
    if read.places != places or read.items.ndim != 2 or read.items.shape[1] != wanted or not len(read.items):
        raise ValueError(
            f"an encoding of {channels} channels and {places} places asks items (N, {wanted}); "
            f"got {tuple(read.items.shape)} for {read.places} places"
        )
    if not (read.temperature > 0 and read.threshold >= 0):
        raise ValueError(f"temperature > 0 and threshold >= 0; got {read.temperature} and {read.threshold}")


def _parameters(layer: Layer) -> list[nn.Parameter]:
    norm = (None, None) if layer.norm is None else (layer.norm.weight, layer.norm.bias)
    return [p for p in (layer.weight, layer.bias, *norm) if p is not None]


def _addresses(name: str, parameter: nn.Parameter, shape: Sequence[int]) -> tuple[int, int]:
    """Of a parameter and its gradient."""
    return address(name, parameter, shape), address(f"gradient of {name}", parameter.grad, shape)


def address(name: str, x: Tensor | None, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> int:
    """Where a tensor lies.

    Raises:
        ValueError: it does not lie there as the library reads it.
    """
    if x is None:
        raise ValueError(f"{name} is missing")
    if x.shape != shape or x.dtype != dtype or x.device.type != "cpu" or not x.is_contiguous():
        raise ValueError(
            f"{name}: contiguous {dtype} of shape {tuple(shape)} on the CPU; got {x.dtype} of shape {tuple(x.shape)}, "
            f"strides {x.stride()}, on {x.device}"
        )
    return x.data_ptr()
