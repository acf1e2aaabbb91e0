"""The autoencoder of images that a config asks for."""

from __future__ import annotations

from math import prod

from memae.autoencoder import Autoencoder
from memae.config import Config
from memae.image.config import NUM_ITEMS, SCENE_PATCH_PX, SMALL_PX, ImageConfig, layers_of
from memae.image.networks import conv_decoder, conv_encoder, encoded_shape
from memae.memory.build import memory_of

__all__ = ["build", "settle"]


def build(config: Config, shape: tuple[int, ...], samples: int | None = None) -> Autoencoder:
    """A fresh model for encoded images (C, H, W); see `memae.modality.Modality.build`."""
    channels, height, width = shape
    layers, patch = layers_of(config.network, height, width)
    code = encoded_shape(layers, height, width, patch)
    # one prototype per image while an image shows one object; one per place where it is a scene or a texture
    query = config.memory.query or ("whole" if _is_small(config, shape) else "position")
    item_dim = prod(code) if query == "whole" else code[0]
    memory = memory_of(config, item_dim, NUM_ITEMS[config.network], samples)
    encoder = conv_encoder(channels, layers, patch)
    return Autoencoder(encoder, memory, conv_decoder(channels, layers, height, width, patch), query)


def settle(config: Config, shape: tuple[int, ...]) -> Config:
    """The config with how images of this shape are scored, where the preset left it open."""
    settings, large = ImageConfig.of(config), not _is_small(config, shape)
    left: dict[str, object] = {}
    if settings.pool is None:
        left["pool"] = "max" if large else "mean"
    if settings.patch_px is None:
        left["patch_px"] = SCENE_PATCH_PX if large else 1
    if settings.relative is None:
        left["relative"] = large
    return config.with_own(**left)


def _is_small(config: Config, shape: tuple[int, ...]) -> bool:
    return max(shape[1:]) <= SMALL_PX and not ImageConfig.of(config).tile_px
