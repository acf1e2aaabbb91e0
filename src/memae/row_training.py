"""Training steps on rows in a fraction of the time: gradients written out, and parameters side by side.

A product of narrow matrices takes microseconds. Half of a step went to autograd's book-keeping and to an optimiser
that goes from parameter to parameter. Here the gradients of the reconstruction objective stand as formulas, and Adam
sees one long parameter. What is computed is the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from memae.memory import MemoryModule
from memae.models.autoencoder import Autoencoder
from memae.models.table import layers_backward, layers_forward, linear_layers
from memae.objective import ReconstructionObjective
from memae.ops import MemoryRead
from memae.ops.blocked import read_backward, read_forward

__all__ = ["BlockAdam", "RowGradients"]


class RowGradients:
    """Loss and gradients of the reconstruction objective for an autoencoder of rows, on the CPU.

    Equation 10 of Gong et al. 2019 as `memae.losses.total_loss` has it; the gradients are added to those that the
    parameters hold. These, and the memory that parameters lie in, must stay what they are now.
    """

    def __init__(self, model: Autoencoder, objective: ReconstructionObjective) -> None:
        self._encoder, self._decoder = _Layers.of(model.encoder), _Layers.of(model.decoder)
        self._memory, self._objective = model.memory, objective

    @staticmethod
    def suit(model: nn.Module) -> bool:
        """Whether these are the gradients of `model`: layers of `fully_connected`, all of which learn, on the CPU."""
        if type(model) is not Autoencoder or not (linear_layers(model.encoder) and linear_layers(model.decoder)):
            return False
        memory = model.memory
        return (memory is None or (type(memory) is MemoryModule and memory.similarity != "euclidean")) and all(
            p.requires_grad and p.device.type == "cpu" and p.dtype == torch.float32 for p in model.parameters()
        )

    @torch.no_grad()
    def __call__(self, x: Tensor, share: float = 1.0) -> tuple[Tensor, MemoryRead | None]:
        """The loss of a batch (B, F), of which it is a `share`, and the read behind it."""
        alpha, reduction, noise = self._objective.alpha, self._objective.reduction, self._objective.noise
        seen = x + noise * torch.randn_like(x) if noise else x
        read, kept, memory = None, None, self._memory
        value, encoder_saw = layers_forward(seen, self._encoder.parameters)
        if memory is not None:
            found, kept = read_forward(
                value,
                memory.items,
                memory.shrinkage / memory.num_items,
                memory.temperature,
                memory.similarity == "cosine",
                True,
            )
            read = MemoryRead(*found)
            value = read.value
        rebuilt, decoder_saw = layers_forward(value, self._decoder.parameters)
        residual = rebuilt.sub_(x)
        weight = share / len(x) / (x.shape[1] if reduction == "mean" else 1)
        loss = residual.square().sum().mul_(weight)
        grad = layers_backward(residual.mul_(2 * weight), decoder_saw, *self._decoder, through=True)
        if read is not None and kept is not None and memory is not None:
            entropy = None
            if alpha:
                loss += share * alpha * read.entropy.mean()
                entropy = torch.full_like(read.entropy, share * alpha / len(x))
            grad, items_grad = read_backward(kept, memory.temperature, grad, None, entropy)
            _grad_of(memory.items).add_(items_grad)
        assert grad is not None
        layers_backward(grad, encoder_saw, *self._encoder, through=False)
        return loss, read


class _Layers(NamedTuple):
    """Weight and bias of each layer in turn; taken once, as a module looks each of them up by its name."""

    parameters: list[Tensor]
    grads: list[Tensor]

    @classmethod
    def of(cls, network: nn.Module) -> _Layers:
        learnt = [parameter for layer in linear_layers(network) for parameter in (layer.weight, layer.bias)]
        return cls([parameter.data for parameter in learnt], [_grad_of(parameter) for parameter in learnt])


def _grad_of(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


class BlockAdam:
    """Adam (Kingma and Ba, 2015) of parameters that lie side by side, as do their gradients and moments.

    A step is one of the whole block, and not one for each parameter. It has of `torch.optim.Adam` what a training asks
    for, and the state of the one can be loaded into the other. Gradients are added up in the block, autograd's too.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float) -> None:
        own = list(parameters)
        self.param_groups: list[dict[str, Any]] = [{"params": own, "lr": lr}]
        self._values = torch.cat([p.detach().flatten() for p in own])
        self._grads, self._means, self._squares = (torch.zeros_like(self._values) for _ in range(3))
        self._steps = torch.zeros(())
        values, grads, means, squares = (
            [part.view(p.shape) for part, p in zip(torch.split(block, [p.numel() for p in own]), own, strict=True)]
            for block in (self._values, self._grads, self._means, self._squares)
        )
        for p, value, grad in zip(own, values, grads, strict=True):
            p.data, p.grad = value, grad
        self.state = {
            p: {"step": self._steps, "exp_avg": mean, "exp_avg_sq": square}
            for p, mean, square in zip(own, means, squares, strict=True)
        }

    @torch.no_grad()
    def step(self) -> None:
        """One step of all parameters."""
        self._steps += 1
        # what torch.optim.adam.adam comes to with fused=True, for a third of its time
        torch._fused_adam_(
            [self._values], [self._grads], [self._means], [self._squares], [], [self._steps],
            amsgrad=False, beta1=0.9, beta2=0.999, lr=self.param_groups[0]["lr"], weight_decay=0.0, eps=1e-8,
            maximize=False,
        )  # fmt: skip

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Sets the gradients to zero; they stay where they are."""
        self._grads.zero_()

    def state_dict(self) -> dict[str, Any]:
        """As that of `torch.optim.Adam`: steps and moments by the place of their parameter."""
        return {"state": dict(enumerate(self.state.values()))}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Copies such a state."""
        for place, mine in enumerate(self.state.values()):
            for name, tensor in mine.items():
                tensor.copy_(state_dict["state"][place][name])

    def release(self) -> None:
        """Gives the parameters memory of their own again."""
        for p in self.state:
            p.data, p.grad = p.data.clone(), None
