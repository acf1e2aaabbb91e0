"""Fully connected networks."""

from __future__ import annotations

import torch
from torch import nn

from memae.autoencoder import Autoencoder
from memae.memory.memae import MemAE
from memae.modality import build, preset_config
from memae.table.networks import fully_connected


def test_tanh_lies_between_the_layers_and_not_behind_the_last() -> None:
    network = fully_connected((120, 60, 30, 10, 3))
    assert [type(stage) for stage in network] == [nn.Linear, nn.Tanh] * 3 + [nn.Linear]
    assert [(s.in_features, s.out_features) for s in network.modules() if isinstance(s, nn.Linear)] == [
        (120, 60),
        (60, 30),
        (30, 10),
        (10, 3),
    ]
    assert all(stage.bias is not None for stage in [*network.children()][::2])


def test_one_layer_is_linear() -> None:
    network = fully_connected((5, 2))
    assert [type(stage) for stage in network] == [nn.Linear]


def test_the_plain_autoencoder_of_rows() -> None:
    encoder, decoder = fully_connected((6, 4, 2)), fully_connected((2, 4, 6))
    x = torch.randn(7, 6)
    made = Autoencoder(encoder, None, decoder)(x)
    assert made.read is None
    assert torch.equal(made.x, decoder(encoder(x)))
    assert made.x.abs().max() > 0


def test_a_seed_draws_the_memory_then_the_encoder_then_the_decoder() -> None:
    """Another order would give another model for the same seed than before."""
    torch.manual_seed(0)
    model = build(preset_config("kddcup-paper", "table"), (40,))
    torch.manual_seed(0)
    parts = MemAE(50, 3), fully_connected((40, 60, 30, 10, 3)), fully_connected((3, 10, 30, 60, 40))
    for part, wanted in zip((model.memory, model.encoder, model.decoder), parts, strict=True):
        assert isinstance(part, nn.Module)
        for name, value in part.state_dict().items():
            assert torch.equal(value, wanted.state_dict()[name])
