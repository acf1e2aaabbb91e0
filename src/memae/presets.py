"""Every number of every network and preset, and nothing else holds one.

A preset is a network and a variant. Networks: `mnist`, `cifar10`, `kddcup` and `video-paper` are the paper's;
`image` fits any image, `scene` is the same up to 64 px and folds larger ones for a ninth of the work, `thumbnail`
makes a narrow code of a small one, `table` and `wide` fit any columns, `video` any footage, on a CPU too. For
MNIST and CIFAR-10 our default takes `thumbnail`, for images `scene`, for KDDCUP99 `table`, for tables `wide`.
Variants: `paper` is the paper's text, `released` is what the authors' code does, and no variant is our default.
"mnist-paper", "table", "released" (network by the data) all name one. For video the variants go with the paper's
network: "video-paper", "video-released".
"""

from __future__ import annotations

import difflib
from dataclasses import replace
from math import prod
from typing import Any, get_args

from memae.autoencoder import Autoencoder
from memae.config import Config, MemoryConfig, Network, validated
from memae.errors import ConfigError, DataError
from memae.image.networks import ConvLayer, conv_decoder, conv_encoder, encoded_shape
from memae.memory.base import Memory, build_memory
from memae.table.networks import fully_connected
from memae.types import Modality
from memae.video.networks import ClipLayer, clip_decoder, clip_encoder, encoded_clip

__all__ = ["NETWORKS", "VARIANTS", "build", "modality_of", "preset_config", "settled"]

NETWORKS: tuple[str, ...] = get_args(Network)

MNIST_LAYERS = (ConvLayer(1, 2, 16), ConvLayer(3, 2, 32), ConvLayer(3, 2, 64))
CIFAR10_LAYERS = (ConvLayer(3, 2, 64), ConvLayer(3, 2, 128), ConvLayer(3, 2, 128), ConvLayer(3, 2, 256))
KDDCUP_WIDTHS = (60, 30, 10, 3)
# Three layers at any size: a place of the code is 32 px of the image.
SCENE_LAYERS = (ConvLayer(3, 2, 32), ConvLayer(3, 2, 64), ConvLayer(3, 2, 128))
# px of each side of an image above THING_PX that become channels before the first layer; its map has a number for each
# such square, so that nothing is unfolded for a score
SCENE_FOLD = 4
THUMBNAIL_CODE = 16  # numbers
THING_PX = 64  # up to this longest side an image is a thing as a whole, above a scene or a texture
CLIP_LAYERS = {
    "video-paper": (
        ClipLayer((1, 2, 2), 96),
        ClipLayer((2, 2, 2), 128),
        ClipLayer((2, 2, 2), 256),
        ClipLayer((2, 2, 2), 256),
    ),
    "video": (ClipLayer((2, 1, 1), 48), ClipLayer((2, 2, 2), 96)),
}
FOLDS = {"video-paper": 1, "video": 4}  # px of each side that become channels before the first layer
# BatchNorm learns the still background, which is most of a clip, and drowns what moves: see docs/log.md
NORMS = {"video-paper": True, "video": False}

# N of each network where the memory section leaves it open
NUM_ITEMS = {
    "mnist": 100, "cifar10": 500, "image": 100, "scene": 100, "thumbnail": 300, "kddcup": 50, "table": 50, "wide": 2000,
    "video": 500, "video-paper": 2000,
}  # fmt: skip

# What the two published readings of the method share over all networks; only the read and the loss differ.
VARIANTS: dict[str, dict[str, Any]] = {
    "paper": {
        "memory": {"similarity": "cosine", "temperature": 1.0, "shrinkage": 1.0, "entropy_weight": 2e-4},
        "train": {"reduction": "sum", "patience": 0},
        "preprocess": {"image_scale": "none", "number_scale": "minmax"},
    },
    "released": {
        # the released lambda is 0.0025 at N = 2000, that is 5/N
        "memory": {"similarity": "dot", "temperature": 1.0, "shrinkage": 5.0, "entropy_weight": 2e-4},
        "train": {"reduction": "mean", "patience": 0},
        "preprocess": {"image_scale": "none", "number_scale": "minmax"},
    },
    "default": {},
}

# Ours, chosen on validation data; every trial stands in docs/log.md.
IMAGE_DEFAULT: dict[str, dict[str, Any]] = {
    "memory": {
        "similarity": "cosine",
        "temperature": 1 / 30,
        "shrinkage": 5.0,
        "initialisation": "kmeans",
        "warmup_epochs": 5,
    },
    "preprocess": {"image_scale": "unit"},
    "score": {"pool": None, "square_px": None, "relative": None},
}
THUMBNAIL_DEFAULT = IMAGE_DEFAULT | {"score": {"smooth_px": 1.0}, "train": {"epochs": 20}}
# what tells a car from a lorry of its brightness is its shape; and photographs never fit to the px
CIFAR10_DEFAULT = THUMBNAIL_DEFAULT | {"preprocess": {"image_scale": "centred"}, "score": {"smooth_px": 2.0}}
TABLE_DEFAULT: dict[str, dict[str, Any]] = {
    "memory": {
        "similarity": "euclidean",
        "temperature": 0.1,
        "shrinkage": 1.0,
        "initialisation": "data",
        "trained": False,
    },
    "preprocess": {"number_scale": "standard"},
    "train": {"epochs": None, "patience": 0, "validation_share": 0.0},
}
# for large tables of events, where most rows come again and again
KDDCUP_DEFAULT: dict[str, dict[str, Any]] = {
    "memory": {
        "num_items": 1000,
        "similarity": "cosine",
        "temperature": 1 / 30,
        "shrinkage": 5.0,
        "initialisation": "kmeans",
        "warmup_epochs": 20,
    },
    "preprocess": {"number_scale": "log", "duplicates": "drop"},
    "train": {"epochs": 80, "learning_rate": 3e-3},
}
VIDEO_DEFAULT: dict[str, dict[str, Any]] = {
    "memory": {
        "similarity": "cosine",
        "temperature": 1 / 30,
        "shrinkage": 5.0,
        "initialisation": "kmeans",
        "warmup_epochs": 8,
    },
    "video": {"input": "differences", "score": "place"},
}
# The paper's network for MNIST makes 1,024 numbers of 784 pixels, which lets a plain autoencoder rebuild any digit;
# that for CIFAR-10 makes 1,024, too; that for KDDCUP99 has a code of three numbers. See docs/log.md.
DEFAULT_NETWORKS = {
    "mnist": "thumbnail",
    "cifar10": "thumbnail",
    "image": "scene",
    "kddcup": "table",
    "table": "wide",
}
DEFAULTS: dict[str, dict[str, dict[str, Any]]] = {
    "mnist": THUMBNAIL_DEFAULT,
    "cifar10": CIFAR10_DEFAULT,
    "image": IMAGE_DEFAULT,
    "scene": IMAGE_DEFAULT,
    "thumbnail": THUMBNAIL_DEFAULT,
    "kddcup": KDDCUP_DEFAULT,
    "table": TABLE_DEFAULT,
    "wide": TABLE_DEFAULT,
    "video": VIDEO_DEFAULT,
}

# The paper names no epochs, batch or rate for images and tables; these are ours, for all three variants.
TRAINING: dict[str, dict[str, Any]] = {
    "mnist": {"epochs": 30, "batch_size": 128, "learning_rate": 1e-3},
    "cifar10": {"epochs": 50, "batch_size": 128, "learning_rate": 1e-3},
    "image": {"epochs": 60, "batch_size": 64, "learning_rate": 1e-3, "patience": 10},
    "scene": {"epochs": 60, "batch_size": 64, "learning_rate": 1e-3, "patience": 10},
    "thumbnail": {"epochs": 20, "batch_size": 128, "learning_rate": 1e-3},
    "kddcup": {"epochs": 5, "batch_size": 1024, "learning_rate": 1e-3},
    "table": {"epochs": 200, "learning_rate": 1e-3, "patience": 20},
    "wide": {"epochs": 200, "learning_rate": 1e-3, "patience": 20},
    "video": {"epochs": 20, "batch_size": 16, "learning_rate": 2e-3, "decay_share": 0.5, "precision": "bf16"},
    # the released code: 100 epochs, batches of 10 to 14, no schedule
    "video-paper": {"epochs": 100, "batch_size": 14, "learning_rate": 1e-4, "precision": "bf16"},
}
VIDEO: dict[str, dict[str, Any]] = {
    "video": {"height": 128, "width": 192, "training_stride": 2, "crop_px": 48, "place_px": 16, "stride": 8},
    "video-paper": {"height": 256, "width": 256, "training_stride": 1, "stride": 16},
}


def preset_config(name: str | None, modality: Modality) -> Config:
    """The settings of a preset for data of a modality; None is our default for it.

    Raises:
        ConfigError: an unknown name, or a network for another kind of data.
    """
    words = [] if name is None else str(name).split("-")
    network: str = words.pop(0) if words and words[0] in NETWORKS else modality
    variant = words.pop(0) if words and words[0] in VARIANTS else "default"
    if words:
        raise ConfigError(_unknown_preset(str(name)))
    if modality_of(network) != modality:
        raise ConfigError(
            f"preset {name!r} is for {modality_of(network)}s, and the data is a set of {modality}s; "
            f"leave the preset out, or use {modality!r}"
        )
    if network == "video" and VARIANTS[variant]:
        network = "video-paper"
    settings: dict[str, Any] = {"network": network, "train": dict(TRAINING[network])}
    if network in VIDEO:
        settings["video"] = dict(VIDEO[network])
    for section, values in (VARIANTS[variant] or DEFAULTS[network]).items():
        settings[section] = settings.get(section, {}) | values
    if not VARIANTS[variant]:
        settings["network"] = DEFAULT_NETWORKS.get(network, network)
    return validated(settings, f"preset {name!r}")


def _unknown_preset(name: str) -> str:
    networks = [n for n in NETWORKS if n != "video-paper"]
    known = [*networks, *(f"{n}-{v}" for n in networks for v in ("paper", "released")), "paper", "released"]
    close = difflib.get_close_matches(name, known, n=1)
    return (
        f"preset {name!r} is unknown; "
        + (f"did you mean {close[0]!r}? " if close else "")
        + f"networks: {', '.join(networks)}; each also with -paper or -released behind it."
    )


def build(config: Config, shape: tuple[int, ...], samples: int | None = None) -> Autoencoder:
    """A fresh model for samples of `shape`: (C, H, W) of an image, (1, T, H, W) of a clip, (features,) of a row.

    Random weights come from torch's global generator. A memory that is not trained has no more items than `samples`,
    the training samples that its items are taken from.

    Raises:
        DataError: an image that is too small for the network.
        ConfigError: a shrinkage that is not below the number of items.
    """
    if samples and config.memory.enabled and not config.memory.trained:
        wanted = config.memory.num_items or NUM_ITEMS[config.network]
        few = config.memory.model_copy(update={"num_items": min(wanted, samples)})
        config = config.model_copy(update={"memory": few})
    if modality_of(config.network) == "image":
        channels, height, width = shape
        layers, fold = _image_layers(config.network, height, width)
        code = encoded_shape(layers, height, width, fold)
        # one prototype per image while an image is a thing; one per place where it is a scene or a texture
        query = config.memory.query or ("whole" if _is_thing(config, shape) else "position")
        memory = _memory(config, prod(code) if query == "whole" else code[0])
        encoder = conv_encoder(channels, layers, fold)
        return Autoencoder(encoder, memory, conv_decoder(channels, layers, height, width, fold), query)
    if modality_of(config.network) == "video":
        return _build_video(config, shape)
    widths = (shape[0], *_row_widths(config.network, shape[0]))
    memory = _memory(config, widths[-1])
    return Autoencoder(fully_connected(widths), memory, fully_connected(widths[::-1]))


def settled(config: Config, shape: tuple[int, ...]) -> Config:
    """The same settings with what the preset left to the shape of the encoded samples: how images are scored."""
    large = len(shape) == 3 and not _is_thing(config, shape)
    score = config.score
    left: dict[str, Any] = {}
    if score.pool is None:
        left["pool"] = "max" if large else "mean"
    if score.square_px is None:
        left["square_px"] = SCENE_FOLD if large else 1
    if score.relative is None or len(shape) != 3:  # rows have no places, and video has a score of its own
        left["relative"] = large
    return config.model_copy(update={"score": score.model_copy(update=left)})


def _is_thing(config: Config, shape: tuple[int, ...]) -> bool:
    return max(shape[1:]) <= THING_PX and not config.preprocess.tile


def _build_video(config: Config, shape: tuple[int, ...]) -> Autoencoder:
    layers, fold, clip = _clip_layers(config), FOLDS[config.network], shape[1:]
    query = config.memory.query or "position"
    sides, step = {"height": clip[1], "width": clip[2]}, fold
    crop = config.video.crop_px and min(config.video.crop_px, *clip[1:])
    if crop and clip[1:] != (crop, crop):
        # one decoder rebuilds squares and whole frames: all of them must halve without a rest
        sides["crop_px"], step = crop, fold * prod(layer.stride[1] for layer in layers)
        if query == "whole":
            raise ConfigError(
                f"memory.query = 'whole': items of whole frames cannot be learnt from squares of {crop} px "
                "(video.crop_px); use 'position'"
            )
    for name, size in sides.items():
        if size % step:
            raise ConfigError(f"video.{name} = {size}: network {config.network!r} takes multiples of {step} here")
    norm = NORMS[config.network]
    code = encoded_clip(layers, fold, clip)
    memory = _memory(config, prod(code) if query == "whole" else code[0])
    return Autoencoder(clip_encoder(layers, fold, norm), memory, clip_decoder(layers, fold, clip, norm), query)


def _clip_layers(config: Config) -> tuple[ClipLayer, ...]:
    layers, channels = CLIP_LAYERS[config.network], config.video.channels
    if channels is None:
        return layers
    if len(channels) != len(layers):
        raise ConfigError(
            f"video.channels = {channels}: network {config.network!r} has {len(layers)} layers; give a number "
            "for each, such as " + str([layer.channels for layer in layers])
        )
    return tuple(replace(layer, channels=wide) for layer, wide in zip(layers, channels, strict=True))


def modality_of(network: str) -> Modality:
    """The kind of data that a network is for."""
    if network in VIDEO:
        return "video"
    return "table" if network in ("kddcup", "table", "wide") else "image"


def _memory(config: Config, item_dim: int) -> Memory | None:
    section: MemoryConfig = config.memory
    if not section.enabled:
        return None
    num_items = section.num_items or NUM_ITEMS[config.network]
    return build_memory(section, num_items, item_dim)


def _image_layers(network: str, height: int, width: int) -> tuple[tuple[ConvLayer, ...], int]:
    """Of the encoder, and the px of each side that become channels before them."""
    if min(height, width) < 4:
        raise DataError(f"images of {height} x {width} px are too small; the networks need at least 4 x 4")
    if network == "mnist":
        return MNIST_LAYERS, 1
    if network == "cifar10":
        return CIFAR10_LAYERS, 1
    if network == "scene" and max(height, width) > THING_PX:
        return SCENE_LAYERS, SCENE_FOLD
    # halve at least once: until the shorter side is at most 4 px long, or a thumbnail is a single place
    layers: list[ConvLayer] = []
    narrow = network == "thumbnail"
    most, least, side = (64, 1, max(height, width)) if narrow else (128, 4, min(height, width))
    channels = most // 4
    while side > least or not layers:
        layers.append(ConvLayer(3, 2, channels))
        channels, side = min(2 * channels, most), (side + 1) // 2
    if narrow:  # a code as wide as the picture copies any picture, normal or not
        layers[-1] = ConvLayer(3, 2, THUMBNAIL_CODE)
    return tuple(layers), 1


def _row_widths(network: str, features: int) -> tuple[int, ...]:
    """The layers of an encoder of rows; the last is the code.

    `table`: three layers down to a code of about a quarter of the columns, 3 to 16 wide. `wide`: two, to a code of as
    many numbers as there are columns, 8 to 64: the memory alone decides what is rebuilt.
    """
    if network == "kddcup":
        return KDDCUP_WIDTHS
    if network == "wide":
        return (max(64, min(128, 2 * features)), max(8, min(64, features)))
    code = min(16, max(3, features // 4))
    return (max(32, min(128, features)), max(16, min(64, features // 2)), code)
