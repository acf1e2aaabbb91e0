"""The error function and the loss, by hand-made numbers."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from memae.config import Reduction
from memae.losses import squared_error, total_loss
from memae.memory.base import LossTerm

ERRORS = torch.tensor([[[1.0, 4.0], [9.0, 0.0]], [[0.0, 2.0], [0.0, 0.0]]])  # sums 14 and 2, means 3.5 and 0.5


def entropy(weight: float) -> LossTerm:
    return LossTerm("entropy", weight, torch.tensor([1.0, 0.5, 0.0]).mean())  # of three queries: 0.5


def test_squared_error_is_element_by_element() -> None:
    x, rebuilt = torch.tensor([[1.0, -2.0, 0.5]]), torch.tensor([[3.0, -2.0, 1.0]])
    assert squared_error(x, rebuilt).tolist() == [[4.0, 0.0, 0.25]]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.uint8])
def test_squared_error_is_float32_at_least(dtype: torch.dtype) -> None:
    x = torch.tensor([200, 3], dtype=dtype)
    half = squared_error(x, torch.tensor([100.0, 2.5]).to(torch.bfloat16))
    assert half.dtype == torch.float32
    assert half.tolist() == [10_000, 0.25]
    assert squared_error(x.double(), torch.tensor([100.0, 2.5])).dtype == torch.float64


def test_squared_error_keeps_a_difference_that_half_precision_would_lose() -> None:
    x = torch.tensor([1.0])
    rebuilt = torch.tensor([1.0 + 2**-7], dtype=torch.bfloat16)
    assert squared_error(x.bfloat16(), rebuilt).item() == 2**-14
    assert squared_error(x + 2**-12, rebuilt).item() == (2**-7 - 2**-12) ** 2


@pytest.mark.parametrize(
    ("reduction", "alpha", "wanted"), [("sum", 0, 8.0), ("mean", 0, 2.0), ("sum", 0.2, 8.1), ("mean", 0.2, 2.1)]
)
def test_total_loss_of_hand_made_numbers(reduction: Reduction, alpha: float, wanted: float) -> None:
    assert_close(total_loss(ERRORS, [entropy(alpha)], reduction=reduction), torch.tensor(wanted))


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_without_a_memory_there_is_no_entropy_to_weigh(reduction: Reduction) -> None:
    assert torch.equal(
        total_loss(ERRORS, reduction=reduction),
        total_loss(ERRORS, [entropy(0.0)], reduction=reduction),
    )


def test_the_loss_is_one_number_per_batch_whatever_its_size() -> None:
    one = total_loss(ERRORS, [entropy(0.5)], reduction="sum")
    twice = total_loss(ERRORS.repeat(2, 1, 1), [entropy(0.5)], reduction="sum")
    assert_close(one, twice)
    assert one.shape == ()


def test_the_gradient_of_the_sum_is_the_mean_gradient_times_the_elements() -> None:
    x, rebuilt = torch.zeros(2, 5), torch.ones(2, 5, requires_grad=True)
    grads = [
        torch.autograd.grad(total_loss(squared_error(x, rebuilt), reduction=reduction), rebuilt)[0]
        for reduction in ("sum", "mean")
    ]
    assert_close(grads[0], torch.ones(2, 5))  # 2 * 1 / B
    assert_close(grads[0], 5 * grads[1])
