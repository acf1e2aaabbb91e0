import pytest
import torch
import torch.nn.functional as F
from torch import nn

from memae.config import override
from memae.models.inference import inference_form
from memae.models.presets import build, preset_config

SHAPES = [(3, 128, 96), (1, 97, 130), (3, 70, 67), (1, 65, 66), (3, 68, 100)]


def trained(shape, **memory):
    """A network whose BatchNorm statistics and biases are no longer those of the start."""
    settings = {"memory": {"num_items": 20, "shrinkage": 0.5} | memory}
    torch.manual_seed(0)
    model = build(override(preset_config("image", "image"), settings, "test"), shape)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
        for norm in model.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.weight.mul_(torch.logspace(-0.5, 0.5, len(norm.weight)))
        for _ in range(3):
            model(torch.randn(4, *shape))
    return model.eval()


@torch.inference_mode()
def both(model, x, dtype):
    return model(x), inference_form(model, dtype)(x)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("memory", [{}, {"enabled": False}, {"query": "whole"}])
def test_in_float32_it_is_the_same_network(shape, memory):
    expected, found = both(trained(shape, **memory), torch.randn(2, *shape), torch.float32)
    torch.testing.assert_close(found.x, expected.x, rtol=1e-4, atol=1e-5)
    assert found.positions == expected.positions
    if expected.read is not None:
        torch.testing.assert_close(found.read.weights, expected.read.weights, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_bfloat16_rounds_and_no_more(shape):
    expected, found = both(trained(shape, enabled=False), torch.randn(2, *shape), torch.bfloat16)
    assert found.x.dtype == torch.float32
    assert found.x.shape == expected.x.shape
    error = (found.x - expected.x).square().mean() / expected.x.square().mean()
    assert 0 < error < 1e-4


def test_the_memory_is_read_in_float32():
    expected, found = both(trained((3, 96, 96)), torch.randn(2, 3, 96, 96), torch.bfloat16)
    assert found.read.weights.dtype == found.read.value.dtype == torch.float32
    assert (found.read.weights - expected.read.weights).abs().sum(dim=1).mean() < 0.05


@pytest.mark.parametrize("layout", ["channels last", "every other one"])
def test_the_layout_of_the_images_does_not_matter(layout):
    model, x = trained((3, 96, 96)), torch.randn(4, 3, 96, 96)
    form = inference_form(model, torch.float32)
    if layout == "channels last":
        laid = x.contiguous(memory_format=torch.channels_last)
    else:
        laid = x.repeat_interleave(2, dim=0)[::2]
    with torch.inference_mode():
        torch.testing.assert_close(form(laid).x, form(x).x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_model_itself_is_left_as_it_was(dtype):
    model = trained((3, 70, 67))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x = torch.randn(2, 3, 70, 67)
    rebuilt = model(x).x
    both(model, x, dtype)
    assert torch.equal(model(x).x, rebuilt)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(value.dtype == before[name].dtype for name, value in model.state_dict().items())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("dtype", "off"), [(torch.float32, 1e-4), (torch.bfloat16, 0.02)])
def test_errors_of_squares_are_those_of_their_pixels(shape, dtype, off):
    form, x = inference_form(trained(shape), dtype), torch.randn(2, *shape)
    with torch.inference_mode():
        errors, rebuilt = form.square_errors(form.fold(x))
        whole = form.unfolded(rebuilt).x
        torch.testing.assert_close(form(x).x, whole)
    wanted = F.avg_pool2d((x - whole).square().mean(dim=1), 4, ceil_mode=True)
    assert errors.dtype == torch.float32
    torch.testing.assert_close(errors, wanted, rtol=off, atol=0)


def test_other_numbers_are_refused():
    with pytest.raises(ValueError, match=r"float32 or bfloat16; got torch\.int8"):
        inference_form(trained((3, 96, 96)), torch.int8)
