"""Training steps on rows in a fraction of the time: gradients written out, and parameters side by side.

A product of narrow matrices takes microseconds. Half of a step went to autograd's book-keeping, to fresh memory for
every result, and to an optimiser that goes from parameter to parameter. Here the gradients of the reconstruction
objective stand as formulas, every result has a buffer that the next step takes again, and Adam sees one long parameter.
What is computed is the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from memae.losses import Reduction
from memae.memory import MemoryModule
from memae.models.autoencoder import Autoencoder
from memae.models.table import linear_layers
from memae.ops import MemoryRead
from memae.ops.blocked import read_backward, read_forward
from memae.ops.products import affine, product

__all__ = ["BlockAdam", "RowGradients"]

BATCH_SIZES = 2  # that have buffers: those of an epoch differ by one sample at most


class RowGradients:
    """Loss and gradients of the reconstruction objective for an autoencoder of rows, on the CPU.

    Equation 10 of Gong et al. 2019 as `memae.losses.total_loss` has it; the gradients are added to those that the
    parameters hold. These, and the memory that parameters lie in, must stay what they are now.
    """

    def __init__(self, model: Autoencoder, *, alpha: float, reduction: Reduction, noise: float) -> None:
        self._encoder = _Chain(linear_layers(model.encoder))
        self._decoder = _Chain(linear_layers(model.decoder), to_rows=True)  # to be held against the batch
        self._memory = model.memory
        self._alpha, self._reduction, self._noise = alpha, reduction, noise

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
        seen = x + self._noise * torch.randn_like(x) if self._noise else x
        value, read, kept, memory = self._encoder(seen.T).T, None, None, self._memory
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
        residual = self._decoder(value.T).sub_(x)
        weight = share / len(x) / (x.shape[1] if self._reduction == "mean" else 1)
        loss = residual.square().sum().mul_(weight)
        grad = self._decoder.backward(residual.mul_(2 * weight).T, through=True)
        if read is not None and kept is not None and memory is not None:
            entropy = None
            if self._alpha:
                loss += share * self._alpha * read.entropy.mean()
                entropy = torch.full_like(read.entropy, share * self._alpha / len(x))
            query_grad, items_grad = read_backward(kept, memory.temperature, grad.T, None, entropy)
            _grad_of(memory.items).add_(items_grad)
            grad = query_grad.T
        self._encoder.backward(grad, through=False)
        return loss, read


class _Chain:
    """Linear layers with tanh between them, on columns: (width, B); the last result is one of rows if `to_rows`."""

    def __init__(self, layers: Sequence[nn.Linear], *, to_rows: bool = False) -> None:
        self._to_rows = to_rows
        # taken once, as a module looks each of them up by its name
        self._layers = [(layer.weight.data, layer.bias.data[:, None]) for layer in layers]
        self._grads = [(_grad_of(layer.weight), _grad_of(layer.bias)) for layer in layers]
        self._widths = [layers[0].in_features, *(layer.out_features for layer in layers)]
        self._buffers: dict[int, tuple[list[Tensor], list[Tensor], Tensor]] = {}
        self._input: Tensor | None = None

    def __call__(self, h: Tensor) -> Tensor:
        """(widths[-1], B), or (B, widths[-1]), of (widths[0], B); the next call with as many columns overwrites it."""
        made, _, _ = self._room(h.shape[1])
        self._input = h
        last = len(self._layers) - 1
        for place, ((weight, bias), out) in enumerate(zip(self._layers, made, strict=True)):
            if place == last and self._to_rows:
                affine(h.T, weight.T, bias.T, out=out)
            elif place == last:
                affine(weight, h, bias, out=out)
            else:  # tanh as 2 sigmoid(2 z) - 1, see memae.models.table
                affine(weight, h, bias, times=2, out=out)
                out.sigmoid_().mul_(2).sub_(1)
            h = out
        return h

    def backward(self, grad: Tensor, *, through: bool) -> Tensor:
        """Adds to the gradients of the layers; that of the input (widths[0], B) where it is to go `through`.

        Args:
            grad: (widths[-1], B) of the last result.
            through: whether anything lies before these layers.
        """
        assert self._input is not None
        made, grads, ones = self._room(grad.shape[1])
        inputs = [self._input, *made[:-1]]
        for place in range(len(self._layers) - 1, -1, -1):
            (weight, _), (weight_grad, bias_grad), h = self._layers[place], self._grads[place], inputs[place]
            affine(grad, h.T, weight_grad, out=weight_grad)
            bias_grad.addmv_(grad, ones)
            if place or through:
                grad = product(weight.T, grad, out=grads[place])
            if place:
                torch.ops.aten.tanh_backward.grad_input(grad, h, grad_input=grad)
        return grad

    def _room(self, columns: int) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Buffers for the results, for the gradients of the inputs, and as many ones as there are columns."""
        if columns not in self._buffers:
            if len(self._buffers) == BATCH_SIZES:
                self._buffers.clear()
            made, grads = (
                [torch.empty(width, columns) for width in widths]
                for widths in (self._widths[1:], self._widths[:-1])
            )
            if self._to_rows:
                made[-1] = torch.empty(columns, self._widths[-1])
            self._buffers[columns] = made, grads, torch.ones(columns)
        return self._buffers[columns]


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
        adam(
            [self._values], [self._grads], [self._means], [self._squares], [], [self._steps],
            fused=True, amsgrad=False, beta1=0.9, beta2=0.999, lr=self.param_groups[0]["lr"], weight_decay=0.0,
            eps=1e-8, maximize=False,
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
