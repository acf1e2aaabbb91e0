import pytest
import torch

from memae.config import override
from memae.models.inference import inference_form
from memae.models.presets import build, preset_config


def trained(preset, shape, **memory):
    """A network whose BatchNorm statistics and biases are no longer those of the start."""
    config = override(
        preset_config(preset, "video"), {"memory": {"num_items": 20, "shrinkage": 0.5} | memory}, "test"
    )
    torch.manual_seed(0)
    model = build(config, shape)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
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


def test_the_model_itself_is_left_as_it_was():
    model = trained("video-paper", (1, 16, 16, 16))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    inference_form(model, torch.bfloat16)(torch.randn(1, 1, 16, 16, 16))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(value.dtype == before[name].dtype for name, value in model.state_dict().items())


def test_a_network_of_images_is_given_back():
    model = build(preset_config("mnist", "image"), (1, 28, 28))
    assert inference_form(model) is model
