"""The autoencoder of clips that a config asks for."""

from __future__ import annotations

from dataclasses import replace
from math import prod

from memae.autoencoder import Autoencoder
from memae.config import Config
from memae.errors import ConfigError
from memae.memory.build import memory_of
from memae.video.config import CLIP_LAYERS, NORMS, NUM_ITEMS, PATCH_PX, VideoConfig
from memae.video.networks import ClipLayer, clip_decoder, clip_encoder, encoded_clip

__all__ = ["build"]


def build(config: Config, shape: tuple[int, ...], samples: int | None = None) -> Autoencoder:
    """A fresh model for encoded clips (1, T, H, W); see `memae.modality.Modality.build`."""
    network, settings, clip = config.network, VideoConfig.of(config), shape[1:]
    layers, patch, norm = _layers(network, settings), PATCH_PX[network], NORMS[network]
    query = config.memory.query or "position"
    _check_sides(config, settings, clip, layers, patch, query)
    code = encoded_clip(layers, patch, clip)
    item_dim = prod(code) if query == "whole" else code[0]
    memory = memory_of(config, item_dim, NUM_ITEMS[network], samples)
    return Autoencoder(clip_encoder(layers, patch, norm), memory, clip_decoder(layers, patch, clip, norm), query)


def _check_sides(
    config: Config,
    settings: VideoConfig,
    clip: tuple[int, ...],
    layers: tuple[ClipLayer, ...],
    patch: int,
    query: str,
) -> None:
    sides, step = {"height": clip[1], "width": clip[2]}, patch
    crop = settings.crop_px and min(settings.crop_px, *clip[1:])
    if crop and clip[1:] != (crop, crop):
        # one decoder rebuilds crops and whole frames: all of them must halve without a rest
        sides["crop_px"], step = crop, patch * prod(layer.stride[1] for layer in layers)
        if query == "whole":
            raise ConfigError(
                f"memory.query = 'whole': items of whole frames cannot be learnt from crops of {crop} px "
                "(video.crop_px); use 'position'"
            )
    for name, size in sides.items():
        if size % step:
            raise ConfigError(f"video.{name} = {size}: network {config.network!r} takes multiples of {step} here")


def _layers(network: str, settings: VideoConfig) -> tuple[ClipLayer, ...]:
    layers, channels = CLIP_LAYERS[network], settings.channels
    if channels is None:
        return layers
    if len(channels) != len(layers):
        raise ConfigError(
            f"video.channels = {channels}: network {network!r} has {len(layers)} layers; give a number for each, such "
            "as " + str([layer.channels for layer in layers])
        )
    return tuple(replace(layer, channels=wide) for layer, wide in zip(layers, channels, strict=True))
