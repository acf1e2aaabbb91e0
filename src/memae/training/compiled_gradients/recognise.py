"""Which networks the compiled gradients know, and as what layers."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from memae.autoencoder import Autoencoder
from memae.config import Query
from memae.memory.memae import MemAE
from memae.training.compiled_gradients.network import Layer, Read
from memae.training.compiled_gradients.place_pairs import PlacePairs

__all__ = ["Known", "recognise"]

MAX_NUMBERS = 1 << 16  # in the largest map of a sample: a block of samples with more does not stay in the cache

# Modules whose layers compute what their class says; those of anyone else may do anything.
KNOWN_MODULES = ("torch.nn.modules.", "memae.image.networks")
# torch has no public way to ask for hooks; a module without these attributes is left to autograd
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")

Size = tuple[int, int]


class Known(NamedTuple):
    """A network that the compiled gradients know."""

    layers: list[Layer]
    decoder: int
    """Index of the decoder's first layer."""
    read: Read | None
    work: int
    """Multiply-adds of one sample, forward."""


def recognise(model: nn.Module, shape: tuple[int, ...]) -> Known | None:
    """The layers of a model; None where it does anything that the compiled gradients do not.

    Known are autoencoders whose layers are linear, or convolutions or transposed ones with a square kernel, with a bias
    or BatchNorm, and with ReLU, tanh or nothing behind; with MemAE's memory by cosine or dot product, or none. All
    parameters are float32 on the CPU, learn, and have one place each; no module has a hook.

    Args:
        model: the network.
        shape: of a sample, (F,) or (C, H, W).
    """
    if type(model) is not Autoencoder or len(shape) not in (1, 3) or not _plain(model):
        return None
    encoder, size = _layers(model.encoder, (shape[1], shape[2]) if len(shape) == 3 else None)
    decoder, _ = _layers(model.decoder, size)
    layers = encoder + decoder
    if not encoder or not decoder or max(layer.outputs * layer.pairs.places_out for layer in layers) > MAX_NUMBERS:
        return None
    read = None
    if model.memory is not None:
        if type(model.memory) is not MemAE or model.memory.similarity == "euclidean":
            return None
        read = _read(model.memory, model.query, decoder[0].pairs.places_in)
    work = sum(len(layer.pairs.tap) * layer.inputs * layer.outputs for layer in layers)
    if read is not None:
        work += 2 * read.items.numel() * (1 if read.whole else read.places)
    return Known(layers, len(encoder), read, work)


def _plain(model: nn.Module) -> bool:
    parameters = list(model.parameters())
    shared = len(list(model.named_parameters(remove_duplicate=False))) > len(parameters)
    return (
        not shared  # threads would add to one gradient at the same time
        and all(p.requires_grad and p.device.type == "cpu" and p.dtype == torch.float32 for p in parameters)
        and not any(getattr(part, hooks, True) for part in model.modules() for hooks in HOOKS)
    )


def _read(memory: MemAE, query: Query, places: int) -> Read:
    return Read(
        memory.items,
        places,
        query == "whole",
        memory.similarity == "cosine",
        memory.shrinkage / memory.num_items,
        memory.temperature,
        memory.entropy_weight,
    )


def _layers(half: nn.Module, size: Size | None) -> tuple[list[Layer], Size | None]:
    """The layers of an encoder or decoder, none where one is not known, and the size of the last map.

    Args:
        half: the one.
        size: of the map that it gets; None for the row of a table.
    """
    stages = list(half.children()) if _known(half, nn.Sequential) else [half]
    found: list[Layer] = []
    while stages:
        linear = stages.pop(0)
        norm, activation = _next(stages, nn.BatchNorm2d), _next(stages, nn.ReLU, nn.Tanh)
        assert norm is None or isinstance(norm, nn.BatchNorm2d)
        placed = _pairs(linear, size)
        weight, bias = getattr(linear, "weight", None), getattr(linear, "bias", None)
        if placed is None or not isinstance(weight, nn.Parameter) or not (norm is None or _usual(norm, bias)):
            return [], size
        pairs, size = placed
        found.append(Layer(pairs, weight, isinstance(linear, nn.ConvTranspose2d), bias, norm, activation))
    return found, size


def _next(stages: list[nn.Module], *kinds: type[nn.Module]) -> nn.Module | None:
    """Takes the next stage off the list if it is of one of these kinds."""
    return stages.pop(0) if stages and _known(stages[0], *kinds) else None


def _usual(norm: nn.BatchNorm2d, bias: object) -> bool:
    """Whether BatchNorm has all that it may have, and no bias in front, which would learn nothing."""
    return bias is None and norm.affine and norm.track_running_stats and norm.momentum is not None


def _pairs(linear: nn.Module, size: Size | None) -> tuple[PlacePairs, Size | None] | None:
    """The place pairs of a layer and the size of its result; None where it is not known."""
    if size is None:
        return (PlacePairs.pointwise(1), None) if _known(linear, nn.Linear) else None
    if not isinstance(linear, nn.Conv2d | nn.ConvTranspose2d) or not _known(linear, nn.Module):
        return None
    kernel, stride, padding = linear.kernel_size, linear.stride, linear.padding
    plain = linear.groups == 1 and set(linear.dilation) == {1} and linear.padding_mode == "zeros"
    if not plain or isinstance(padding, str) or any(len(set(pair)) > 1 for pair in (kernel, stride, padding)):
        return None
    how = kernel[0], stride[0], int(padding[0])
    if isinstance(linear, nn.ConvTranspose2d):
        rows, columns = (
            (side - 1) * how[1] - 2 * how[2] + how[0] + more
            for side, more in zip(size, linear.output_padding, strict=True)
        )
        return PlacePairs.convolution((rows, columns), size, *how).transposed, (rows, columns)
    rows, columns = ((side + 2 * how[2] - how[0]) // how[1] + 1 for side in size)
    return PlacePairs.convolution(size, (rows, columns), *how), (rows, columns)


def _known(module: nn.Module, *kinds: type[nn.Module]) -> bool:
    """Whether a module is of a kind of torch's own, or of ours that computes the same; any other may do anything."""
    return isinstance(module, kinds) and type(module).__module__.startswith(KNOWN_MODULES)
