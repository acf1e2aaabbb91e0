"""Training steps of small autoencoders, rows and small images, in a fraction of the time; see `memae.training.lanes`.

Autograd's book-keeping takes longer than the work of a narrow layer, and libraries of convolutions reach half of their
rate on small maps. What is computed is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from memae import native
from memae.autoencoder import Autoencoder
from memae.memory.memae import MemAE
from memae.training import lanes
from memae.training.objective import ReconstructionObjective

__all__ = ["LaneGradients"]

LEAST_WORK = 2_000_000  # multiply-adds, forward, that are worth waking another thread for
MOST_NUMBERS = 1 << 16  # in the largest map of a sample: a block of samples with more does not stay in the cache
Size = tuple[int, int]

# Modules whose layers compute what their class says; those of anyone else may do anything.
OWN_MODULES = ("torch.nn.modules.", "memae.image.networks", "memae.table.networks")


class LaneGradients:
    """Loss and gradients of the reconstruction objective for a network of rows or small images, on the CPU.

    Equation 10 of Gong et al. 2019 as `memae.losses.total_loss` has it; the gradients are added to those that the
    parameters hold. These, and the memory that parameters lie in, must stay what they are now.
    """

    def __init__(
        self,
        model: Autoencoder,
        layers: Sequence[_Sized],
        code: int,
        objective: ReconstructionObjective,
        threads: int,
    ) -> None:
        self._layers, self._code, self._whole = layers, code, model.query == "whole"
        self._memory = model.memory if isinstance(model.memory, MemAE) else None
        self._objective, self._threads = objective, threads
        self._work = sum(layer.work for layer in layers)  # multiply-adds of a sample
        if self._memory is not None:
            queries = 1 if self._whole else layers[code].places
            self._work += 2 * queries * self._memory.items.numel()
        self._network: lanes.Network | None = None

    @classmethod
    def of(
        cls, model: nn.Module, objective: ReconstructionObjective, shape: tuple[int, ...], threads: int
    ) -> LaneGradients | None:
        """Those of a model, or None where the compiled code does not know it, or is not here.

        Args:
            model: the network.
            objective: what is minimised.
            shape: of a sample, (F,) or (C, H, W).
            threads: at most so many take a batch together.
        """
        if type(model) is not Autoencoder or len(shape) not in (1, 3) or not native.available():
            return None
        if not all(
            p.requires_grad and p.device.type == "cpu" and p.dtype == torch.float32 for p in model.parameters()
        ):
            return None
        if any(part._forward_hooks or part._forward_pre_hooks or part._backward_hooks for part in model.modules()):
            return None
        if len(list(model.named_parameters(remove_duplicate=False))) > len(list(model.parameters())):
            return None  # two layers share one, and threads would add to it at the same time
        memory = model.memory
        if memory is not None and (type(memory) is not MemAE or memory.similarity == "euclidean"):
            return None
        found = _layers(model, shape)
        if found is None or max(layer.numbers for layer in found[0]) > MOST_NUMBERS:
            return None
        return cls(model, *found, objective, threads)

    def __call__(self, x: Tensor, share: float = 1.0) -> tuple[float, Tensor | None]:
        """The loss of a batch (B, F) or (B, C, H, W), of which it is a `share`; and `use_counts` of the read in it.

        Raises:
            MemoryError: there is no room for such a batch.
        """
        if self._network is None:
            self._network = self._build()
        objective, x = self._objective, x.contiguous()
        seen = x + objective.noise * torch.randn_like(x) if objective.noise else x
        weight = share / (x.numel() if objective.reduction == "mean" else x.shape[0])
        threads = max(1, min(self._threads, x.shape[0] * self._work // LEAST_WORK))
        entropy_weight = 0.0 if self._memory is None else self._memory.entropy_weight
        return self._network.step(seen, x, weight, share * entropy_weight, threads)

    def _build(self) -> lanes.Network:
        read, memory = None, self._memory
        if memory is not None:
            read = lanes.Memory(
                memory.items,
                self._layers[self._code].places,
                self._whole,
                memory.similarity == "cosine",
                memory.shrinkage / memory.num_items,
                memory.temperature,
            )
        return lanes.Network([layer.layer for layer in self._layers], self._code, read)


class _Sized(NamedTuple):
    layer: lanes.Layer
    places: int
    """Of its input."""
    numbers: int
    """Of its output."""
    work: int
    """Multiply-adds."""


def _layers(model: Autoencoder, shape: tuple[int, ...]) -> tuple[list[_Sized], int] | None:
    """All layers and the first of the decoder; None where there is one that the compiled code does not know."""
    size: Size = (shape[1], shape[2]) if len(shape) == 3 else (1, 1)
    found: list[_Sized] = []
    starts = []
    for half in (model.encoder, model.decoder):
        starts.append(len(found))
        stages = list(half.children()) if _known(half, nn.Sequential) else [half]
        while stages:
            layer, stages, size = _layer(stages, size, len(shape) == 3) or (None, [], size)
            if layer is None:
                return None
            found.append(layer)
    return (found, starts[1]) if 0 < starts[1] < len(found) else None


def _layer(stages: list[nn.Module], size: Size, images: bool) -> tuple[_Sized, list[nn.Module], Size] | None:
    """The layer that a list of stages begins with, the stages behind it, and the size of its result."""
    linear, *rest = stages
    placed = _placed(linear, size, images)
    if placed is None:
        return None
    relation, after = placed
    norm = activation = None
    if rest and isinstance(first := rest[0], nn.BatchNorm2d) and _known(first, nn.BatchNorm2d):
        norm, rest = first, rest[1:]
        if not (norm.affine and norm.track_running_stats and norm.momentum is not None):
            return None
    if rest and _known(rest[0], nn.ReLU, nn.Tanh):
        activation, *rest = rest
    weight, bias = linear.weight, linear.bias
    assert isinstance(weight, nn.Parameter) and (bias is None or isinstance(bias, nn.Parameter))
    transposed = isinstance(linear, nn.ConvTranspose2d)
    layer = lanes.Layer(relation, weight, transposed, bias, norm, activation)
    numbers = relation.places_out * weight.shape[1 if transposed else 0]
    work = len(relation.tap) * weight.shape[0] * weight.shape[1]
    return _Sized(layer, relation.places_in, numbers, work), rest, after


def _placed(linear: nn.Module, size: Size, images: bool) -> tuple[lanes.Relation, Size] | None:
    """How the places of a layer's input meet those of its result, and the size of that."""
    if not _known(linear, *((nn.Conv2d, nn.ConvTranspose2d) if images else (nn.Linear,))):
        return None
    if not isinstance(linear, nn.Conv2d | nn.ConvTranspose2d):
        return lanes.Relation.each_alone(1), size
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
        return lanes.Relation.convolution((rows, columns), size, *how).reversed, (rows, columns)
    rows, columns = ((side + 2 * how[2] - how[0]) // how[1] + 1 for side in size)
    return lanes.Relation.convolution(size, (rows, columns), *how), (rows, columns)


def _known(module: nn.Module, *kinds: type[nn.Module]) -> bool:
    """Whether a module is one of torch's own kinds, or ours that computes the same; any other may do anything."""
    return isinstance(module, kinds) and type(module).__module__.startswith(OWN_MODULES)
