import pytest
import torch

from memae import engine as inference
from memae.engine import inference_form
from memae.presets import build, preset_config
from memae.video.quantised import fast_int8
from tests.video.test_inference import trained


def test_the_form_is_the_fastest_that_cpu_and_network_allow(monkeypatch):
    paper, ours = trained("video-paper", (1, 8, 16, 16)), trained("video", (1, 8, 16, 16))
    x = torch.randn(1, 1, 8, 16, 16)
    for integers in {fast_int8(), False}:
        for bfloat16 in (True, False):
            monkeypatch.setattr(inference, "fast_int8", lambda found=integers: found)
            monkeypatch.setattr(inference, "fast_bfloat16", lambda found=bfloat16: found)
            floating = torch.bfloat16 if bfloat16 else torch.float32
            expected = torch.int8 if integers else floating
            assert torch.equal(inference_form(paper)(x).x, inference_form(paper, expected)(x).x)
            assert torch.equal(inference_form(ours)(x).x, inference_form(ours, floating)(x).x)


@pytest.mark.parametrize(
    ("preset", "shape"), [("mnist", (1, 28, 28)), ("image", (3, 64, 64)), ("image", (3, 96, 96))]
)
def test_a_network_of_images_is_given_back(preset, shape):
    model = build(preset_config(preset, "image"), shape)
    assert inference_form(model) is model


def test_a_network_of_rows_is_given_back():
    model = build(preset_config("table", "table"), (12,))
    assert inference_form(model) is model
