import gc
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn import grad

from memae.training.compiled_gradients import library
from memae.training.compiled_gradients.network import CompiledNetwork, Layer
from memae.training.compiled_gradients.place_pairs import PlacePairs

needs_library = pytest.mark.skipif(not library.available(), reason="memae was installed without a compiler")


def by_pairs(relation: PlacePairs, weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """(B, O, places out) of x (B, I, places in) and weights (O, I, taps): what the pairs of a relation say."""
    y = torch.zeros(len(x), len(weight), relation.places_out)
    for out, into, tap in zip(relation.out, relation.into, relation.tap, strict=True):
        y[:, :, out] += x[:, :, into] @ weight[:, :, tap].T
    return y


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 1, 1), (3, 2, 1), (1, 2, 0), (4, 3, 2)])
@pytest.mark.parametrize("size", [(7, 5), (8, 8), (4, 9)])
def test_a_convolution_is_its_pairs(kernel: int, stride: int, padding: int, size: tuple[int, int]) -> None:
    x, weight = torch.randn(2, 3, *size), torch.randn(4, 3, kernel, kernel)
    y = F.conv2d(x, weight, None, stride, padding)
    relation = PlacePairs.convolution(size, (y.shape[2], y.shape[3]), kernel, stride, padding)
    torch.testing.assert_close(by_pairs(relation, weight.flatten(2), x.flatten(2)), y.flatten(2))
    back = by_pairs(relation.transposed, weight.transpose(0, 1).flatten(2), y.flatten(2))
    expected = grad.conv2d_input(x.shape, weight, y, stride, padding)
    torch.testing.assert_close(back, expected.flatten(2))


def test_places_alone_and_together() -> None:
    x = torch.randn(2, 3, 5)
    alone, one = PlacePairs.pointwise(5), PlacePairs.flattened(5)
    weight = torch.randn(4, 3, 1)
    torch.testing.assert_close(by_pairs(alone, weight, x), torch.einsum("oi,bip->bop", weight[..., 0], x))
    weight = torch.randn(4, 3, 5)
    torch.testing.assert_close(by_pairs(one, weight, x)[..., 0], torch.einsum("oip,bip->bo", weight, x))
    assert (alone.places_in, alone.places_out, one.places_in, one.places_out) == (5, 5, 5, 1)


def linear(into: int, out: int) -> tuple[nn.Linear, Layer]:
    layer = nn.Linear(into, out)
    for parameter in layer.parameters():
        parameter.grad = torch.zeros_like(parameter)
    weight: Any = layer.weight
    bias: Any = layer.bias
    return layer, Layer(PlacePairs.pointwise(1), weight, False, bias)


@needs_library
def test_gradients_are_added_to_those_that_are_there() -> None:
    pairs = linear(6, 3), linear(3, 6)
    modules, layers = [module for module, _ in pairs], [layer for _, layer in pairs]
    network, x = CompiledNetwork(layers, 1, None), torch.randn(40, 6)
    first, counts = network.add_gradients(x, x, 0.5, 1.0, 1)
    once = [module.weight.grad.clone() for module in modules]
    second, _ = network.add_gradients(x, x, 0.5, 1.0, 1)
    assert counts is None and first == second
    assert first == pytest.approx(0.5 * float((nn.Sequential(*modules)(x) - x).square().sum().detach()), rel=1e-5)
    for module, before in zip(modules, once, strict=True):
        torch.testing.assert_close(module.weight.grad, 2 * before)


@needs_library
@pytest.mark.parametrize(
    "x", [torch.zeros(4, 5), torch.zeros(4, 6).double(), torch.zeros(6, 4).T, torch.zeros(4, 6, 2)]
)
def test_what_does_not_fit_is_refused_and_never_read(x: torch.Tensor) -> None:
    network = CompiledNetwork([linear(6, 3)[1], linear(3, 6)[1]], 1, None)
    with pytest.raises(ValueError, match="contiguous float32 of 6 numbers each"):
        network.add_gradients(x, x, 1.0, 1.0, 1)
    with pytest.raises(ValueError, match="got"):
        network.add_gradients(torch.zeros(4, 6), x, 1.0, 1.0, 1)


@needs_library
def test_a_network_gives_its_memory_back() -> None:
    def resident() -> int:
        with open("/proc/self/statm") as file:  # noqa: PTH123
            return int(file.read().split()[1]) * 4096

    try:
        resident()
    except OSError:
        pytest.skip("needs /proc")
    (_, first), (_, second) = linear(64, 256), linear(256, 64)
    x = torch.randn(4096, 64)
    sizes = []
    for _ in range(12):
        CompiledNetwork((first, second), 1, None).add_gradients(x, x, 1.0, 1.0, 1)  # some 20 MB
        gc.collect()
        sizes.append(resident())
    assert sizes[-1] - sizes[1] < 60e6


@needs_library
@pytest.mark.parametrize("samples", [1, 7, 8, 9, 15, 16, 17, 31, 32, 33])
def test_places_of_a_register_without_a_sample_count_for_nothing(samples: int) -> None:
    (module, first), (last, second) = linear(5, 4), linear(4, 5)
    x = torch.randn(samples, 5)
    loss, _ = CompiledNetwork((first, second), 1, None).add_gradients(x, x, 1.0, 1.0, 2)
    y = last(module(x))
    assert loss == pytest.approx(float((y - x).square().sum().detach()), rel=1e-5)
    expected = torch.autograd.grad((y - x).square().sum(), [module.weight, last.bias])
    torch.testing.assert_close(module.weight.grad, expected[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(last.bias.grad, expected[1], rtol=1e-4, atol=1e-4)


@needs_library
@pytest.mark.parametrize("width", library.widths())
def test_each_width_of_registers_finds_the_same(monkeypatch: pytest.MonkeyPatch, width: str) -> None:
    (module, first), (last, second) = linear(5, 40), linear(40, 5)
    x = torch.randn(50, 5)
    build = library.load(width)
    assert build is not None
    monkeypatch.setattr(library, "library", lambda: build)
    loss, _ = CompiledNetwork((first, second), 1, None).add_gradients(x, x, 1.0, 1.0, 1)
    y = last(module(x))
    assert loss == pytest.approx(float((y - x).square().sum().detach()), rel=1e-5)
    (expected,) = torch.autograd.grad((y - x).square().sum(), [module.weight])
    torch.testing.assert_close(module.weight.grad, expected, rtol=1e-4, atol=1e-3)
