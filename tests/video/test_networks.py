"""The networks for clips: the paper's layer by layer, folds, odd sizes, and one set of weights for any frame size."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from memae.autoencoder import Autoencoder
from memae.config import Config, override
from memae.errors import ConfigError
from memae.modality import build, preset_config
from memae.video.networks import (
    ChannelsToPatches,
    ClipLayer,
    PatchesToChannels,
    ToOneChannel,
    clip_decoder,
    clip_encoder,
    encoded_clip,
)

PAPER_CLIP = (1, 16, 256, 256)


def layers_of(network: nn.Module, kind: type) -> list[Any]:
    """(in, out, kernel, stride) of each convolution."""
    return [
        (c.in_channels, c.out_channels, c.kernel_size, c.stride) for c in network.modules() if isinstance(c, kind)
    ]


def kinds(network: nn.Module) -> list[str]:
    return [type(stage).__name__ for stage in network.children()]


@pytest.fixture(scope="module")
def paper() -> Autoencoder:
    """The paper's network without numbers: only shapes."""
    with torch.device("meta"):
        return build(preset_config("video-paper", "video"), PAPER_CLIP)


def test_video_paper_is_the_network_of_the_paper(paper: Autoencoder) -> None:
    cube = (3, 3, 3)
    assert layers_of(paper.encoder, nn.Conv3d) == [
        (1, 96, cube, (1, 2, 2)),
        (96, 128, cube, (2, 2, 2)),
        (128, 256, cube, (2, 2, 2)),
        (256, 256, cube, (2, 2, 2)),
    ]
    # Dconv3(3, 2, 256)-(3, 2, 128)-(3, 2, 96)-(3, (1, 2, 2), 1)
    assert layers_of(paper.decoder, nn.ConvTranspose3d) == [
        (256, 256, cube, (2, 2, 2)),
        (256, 128, cube, (2, 2, 2)),
        (128, 96, cube, (2, 2, 2)),
        (96, 1, cube, (1, 2, 2)),
    ]
    assert kinds(paper.encoder) == ["Conv3d", "BatchNorm3d", "LeakyReLU"] * 4
    assert kinds(paper.decoder) == ["ConvTranspose3d", "BatchNorm3d", "LeakyReLU"] * 3 + ["ToOneChannel"]
    slopes = [stage.negative_slope for stage in paper.modules() if isinstance(stage, nn.LeakyReLU)]
    assert slopes == [0.2] * 7
    convolutions = [stage for stage in paper.modules() if isinstance(stage, nn.Conv3d | nn.ConvTranspose3d)]
    assert [stage.bias is not None for stage in convolutions] == [False] * 7 + [True]


def test_video_paper_asks_a_memory_of_2000_items_at_512_places(paper: Autoencoder) -> None:
    encoding = paper.encoder(torch.zeros(2, *PAPER_CLIP, device="meta"))
    assert encoding.shape == (2, 256, 2, 16, 16)
    assert paper.memory.items.shape == (2000, 256)
    assert paper.query == "position"
    assert paper.queries(encoding).shape == (2, 512, 256)
    assert paper.decoder(encoding).shape == (2, *PAPER_CLIP)


def test_video_paper_has_as_many_parameters_as_the_paper(paper: Autoencoder) -> None:
    kernels = 27 * (1 * 96 + 96 * 128 + 128 * 256 + 256 * 256)
    scales = 2 * (96 + 128 + 256 + 256) + 2 * (256 + 128 + 96)
    wanted = 2 * kernels + scales + 1 + 2000 * 256
    assert wanted == 6_491_585
    assert sum(parameter.numel() for parameter in paper.parameters()) == wanted


def test_video_paper_takes_65_gflop_a_clip(paper: Autoencoder) -> None:
    with FlopCounterMode(display=False) as counter:
        paper.decoder(paper.encoder(torch.zeros(1, *PAPER_CLIP, device="meta")))
    reading = 2 * 2 * 512 * 2000 * 256  # similarities, and the mixture of items
    assert (counter.get_total_flops() + reading) / 1e9 == pytest.approx(65.4, abs=0.05)


@pytest.mark.parametrize("preset", ["video-paper", "video-released"])
@pytest.mark.parametrize("clip", [(16, 32, 32), (7, 33, 50), (2, 8, 9)])
def test_the_paper_network_rebuilds_clips_of_any_size(preset: str, clip: tuple[int, int, int]) -> None:
    with torch.device("meta"):
        model = build(sized(preset, clip), (1, *clip)).eval()
        encoding = model.encoder(torch.zeros(1, 1, *clip))
        assert model.decoder(encoding).shape == (1, 1, *clip)


def sized(preset: str, clip: tuple[int, int, int], **video: int | None) -> Config:
    length, height, width = clip
    section = {"clip_length": length, "height": height, "width": width} | video
    return override(preset_config(preset, "video"), {"video": section}, "test")


def rebuilt(layers: tuple[ClipLayer, ...], patch_px: int, clip: tuple[int, int, int], norm: bool) -> None:
    encoder, decoder = (
        clip_encoder(layers, patch_px, norm).eval(),
        clip_decoder(layers, patch_px, clip, norm).eval(),
    )
    x = torch.randn(2, 1, *clip, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        encoding = encoder(x)
        assert encoding.shape[1:] == encoded_clip(layers, patch_px, clip)
        made = decoder(encoding)
    assert made.shape == x.shape
    assert made.is_contiguous()
    # of maps 1 px wide torch's convolution takes 0 times what lay in memory before, which may be NaN
    assert made.isfinite().all() or encoding.shape[-1] == 1


@pytest.mark.parametrize("clip", [(2, 8, 8), (5, 7, 9), (16, 17, 31), (15, 1, 3), (1, 1, 1)])
@pytest.mark.parametrize("norm", [True, False])
def test_the_rebuilt_clip_has_the_exact_size(clip: tuple[int, int, int], norm: bool) -> None:
    rebuilt((ClipLayer((1, 2, 2), 3), ClipLayer((2, 2, 2), 4), ClipLayer((2, 2, 2), 5)), 1, clip, norm)


@settings(max_examples=30, deadline=None)
@given(
    layers=st.lists(
        st.builds(ClipLayer, st.tuples(*[st.sampled_from([1, 2])] * 3), st.integers(1, 3)), min_size=1, max_size=4
    ),
    patch_px=st.sampled_from([1, 2, 3]),
    clip=st.tuples(st.integers(1, 9), st.integers(1, 7), st.integers(1, 7)),
    norm=st.booleans(),
)
def test_any_stack_of_strides_one_and_two_is_undone(
    layers: list[ClipLayer], patch_px: int, clip: tuple[int, int, int], norm: bool
) -> None:
    rebuilt(tuple(layers), patch_px, (clip[0], clip[1] * patch_px, clip[2] * patch_px), norm)


@pytest.mark.parametrize("side", [1, 2, 4])
def test_unfold_undoes_fold(side: int) -> None:
    x = torch.randn(2, 1, 3, 4 * side, 6 * side)
    folded = PatchesToChannels(side)(x)
    assert folded.shape == (2, side * side, 3, 4, 6)
    assert torch.equal(ChannelsToPatches(side)(folded), x)
    assert torch.equal(PatchesToChannels(side)(ChannelsToPatches(side)(folded)), folded)


def test_each_block_of_pixels_becomes_channels_row_by_row() -> None:
    x = torch.arange(24.0).view(1, 1, 1, 4, 6)
    folded = PatchesToChannels(2)(x)
    assert folded[0, :, 0, 0, 0].tolist() == [0, 1, 6, 7]
    assert folded[0, :, 0, 0, 1].tolist() == [2, 3, 8, 9]
    assert folded[0, :, 0, 1, 2].tolist() == [16, 17, 22, 23]


def small(clip: tuple[int, int, int], **video: int | None) -> Autoencoder:
    torch.manual_seed(0)
    return build(sized("video", clip, **video), (1, *clip)).eval()


def test_the_video_network_has_no_batchnorm_and_is_small() -> None:
    model = small((16, 128, 192))
    assert not [stage for stage in model.modules() if isinstance(stage, nn.BatchNorm3d)]
    assert kinds(model.encoder) == ["PatchesToChannels", "Conv3d", "LeakyReLU", "Conv3d", "LeakyReLU"]
    assert kinds(model.decoder) == ["ConvTranspose3d", "LeakyReLU", "ConvTranspose3d", "ChannelsToPatches"]
    assert model.query == "position"
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.decoder(model.encoder(torch.zeros(1, 1, 16, 128, 192)))
    assert counter.get_total_flops() < 2.5e9  # of the paper's network it takes 65
    shape = (96, 4, 16, 24)
    assert model.memory.items.shape[1] == shape[0]
    assert model.encoder(torch.zeros(1, 1, 16, 128, 192)).shape[1:] == shape


def test_one_set_of_weights_rebuilds_squares_and_whole_frames() -> None:
    model = small((16, 96, 112))
    whole = torch.randn(1, 1, 16, 96, 112, generator=torch.Generator().manual_seed(1))
    top, left, side, border = 16, 32, 64, 24
    with torch.no_grad():
        made = model(whole)
        crop = model(whole[..., top : top + side, left : left + side])
    assert made.x.shape == whole.shape
    assert made.positions == (4, 12, 14)
    assert made.read.weights.shape == (1, 4 * 12 * 14, model.memory.num_items)
    assert crop.x.shape == (1, 1, 16, 64, 64)
    assert crop.positions == (4, 8, 8)

    def inside(x: Tensor, top: int, left: int) -> Tensor:
        return x[..., top + border : top + side - border, left + border : left + side - border]

    # away from its border, a square is rebuilt as within the frame
    assert torch.allclose(inside(crop.x, 0, 0), inside(made.x, top, left), atol=1e-4)
    assert not torch.allclose(crop.x, made.x[..., top : top + side, left : left + side], atol=1e-2)


def test_a_network_that_was_built_for_one_size_has_the_weights_of_another() -> None:
    first, second = small((16, 32, 48)), small((16, 64, 32))
    assert first.state_dict().keys() == second.state_dict().keys()
    second.load_state_dict(first.state_dict())


@pytest.mark.parametrize(
    ("video", "what"),
    [
        ({"height": 34, "crop_px": None}, r"video\.height = 34: network 'video' takes multiples of 4"),
        ({"width": 30, "crop_px": None}, r"video\.width = 30: network 'video' takes multiples of 4"),
        ({"crop_px": 14}, r"video\.crop_px = 14: network 'video' takes multiples of 8"),
        ({"crop_px": 12}, r"video\.crop_px = 12: network 'video' takes multiples of 8"),
        ({"height": 36, "crop_px": 16}, r"video\.height = 36: network 'video' takes multiples of 8"),
        ({"width": 44, "crop_px": 64}, r"video\.width = 44: network 'video' takes multiples of 8"),
    ],
)
def test_sizes_that_the_network_cannot_halve_are_refused(video: dict[str, Any], what: str) -> None:
    clip = (16, video.get("height", 32), video.get("width", 32))
    with pytest.raises(ConfigError, match=what):
        small(clip, **video)


@pytest.mark.parametrize(
    ("clip", "crop"), [((16, 36, 28), None), ((16, 36, 36), 48), ((16, 20, 20), 20), ((5, 24, 32), 16)]
)
def test_every_size_that_is_not_refused_works(clip: tuple[int, int, int], crop: int | None) -> None:
    model = small(clip, crop_px=crop)
    sides = (clip[1:],) if crop is None else (clip[1:], (min(crop, *clip[1:]),) * 2)
    for height, width in sides:
        x = torch.zeros(1, 1, clip[0], height, width)
        assert model(x).x.shape == x.shape


def test_the_paper_network_takes_squares_too() -> None:
    config = sized("video-paper", (16, 64, 96), crop_px=32)
    with torch.device("meta"):
        model = build(config, (1, 16, 64, 96))
        for height, width in ((64, 96), (32, 32)):
            x = torch.zeros(1, 1, 16, height, width)
            assert model.decoder(model.encoder(x)).shape == x.shape
    with pytest.raises(ConfigError, match=r"video\.crop_px = 24: network 'video-paper' takes multiples of 16"):
        build(sized("video-paper", (16, 64, 96), crop_px=24), (1, 16, 64, 96))


def test_a_memory_of_whole_clips_learns_from_whole_frames_only() -> None:
    whole = override(sized("video", (16, 32, 48), crop_px=None), {"memory": {"query": "whole"}}, "test")
    with torch.device("meta"):
        assert build(whole, (1, 16, 32, 48)).memory.item_dim == 96 * 4 * 4 * 6
    with pytest.raises(ConfigError, match=r"memory\.query = 'whole'.* crops of 16 px \(video\.crop_px\); use"):
        build(override(whole, {"video": {"crop_px": 16}}, "test"), (1, 16, 32, 48))


def test_what_is_rebuilt_is_contiguous_whatever_the_layout_of_the_weights() -> None:
    model = small((4, 16, 24))
    with torch.no_grad():
        for batch in (1, 3):
            made = model(torch.randn(batch, 1, 4, 16, 24)).x
            assert made.stride() == (4 * 16 * 24, 4 * 16 * 24, 16 * 24, 24, 1)


@pytest.mark.parametrize("extra", [(0, 1, 1), (0, 0, 1), (0, 1, 0), (0, 0, 0)])
def test_a_layer_to_one_channel_gives_the_same_without_gradient(extra: tuple[int, int, int]) -> None:
    layer = ToOneChannel(5, 1, 3, (1, 2, 2), 1, extra)
    x = torch.randn(2, 5, 4, 6, 7)
    expected = layer(x)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-6)


def test_a_layer_to_one_channel_keeps_the_precision_of_autocast() -> None:
    layer, x = ToOneChannel(4, 1, 3, (1, 2, 2), 1, (0, 1, 1)), torch.randn(2, 4, 3, 5, 6)
    with torch.autocast("cpu", torch.bfloat16):
        trained = layer(x)
        with torch.no_grad():
            judged = layer(x)
    assert trained.dtype == judged.dtype == torch.bfloat16
