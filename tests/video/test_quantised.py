import pytest
import torch
import torch.nn.functional as F
from torch import nn

from memae.video import quantised
from memae.video.networks import SLOPE
from memae.video.quantised import ZERO, Int8Conv, Int8ConvTranspose, Int8Product, code_step, encode, fast_int8

INT8 = pytest.mark.skipif(not fast_int8(), reason="a CPU with 8-bit integer products")


def activations(*shape):
    return F.leaky_relu(torch.randn(shape), SLOPE)


def relative(found, expected):
    return float((found.float() - expected).square().mean() / expected.var())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("factor", [1e-3, 1.0, -40.0, 0.0])
def test_codes_hold_all_of_a_clip(factor, dtype):
    x = (factor * activations(1, 5, 3, 4, 6)).to(dtype)
    codes, step = encode(x)
    assert codes.dtype == torch.uint8
    assert codes.shape == x.shape
    # half a step, and what bfloat16 rounds beside it
    slack = 0.51 if dtype == torch.float32 else 1.01
    torch.testing.assert_close((codes.float() - ZERO) * step, x.float(), rtol=0, atol=slack * step)
    if factor:
        assert codes.max() == 255 or codes.min() == 0


@pytest.mark.parametrize("bias", [0.0, 3.0, -20.0])
def test_a_step_from_batchnorm_holds_eight_deviations(bias):
    norm = nn.BatchNorm3d(3)
    nn.init.constant_(norm.bias, bias)
    norm.weight.data = torch.tensor([1.0, -2.0, 0.0])
    step = code_step(norm)
    ends = torch.stack([bias + side * 8 * norm.weight.detach().abs() for side in (-1, 1)])
    codes = F.leaky_relu(ends, SLOPE) / step + ZERO
    assert codes.min() >= -1e-3
    assert codes.max() <= 255 + 1e-3
    assert ((codes.max(0).values > 254.9) | (codes.min(0).values < 0.1) | (ends.abs().amax(0) == 0)).all()


@INT8
def test_the_product_is_that_of_the_values():
    torch.manual_seed(0)
    rows, weight, bias = torch.randint(0, 256, (50, 32), dtype=torch.uint8), torch.randn(20, 32), torch.randn(20)
    expected = F.leaky_relu(0.01 * (rows.float() - 9) @ weight.T + bias, SLOPE)
    scale = expected.max() / 150
    found = (Int8Product(weight / scale, bias / scale, 9)(rows, 0.01).float() - ZERO) * scale
    assert relative(found, expected) < 1e-3
    saturated = Int8Product(1e6 * weight, bias, 9)(rows, 0.01)
    assert {0, 255} == set(saturated.unique().tolist())


@INT8
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("sides", [(4, 6, 8), (5, 7, 3), (1, 5, 4)])
def test_the_convolution_is_that_of_the_values(sides, dtype):
    torch.manual_seed(0)
    layer, x = nn.Conv3d(16, 20, 3, 2, 1), activations(1, 16, *sides)
    layer.weight.data[3] *= 1000  # each output has a step of its own
    layer.weight.data[4] = 0
    with torch.inference_mode():
        expected = F.leaky_relu(layer(x), SLOPE)
        found = Int8Conv.of(layer, dtype)(x.to(dtype))
    assert found.dtype == dtype
    assert relative(found[:, :3], expected[:, :3]) < 1e-3
    assert relative(found[:, 3], expected[:, 3]) < 1e-3
    torch.testing.assert_close(found[:, 4].float(), expected[:, 4], rtol=1e-2, atol=1e-6)


@INT8
@pytest.mark.parametrize("padding", [(0, 0, 0), (1, 1, 1), (0, 1, 0), (1, 0, 1)])
@pytest.mark.parametrize("sides", [(2, 4, 3), (1, 1, 1), (3, 1, 5)])
def test_the_transposed_convolution_is_that_of_the_values(sides, padding):
    torch.manual_seed(0)
    layer, x = nn.ConvTranspose3d(16, 20, 3, 2, 1, padding), activations(1, 16, *sides)
    with torch.inference_mode():
        expected = F.leaky_relu(layer(x), SLOPE)
        found = Int8ConvTranspose(layer, torch.float32)(x)
    assert found.shape == expected.shape
    assert relative(found, expected) < 1e-3


@pytest.fixture
def asked_anew():
    fast_int8.cache_clear()
    yield
    fast_int8.cache_clear()


@pytest.mark.parametrize("failure", [AttributeError, RuntimeError, TypeError])
def test_a_torch_without_the_operators_is_noticed(failure, monkeypatch, asked_anew):
    def missing(*arguments):
        raise failure

    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: True, raising=False)
    monkeypatch.setattr(quantised, "Int8Product", missing)
    assert not fast_int8()


def test_a_cpu_without_the_products_is_noticed(monkeypatch, asked_anew):
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False, raising=False)
    assert not fast_int8()
