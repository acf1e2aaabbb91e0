"""Adam for small networks: all parameters as one vector, as are their gradients and moments."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim.adam import adam

from memae.training.compiled_gradients import compiled_adam

__all__ = ["FlatAdam"]

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # of Kingma and Ba, and of torch


class FlatAdam:
    """Adam (Kingma and Ba, 2015) of parameters that lie one behind the other, as do their gradients and moments.

    A step is one of the whole vector, and not one for each parameter: for a small network that takes a third of the
    time. It has of `torch.optim.Adam` what a training asks for, and the state of the one can be loaded into the other.
    Gradients are added up in the vector, autograd's too.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float) -> None:
        own = list(parameters)
        self.param_groups: list[dict[str, Any]] = [{"params": own, "lr": lr}]
        self._values = torch.cat([p.detach().flatten() for p in own])
        self._grads, self._means, self._squares = (torch.zeros_like(self._values) for _ in range(3))
        self._steps = torch.zeros(())
        self._compiled = compiled_adam(self._values, self._grads, self._means, self._squares, self._steps)
        values, grads, means, squares = (
            [part.view(p.shape) for part, p in zip(torch.split(whole, [p.numel() for p in own]), own, strict=True)]
            for whole in (self._values, self._grads, self._means, self._squares)
        )
        for p, value, grad in zip(own, values, grads, strict=True):
            p.data, p.grad = value, grad
        self.state = {
            p: {"step": self._steps, "exp_avg": mean, "exp_avg_sq": square}
            for p, mean, square in zip(own, means, squares, strict=True)
        }

    def step(self) -> None:
        """One step of all parameters."""
        lr = self.param_groups[0]["lr"]
        if self._compiled:
            self._compiled(lr, BETA1, BETA2, EPSILON)
            return
        # the function behind `torch.optim.Adam.step`, for half of its time
        adam(
            [self._values], [self._grads], [self._means], [self._squares], [], [self._steps],
            fused=True, amsgrad=False, beta1=BETA1, beta2=BETA2, lr=lr, weight_decay=0.0, eps=EPSILON, maximize=False,
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
