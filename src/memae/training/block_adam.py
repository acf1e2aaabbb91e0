"""Adam for small networks: parameters, gradients and moments each lie in one block."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

__all__ = ["BlockAdam"]


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
