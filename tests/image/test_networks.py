"""Convolutional networks: layers, sizes, and the exact shape of what they rebuild."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from memae.autoencoder import Autoencoder
from memae.image.networks import (
    ChannelsToPatches,
    ConvLayer,
    PatchesToChannels,
    conv_decoder,
    conv_encoder,
    encoded_shape,
)

LAYERS = (ConvLayer(1, 2, 4), ConvLayer(3, 2, 6), ConvLayer(3, 2, 8))
SIZES = [(4, 4), (5, 7), (8, 4), (27, 28), (28, 28), (32, 32), (33, 64), (100, 37), (1, 1), (1, 9)]


def rebuilt(layers: tuple[ConvLayer, ...], channels: int, height: int, width: int, patch_px: int = 1) -> None:
    x = torch.zeros(2, channels, height, width)
    encoder = conv_encoder(channels, layers, patch_px).eval()
    decoder = conv_decoder(channels, layers, height, width, patch_px).eval()
    encoding = encoder(x)
    assert encoding.shape[1:] == encoded_shape(layers, height, width, patch_px)
    assert decoder(encoding).shape == x.shape


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("patch_px", [1, 4])
def test_the_rebuilt_image_has_the_exact_size(patch_px: int, channels: int, height: int, width: int) -> None:
    rebuilt(LAYERS, channels, height, width, patch_px)


@settings(max_examples=40, deadline=None)
@given(
    layers=st.lists(
        st.builds(ConvLayer, st.sampled_from([1, 3, 5]), st.sampled_from([1, 2]), st.integers(1, 3)),
        min_size=1,
        max_size=5,
    ),
    channels=st.sampled_from([1, 2, 3]),
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    patch_px=st.integers(1, 5),
)
def test_any_stack_of_strides_one_and_two_is_undone(
    layers: list[ConvLayer], channels: int, height: int, width: int, patch_px: int
) -> None:
    rebuilt(tuple(layers), channels, height, width, patch_px)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(8, 12), (9, 14), (1, 3)])
def test_every_pixel_of_a_patch_keeps_its_place(channels: int, size: tuple[int, int]) -> None:
    x = torch.rand(2, channels, *size)
    patched = PatchesToChannels(4)(x)
    assert patched.shape == (2, 16 * channels, -(-size[0] // 4), -(-size[1] // 4))
    assert torch.equal(patched[:, :, 0, 0].view(2, channels, 4, 4)[:, :, 0, :2], x[:, :, 0, :2])
    restored = ChannelsToPatches(4, *size)(patched)
    assert torch.equal(restored, x)
    assert restored.is_contiguous()


def test_sides_that_are_no_multiple_are_continued_by_their_last_line() -> None:
    x = torch.arange(30.0).view(1, 1, 5, 6)
    last = PatchesToChannels(4)(x)[0, :, 1, 1].view(4, 4)
    assert torch.equal(last, torch.tensor([28.0, 29, 29, 29]).expand(4, 4))


def test_an_image_of_patches_is_seen_whole() -> None:
    torch.manual_seed(0)
    encoder = conv_encoder(1, (ConvLayer(3, 2, 8), ConvLayer(3, 2, 8)), 4).eval()
    x = torch.rand(1, 1, 37, 41, requires_grad=True)
    encoder(x).square().sum().backward()
    assert (x.grad != 0).all()


def test_the_encoder_is_convolution_batchnorm_relu_throughout() -> None:
    stages: list[Any] = list(conv_encoder(3, LAYERS))
    kinds = [nn.Conv2d, nn.BatchNorm2d, nn.ReLU] * 3
    assert all(type(stage) is kind for stage, kind in zip(stages, kinds, strict=True))
    convolutions = stages[::3]
    assert [(c.in_channels, c.out_channels) for c in convolutions] == [(3, 4), (4, 6), (6, 8)]
    assert [c.kernel_size for c in convolutions] == [(1, 1), (3, 3), (3, 3)]
    assert [c.stride for c in convolutions] == [(2, 2)] * 3
    assert [n.num_features for n in stages[1::3]] == [4, 6, 8]


def test_the_decoder_has_batchnorm_and_relu_on_all_but_the_last_layer() -> None:
    stages: list[Any] = list(conv_decoder(3, LAYERS, 28, 28))
    kinds = [nn.ConvTranspose2d, nn.BatchNorm2d, nn.ReLU] * 2 + [nn.ConvTranspose2d]
    assert all(type(stage) is kind for stage, kind in zip(stages, kinds, strict=True))
    layers = stages[::3]
    # the widths of the encoder backwards, the last of them the channels of the image
    assert [(c.in_channels, c.out_channels) for c in layers] == [(8, 8), (8, 6), (6, 3)]
    assert {c.kernel_size for c in layers} == {(3, 3)}
    assert {c.stride for c in layers} == {(2, 2)}
    assert [n.num_features for n in stages[1::3]] == [8, 6]
    assert layers[-1].bias is not None


def test_the_encoded_shape_of_a_stack() -> None:
    assert encoded_shape(LAYERS, 28, 28) == (8, 4, 4)
    assert encoded_shape(LAYERS, 100, 37) == (8, 13, 5)
    assert encoded_shape((ConvLayer(3, 1, 5),), 9, 6) == (5, 9, 6)


def test_an_encoder_sees_the_whole_image() -> None:
    torch.manual_seed(0)
    encoder = conv_encoder(1, (ConvLayer(3, 2, 8), ConvLayer(3, 2, 8))).eval()
    x = torch.rand(1, 1, 8, 8, requires_grad=True)
    encoder(x).square().sum().backward()
    assert (x.grad != 0).all()


def test_the_plain_autoencoder_passes_the_encoding_on_as_it_is() -> None:
    encoder, decoder = conv_encoder(1, LAYERS), conv_decoder(1, LAYERS, 9, 10)
    model = Autoencoder(encoder, None, decoder).eval()
    x = torch.rand(3, 1, 9, 10)
    made = model(x)
    assert made.read is None
    assert torch.equal(made.x, decoder(encoder(x)))


@pytest.mark.parametrize("patch_px", [1, 4])
def test_channels_lie_last_before_every_layer(patch_px: int) -> None:
    encoder, decoder = conv_encoder(3, LAYERS, patch_px), conv_decoder(3, LAYERS, 28, 28, patch_px)
    seen: list[Tensor] = []
    for layer in (*encoder, *decoder):
        layer.register_forward_pre_hook(lambda layer, given: seen.append(given[0]))
    encoding = encoder(torch.rand(2, 3, 28, 28))
    decoder(encoding.flatten(1).view(encoding.shape))  # as a memory that is asked for the whole gives it
    assert len(seen) == len(encoder) + len(decoder)
    assert all(part.is_contiguous(memory_format=torch.channels_last) for part in seen)


def test_autocast_reaches_the_convolutions_and_leaves_the_rebuilt_image_near_that_of_float32() -> None:
    torch.manual_seed(0)
    model = Autoencoder(conv_encoder(1, LAYERS), None, conv_decoder(1, LAYERS, 28, 28))
    x = torch.rand(8, 1, 28, 28)
    exact = model(x).x
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model.encoder[:4](x).dtype == torch.bfloat16
        rough = model(x).x
    assert not torch.equal(rough.float(), exact)
    assert_close(rough.float(), exact, rtol=0, atol=0.1)
    rough.float().square().sum().backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in model.parameters())
