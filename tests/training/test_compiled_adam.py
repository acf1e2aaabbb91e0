import pytest
import torch
from torch import nn
from torch.testing import assert_close

from memae.training.compiled_gradients import available, compiled_adam

pytestmark = pytest.mark.skipif(not available(), reason="memae was installed without a compiler")


@pytest.mark.parametrize("count", [1, 7, 16, 100, 1003])
def test_the_compiled_step_takes_vectors_of_any_length(count: int) -> None:
    values, grads, means, squares, steps = (torch.randn(count), *torch.zeros(3, count), torch.zeros(()))
    p = nn.Parameter(values.clone())
    adam, step = torch.optim.Adam([p], lr=0.1), compiled_adam(values, grads, means, squares, steps)
    assert step is not None
    for _ in range(5):
        p.grad = torch.randn(count)
        grads.copy_(p.grad)
        adam.step()
        step(0.1, 0.9, 0.999, 1e-8)
    assert_close(values, p.detach())
    assert_close(squares, adam.state[p]["exp_avg_sq"])
    assert steps == 5


@pytest.mark.parametrize(
    ("place", "wrong", "message"),
    [
        (1, torch.zeros(7), "grads: contiguous"),
        (2, torch.zeros(8).double(), "means: contiguous"),
        (3, torch.zeros(16)[::2], "squares: contiguous"),
        (4, torch.zeros(1), "steps: contiguous"),
        (4, torch.zeros((), dtype=torch.int64), "steps: contiguous"),
    ],
)
def test_what_the_compiled_step_cannot_take_is_refused(place: int, wrong: torch.Tensor, message: str) -> None:
    vectors = [*torch.zeros(4, 8), torch.zeros(())]
    vectors[place] = wrong
    with pytest.raises(ValueError, match=message):
        compiled_adam(*vectors)


def test_vectors_that_overlap_are_refused() -> None:
    whole = torch.zeros(31)
    with pytest.raises(ValueError, match="overlap"):
        compiled_adam(whole[:8], whole[7:15], whole[15:23], whole[23:], torch.zeros(()))
