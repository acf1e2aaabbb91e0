"""Fully connected networks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from memae.autoencoder import Autoencoder
from memae.table import networks as table
from memae.table.networks import fully_connected


def test_tanh_lies_between_the_layers_and_not_behind_the_last() -> None:
    network = fully_connected((120, 60, 30, 10, 3))
    assert [type(stage) for stage in network] == [nn.Linear, nn.Tanh] * 3 + [nn.Linear]
    assert [(s.in_features, s.out_features) for s in network[::2]] == [(120, 60), (60, 30), (30, 10), (10, 3)]
    assert all(stage.bias is not None for stage in network[::2])


def test_one_layer_is_linear() -> None:
    network = fully_connected((5, 2))
    assert [type(stage) for stage in network] == [nn.Linear]


def test_the_plain_autoencoder_of_rows() -> None:
    encoder, decoder = fully_connected((6, 4, 2)), fully_connected((2, 4, 6))
    x = torch.randn(7, 6)
    made = Autoencoder(encoder, None, decoder)(x)
    assert made.read is None
    assert torch.equal(made.x, decoder(encoder(x)))
    assert made.x.abs().max() > 0


@pytest.mark.parametrize("widths", [(5, 2), (6, 4, 3), (7, 9, 4, 8)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_layers_as_one_function_are_the_layers_one_by_one(widths: tuple[int, ...], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    network = fully_connected(widths).to(dtype)
    x = torch.randn(11, widths[0], dtype=dtype, requires_grad=True)
    weights = torch.randn(11, widths[-1], dtype=dtype)
    found: list[list[Tensor]] = []
    for forward in (network, lambda x: nn.Sequential.forward(network, x)):
        y = forward(x)
        found.append([y, *torch.autograd.grad((y * weights).sum(), [x, *network.parameters()])])
    assert "TanhLayers" in found[0][0].grad_fn.name()
    assert "TanhLayers" not in found[1][0].grad_fn.name()
    exact = {"rtol": 0, "atol": 1e-14 if dtype is torch.float64 else 3e-6}
    for ours, wanted in zip(*found, strict=True):
        assert_close(ours, wanted, **exact)


def test_the_gradients_of_the_layers_as_one_function_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    network = fully_connected((4, 5, 3, 2)).double()
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(table._TanhLayers.apply, (x, *network.parameters()))


def test_an_input_that_wants_no_gradient_gets_none_and_the_layers_theirs() -> None:
    network = fully_connected((4, 5, 3))
    x = torch.randn(3, 4)
    network(x).sum().backward()
    assert x.grad is None
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in network.parameters())


@pytest.mark.parametrize("size", [1e-6, 1.0, 200.0])
def test_tanh_is_exact_to_rounding_and_saturates(size: float) -> None:
    x = size * torch.linspace(-1, 1, 1001)
    assert_close(table._tanh_of_half_(2 * x), x.tanh(), rtol=0, atol=3e-7)
    assert table._tanh_of_half_(torch.tensor([-1e30, 1e30])).tolist() == [-1, 1]
