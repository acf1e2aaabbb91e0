"""Gradients of small autoencoders by compiled code of our own, several times faster than autograd on a CPU.

`compiled_gradients` is the door, and `compiled_adam` one for the optimiser. docs/compiled-gradients.md has the idea,
the layout of the data and the tests; `gradients.h` is the interface to the C++ code.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from memae.training.compiled_gradients.adam import compiled_adam
from memae.training.compiled_gradients.library import available
from memae.training.compiled_gradients.network import CompiledNetwork
from memae.training.compiled_gradients.recognise import Known, recognise
from memae.training.objective import ReconstructionObjective

__all__ = ["CompiledGradients", "available", "compiled_adam", "compiled_gradients"]

WORK_PER_THREAD = 2_000_000  # multiply-adds, forward, that are worth another thread


def compiled_gradients(
    model: nn.Module, objective: object, shape: tuple[int, ...], threads: int
) -> CompiledGradients | None:
    """The gradients of an objective for a model; None where autograd must find them.

    That is so for networks that `recognise` does not know, for any objective but `ReconstructionObjective`, and
    wherever the compiled code is not `available`.

    Args:
        model: the network.
        objective: what is minimised.
        shape: of a sample, (F,) or (C, H, W).
        threads: at most so many take a batch together.
    """
    if not isinstance(objective, ReconstructionObjective) or not available():
        return None
    known = recognise(model, shape)
    return None if known is None else CompiledGradients(known, objective, threads)


class CompiledGradients:
    """Loss and gradients of the reconstruction objective for a network that is known.

    Equation 10 of Gong et al. 2019 as `memae.losses.total_loss` has it. Gradients are added to those that the
    parameters hold at the first call; these, and the memory that parameters lie in, must then stay where they are.
    """

    def __init__(self, known: Known, objective: ReconstructionObjective, threads: int) -> None:
        self._known, self._objective, self._threads = known, objective, threads
        self._network: CompiledNetwork | None = None

    def __call__(self, x: Tensor, share: float = 1.0) -> tuple[float, Tensor | None]:
        """The loss of a batch (B, F) or (B, C, H, W), of which it is a `share`; and `use_counts` of the read in it.

        Raises:
            ValueError: samples of another shape than the network takes.
            RuntimeError: memory runs out, or parameters or gradients have moved.
        """
        known, objective = self._known, self._objective
        if self._network is None:
            self._network = CompiledNetwork(known.layers, known.decoder, known.read)
        x = x.contiguous()
        seen = x + objective.noise * torch.randn_like(x) if objective.noise else x
        weight = share / (x.numel() if objective.reduction == "mean" else x.shape[0])
        threads = max(1, min(self._threads, x.shape[0] * known.work // WORK_PER_THREAD))
        return self._network.add_gradients(seen, x, weight, share, threads)
