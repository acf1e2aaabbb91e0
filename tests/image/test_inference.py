import pytest
import torch
import torch.nn.functional as F
from torch import nn

from memae import native
from memae.config import override
from memae.encoded import Pixels
from memae.engine import inference_form
from memae.image.inference import ImageForm
from memae.presets import build, preset_config

pytestmark = pytest.mark.skipif(not native.available(), reason="memae was installed without a compiler")

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
def both(model, x):
    return model(x), inference_form(model)(x)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("memory", [{}, {"enabled": False}, {"similarity": "dot"}, {"num_items": 37}])
def test_it_is_the_same_network(shape, memory):
    model = trained(shape, **memory)
    assert isinstance(inference_form(model), ImageForm)
    expected, found = both(model, torch.randn(2, *shape))
    torch.testing.assert_close(found.x, expected.x, rtol=1e-4, atol=1e-5)
    assert found.x.is_contiguous()
    assert found.positions == expected.positions
    assert (found.read is None) == (expected.read is None)
    if expected.read is not None:
        torch.testing.assert_close(found.read.weights, expected.read.weights, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layout", ["channels last", "every other one"])
def test_the_layout_of_the_images_does_not_matter(layout):
    model, x = trained((3, 96, 96)), torch.randn(4, 3, 96, 96)
    form = inference_form(model)
    if layout == "channels last":
        laid = x.contiguous(memory_format=torch.channels_last)
    else:
        laid = x.repeat_interleave(2, dim=0)[::2]
    assert torch.equal(form(laid).x, form(x).x)


def test_the_model_itself_is_left_as_it_was():
    model = trained((3, 70, 67))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x = torch.randn(2, 3, 70, 67)
    rebuilt, random = model(x).x, torch.get_rng_state()
    both(model, x)
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.equal(model(x).x, rebuilt)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("shape", SHAPES)
def test_errors_of_squares_are_those_of_their_pixels(shape):
    form, x = inference_form(trained(shape)), torch.randn(2, *shape)
    errors, rebuilt = form.rebuilt(Pixels.of(x))
    wanted = F.avg_pool2d((x - rebuilt.x).square().mean(dim=1), 4, ceil_mode=True)
    assert errors.dtype == torch.float32
    torch.testing.assert_close(errors, wanted, rtol=1e-4, atol=0)
    assert torch.equal(form.square_errors(Pixels.of(x)), errors)


def changed(change):
    model = trained((3, 70, 67))
    change(model)
    return model


@pytest.mark.parametrize(
    "model",
    [
        trained((3, 70, 67), query="whole"),
        trained((3, 70, 67), similarity="euclidean"),
        changed(lambda model: setattr(model.encoder[0], "side", 8)),
        changed(lambda model: model.encoder.insert(3, nn.Conv2d(32, 32, 1, groups=2))),
        changed(lambda model: model.encoder.insert(3, nn.ReLU()) or model.encoder.insert(3, nn.ReLU())),
        changed(lambda model: model.encoder.insert(3, nn.Tanh())),
        changed(lambda model: model.decoder.insert(6, nn.Conv2d(32, 32, 3))),
    ],
    ids=["whole", "euclidean", "squares of 8 px", "groups", "two ReLUs", "tanh", "another size"],
)
def test_a_network_that_the_compiled_code_has_not_is_given_back(model):
    assert inference_form(model) is model
