"""The networks of video as a config asks for them."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import NamedTuple

from torch import nn

from memae.autoencoder import Autoencoder
from memae.config import Config
from memae.errors import ConfigError
from memae.memory.base import widening
from memae.memory.build import memory_of
from memae.video.config import (
    NORMS,
    NUM_ITEMS,
    PATCH_PX,
    UNETS,
    VideoConfig,
    check_sides,
    layers_of,
    unet_of,
)
from memae.video.networks import clip_decoder, clip_encoder, encoded_clip

__all__ = ["build"]


class _Parts(NamedTuple):
    code: tuple[int, ...]
    """(C, t, h, w) of an encoding."""
    encoder: Callable[[], nn.Module]
    decoder: Callable[[int], nn.Module]
    """From the widening of the memory."""


def build(config: Config, shape: tuple[int, ...], samples: int | None = None) -> Autoencoder:
    """A fresh model for encoded clips (1, T, H, W).

    Raises:
        ConfigError: settings that do not go together.
    """
    if config.memory.score == "distance":
        raise ConfigError(
            "memory.score = 'distance' is for images and tables; leave it out, or take another memory.kind"
        )
    clip, query = shape[1:], config.memory.query or "position"
    parts = _unet(config, clip) if config.network in UNETS else _clip_network(config, clip, query)
    item_dim = prod(parts.code) if query == "whole" else parts.code[0]
    memory = memory_of(config, item_dim, NUM_ITEMS[config.network], samples)
    decoder = parts.decoder(widening(memory))
    return Autoencoder(parts.encoder(), memory, decoder, query)


def _clip_network(config: Config, clip: tuple[int, ...], query: str) -> _Parts:
    settings, network = VideoConfig.of(config), config.network
    if settings.task == "predict":
        raise ConfigError(
            f"video.task = 'predict': network {network!r} rebuilds whole clips; take network 'unet', or 'reconstruct'"
        )
    if clip[0] < 2:
        raise ConfigError(
            f"video.clip_length = {clip[0]}: network {network!r} takes at least two frames; take network 'unet'"
        )
    layers, patch, norm = layers_of(network, settings), PATCH_PX[network], NORMS[network]
    check_sides(config, clip, layers, query)
    return _Parts(
        encoded_clip(layers, patch, clip),
        lambda: clip_encoder(layers, patch, norm),
        lambda wide: clip_decoder(layers, patch, clip, norm, wide),
    )


def _unet(config: Config, clip: tuple[int, ...]) -> _Parts:
    plan = unet_of(config, clip)
    return _Parts(plan.encoded(*clip[1:]), plan.encoder, plan.decoder)
