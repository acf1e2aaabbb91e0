"""The kinds of data there are, and what is asked of a kind by the name of its network."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Sequence
from typing import Any

from memae.autoencoder import Autoencoder
from memae.config import Config, add_section, current_network, override, validated
from memae.errors import ConfigError
from memae.memory.base import memory_presets
from memae.memory.published import VARIANTS
from memae.modality.interface import Modality
from memae.modality.values import FitOptions, Prepared
from memae.progress import Progress

__all__ = [
    "build",
    "current_preset",
    "modalities",
    "modality_named",
    "modality_of",
    "prepare",
    "preset_config",
    "register",
]

_REGISTERED: dict[str, Modality | str] = {
    # video first: a folder that holds videos is no folder of images
    name: f"memae.{name}.modality"
    for name in ("video", "image", "table")
}


def register(name: str, modality: Modality | str) -> None:
    """Adds a kind of data; it is asked before those that are there whether data is its own.

    Args:
        name: of the kind.
        modality: the object, or the name of the module whose attribute MODALITY it is, imported when first needed.
    """
    before = dict(_REGISTERED)
    _REGISTERED.clear()
    _REGISTERED.update({name: modality, **before})
    if isinstance(modality, Modality):
        add_section(modality.Settings, modality.networks)


def modalities() -> tuple[Modality, ...]:
    """All kinds of data, in the order in which they are asked."""
    return tuple(modality_named(name) for name in tuple(_REGISTERED))


def modality_named(name: str) -> Modality:
    """The kind of data of a name; a KeyError for an unknown one."""
    found = _REGISTERED[name]
    if isinstance(found, str):
        loaded: Modality = importlib.import_module(found).MODALITY
        _REGISTERED[name] = found = loaded
        add_section(loaded.Settings, loaded.networks)
    return found


def modality_of(network: str) -> Modality:
    """The kind of data that a network is for.

    Raises:
        ConfigError: no such network.
    """
    found = next((modality for modality in modalities() if network in modality.networks), None)
    if found is None:
        known = ", ".join(network for modality in modalities() for network in modality.networks)
        raise ConfigError(f"network = {network!r} is unknown; known: {known}")
    return found


def current_preset(name: str | None) -> str | None:
    """A preset under its present name, with a warning for one whose network has been renamed."""
    if name is None:
        return None
    network, dash, variant = str(name).partition("-")
    return f"{current_network(network, warn=True, stacklevel=3)}{dash}{variant}"


def preset_config(name: str | None, kind: str) -> Config:
    """The settings of a preset for a kind of data; None is our default for it.

    A preset is a network and a variant: "mnist-paper", "table", and "released" (network by the data) all name one. A
    preset of a memory, such as "mnad-paper", stands in the place of the variant. A kind of data may have presets of its
    own (`Modality.presets`): for video "mnad-paper" is the published method with its network.

    Raises:
        ConfigError: an unknown name, or a network for another kind of data.
    """
    modality = modality_named(kind)
    networks = [network for other in modalities() for network in other.networks]
    name = current_preset(name)
    origin = f"preset {name!r}"
    if name is not None and name in modality.presets:
        return validated(modality.presets[name], origin)
    words = [] if name is None else name.split("-")
    network = words.pop(0) if words and words[0] in networks else kind
    variant, of_memories = "-".join(words) if words else "default", memory_presets()
    if variant not in VARIANTS and variant not in of_memories:
        other = next((other for other in modalities() if name in other.presets), None)
        raise ConfigError(_of_others(name, other, modality) if other else _unknown_preset(name or "", networks))
    if network not in modality.networks:
        raise ConfigError(_of_others(name, modality_of(network), modality))
    if variant in of_memories:
        return override(validated(modality.preset(network, "default"), origin), of_memories[variant], origin)
    return validated(modality.preset(network, variant), origin)


def _of_others(name: str | None, owner: Modality, modality: Modality) -> str:
    return (
        f"preset {name!r} is for {owner.plural}, and the data is a set of {modality.plural}; leave the preset out, or "
        f"use {modality.name!r}"
    )


def _unknown_preset(name: str, networks: Sequence[str]) -> str:
    plain = [network for network in networks if "-" not in network]
    published = [*(variant for variant in VARIANTS if variant != "default"), *memory_presets()]
    own = [preset for modality in modalities() for preset in modality.presets if preset not in published]
    known = [*plain, *(f"{network}-{variant}" for network in plain for variant in published), *published, *own]
    close = difflib.get_close_matches(name, known, n=1)
    return (
        f"preset {name!r} is unknown; "
        + (f"did you mean {close[0]!r}? " if close else "")
        + f"networks: {', '.join(plain)}; each also with -paper or -released, or with the name of a memory "
        f"({', '.join(memory_presets())}), behind it" + "".join(f"; {preset}" for preset in own) + "."
    )


def build(config: Config, shape: tuple[int, ...], samples: int | None = None) -> Autoencoder:
    """A fresh model for encoded samples of a shape; see `Modality.build`."""
    return modality_of(config.network).build(config, shape, samples)


def prepare(
    source: Any, config: Config, seed: int, options: FitOptions | None = None, progress: Progress | None = None
) -> Prepared:
    """Normal samples in three parts, encoded; see `Modality.prepare`."""
    return modality_of(config.network).prepare(source, config, seed, options or FitOptions(), progress)
