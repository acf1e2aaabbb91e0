import pytest
import torch
from torch import nn

from memae.config import override
from memae.engine import inference_form
from memae.modality import build, preset_config
from memae.video.quantised import fast_int8

INT8 = pytest.mark.skipif(not fast_int8(), reason="a CPU with 8-bit integer products")


def trained(preset, shape, spread=1.0, **memory):
    """A network whose BatchNorm statistics and biases are no longer those of the start.

    Args:
        spread: largest ratio of what two channels of a BatchNorm give.
    """
    config = override(
        preset_config(preset, "video"), {"memory": {"num_items": 20, "shrinkage": 0.5} | memory}, "test"
    )
    torch.manual_seed(0)
    model = build(config, shape)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
        for norm in model.modules():
            if isinstance(norm, nn.BatchNorm3d):
                norm.weight.mul_(torch.logspace(0, 1, len(norm.weight), spread))
        for _ in range(3):
            model(torch.randn(2, *shape))
    return model.eval()


@pytest.mark.parametrize("shape", [(1, 16, 32, 48), (1, 16, 31, 47), (1, 5, 16, 17), (1, 8, 30, 33)])
@pytest.mark.parametrize("memory", [{}, {"enabled": False}])
def test_in_float32_it_is_the_paper_network(shape, memory):
    model, x = trained("video-paper", shape, **memory), torch.randn(2, *shape)
    with torch.inference_mode():
        expected = model(x)
    found = inference_form(model, torch.float32)(x)
    torch.testing.assert_close(found.x, expected.x, rtol=1e-4, atol=1e-5)
    assert found.positions == expected.positions
    if expected.read is not None:
        torch.testing.assert_close(found.read.weights, expected.read.weights, rtol=1e-4, atol=1e-5)


def test_the_reused_taps_hold_nothing_of_the_clip_before():
    model = trained("video-paper", (1, 16, 32, 32))
    form, (first, second) = inference_form(model, torch.float32), torch.randn(2, 1, 1, 16, 32, 32)
    alone = inference_form(model, torch.float32)(second).x
    form(first)
    assert torch.equal(form(second).x, alone)
    assert form(torch.randn(2, 1, 16, 32, 32)).x.shape == (2, 1, 16, 32, 32)  # another batch size is no trouble


@pytest.mark.parametrize("preset", ["video", "video-paper"])
def test_bfloat16_rounds_and_no_more(preset):
    shape = (1, 16, 32, 48)
    model, x = trained(preset, shape), torch.randn(2, *shape)
    with torch.inference_mode():
        expected = model(x)
    found = inference_form(model, torch.bfloat16)(x)
    assert found.x.dtype == torch.float32
    error = (found.x - expected.x).square().mean() / expected.x.square().mean()
    assert 0 < error < 1e-3


@INT8
@pytest.mark.parametrize("shape", [(1, 16, 32, 48), (1, 16, 31, 47), (1, 5, 16, 17), (1, 8, 30, 33), (1, 1, 9, 9)])
@pytest.mark.parametrize("memory", [{}, {"enabled": False}, {"query": "whole"}])
def test_integers_stay_close_to_the_paper_network(shape, memory):
    model, x = trained("video-paper", shape, **memory), torch.randn(2, *shape)
    with torch.inference_mode():
        expected = model(x)
    found = inference_form(model, torch.int8)(x)
    assert found.x.dtype == torch.float32
    assert found.x.shape == expected.x.shape
    error = (found.x - expected.x).square().mean() / expected.x.var()
    assert 0 < error < 2e-3
    assert found.positions == expected.positions
    if expected.read is not None:
        assert found.read.weights.dtype == torch.float32
        assert (found.read.weights - expected.read.weights).abs().sum(dim=2).mean() < 0.02


@INT8
@pytest.mark.parametrize("size", [0.01, 1.0, 100.0])
def test_integers_suit_channels_and_clips_of_any_size(size):
    shape = (1, 8, 32, 32)
    model, x = trained("video-paper", shape, spread=100.0), size * torch.randn(1, *shape)
    with torch.inference_mode():
        expected = model(x).x
    error = (inference_form(model, torch.int8)(x).x - expected).square().mean() / expected.var()
    assert 0 < error < 5e-3


@INT8
def test_a_still_clip_of_zeros_is_no_trouble():
    model, x = trained("video-paper", (1, 8, 16, 16)), torch.zeros(1, 1, 8, 16, 16)
    with torch.inference_mode():
        expected = model(x).x
    torch.testing.assert_close(inference_form(model, torch.int8)(x).x, expected, rtol=0, atol=0.1)


@INT8
def test_in_integers_no_clip_depends_on_another():
    model = trained("video-paper", (1, 16, 32, 32))
    quiet, loud = torch.randn(1, 1, 16, 32, 32), 50 * torch.randn(1, 1, 16, 32, 32)
    alone = inference_form(model, torch.int8)(quiet).x
    form = inference_form(model, torch.int8)
    form(loud)
    assert torch.equal(form(quiet).x, alone)
    assert torch.equal(form(torch.cat([loud, quiet])).x[1:], alone)


def test_integers_are_refused_without_batchnorm():
    with pytest.raises(ValueError, match="BatchNorm"):
        inference_form(trained("video", (1, 8, 16, 16)), torch.int8)


@pytest.mark.parametrize("dtype", [torch.bfloat16, pytest.param(torch.int8, marks=INT8)])
def test_the_model_itself_is_left_as_it_was(dtype):
    model = trained("video-paper", (1, 16, 16, 16))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    inference_form(model, dtype)(torch.randn(1, 1, 16, 16, 16))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(value.dtype == before[name].dtype for name, value in model.state_dict().items())
