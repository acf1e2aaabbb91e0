"""The settings of images and every number of their networks and presets.

Networks: `mnist` and `cifar10` are the paper's; `image` fits any image; `scene` is the same up to 64 px and makes
channels of the patches of larger images, for a ninth of the work; `small` makes a narrow code of a small image;
`features` rebuilds frozen features of a larger one. Our default takes `small` up to 64 px, and above `features`, or
`scene` without its extra.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, model_validator

from memae.config import KindSettings
from memae.errors import DataError
from memae.image.networks import ConvLayer
from memae.memory.published import PUBLISHED

__all__ = [
    "CIFAR10_LAYERS",
    "MNIST_LAYERS",
    "NETWORKS",
    "NUM_ITEMS",
    "SCENE_PATCH_PX",
    "SMALL_PX",
    "ImageConfig",
    "ImageScale",
    "Pool",
    "StoredBackbone",
    "layers_of",
    "preset",
]

ImageScale = Literal["none", "unit", "centred", "shared"]
Pool = Literal["mean", "max"]
NETWORKS = ("mnist", "cifar10", "image", "scene", "small", "features")
NUM_ITEMS = {"mnist": 100, "cifar10": 500, "image": 100, "scene": 100, "small": 300, "features": 1000}
"""N of each network where memory.num_items is left open."""
SMALL_PX = 64
"""Up to this longest side an image shows one object as a whole, above it a scene or a texture."""
SCENE_PATCH_PX = 4
"""Side of the patches of a larger image that become channels before the first layer, and of those that its anomaly map
has a number for."""

MNIST_LAYERS = (ConvLayer(1, 2, 16), ConvLayer(3, 2, 32), ConvLayer(3, 2, 64))
CIFAR10_LAYERS = (ConvLayer(3, 2, 64), ConvLayer(3, 2, 128), ConvLayer(3, 2, 128), ConvLayer(3, 2, 256))
SCENE_LAYERS = (ConvLayer(3, 2, 32), ConvLayer(3, 2, 64), ConvLayer(3, 2, 128))  # a place of the code is 32 px
SMALL_CODE = 16  # numbers


class StoredBackbone(BaseModel, frozen=True, extra="forbid"):
    """The ONNX file that a model holds in place of our frozen features; see `memae.image.onnx_backbone`."""

    path: str
    """Where it lay."""
    outputs: tuple[str, ...]
    """The maps that are features."""
    sha256: str
    size_bytes: int = Field(ge=1)
    channels: int = Field(ge=1)
    """Of all maps together."""


class ImageConfig(KindSettings):
    """How images become what the network sees, and how a rebuilt image becomes a score."""

    kind = "image"
    plural = "images"
    former_names = {  # noqa: RUF012  constant, and pydantic leaves a ClassVar alone
        "preprocess.image_size": "size_px",
        "preprocess.tile": "tile_px",
        "preprocess.tile_overlap": "tile_overlap_px",
        "preprocess.tiles_per_image": "tiles_per_image",
        "preprocess.image_scale": "scale",
        "score.smooth_px": "smooth_px",
        "score.pool": "pool",
        "score.square_px": "patch_px",
        "score.relative": "relative",
    }
    former_networks = {"thumbnail": "small"}  # noqa: RUF012  as above

    size_px: int | None = Field(
        None,
        ge=4,
        description="longest side, px, that images of files are resized to; unset: the most common size, at most 256. "
        "Arrays are not resized",
    )
    tile_px: int | None = Field(
        None,
        ge=16,
        description="side of the tiles, px, that images are cut into at their own resolution; unset: no tiles, images "
        "are resized",
    )
    tile_overlap_px: int | None = Field(
        None, ge=0, description="least overlap of neighbouring tiles, px; unset: a quarter of a tile"
    )
    tiles_per_image: int | None = Field(
        None, ge=1, description="tiles of each training image, drawn by the seed; unset: all"
    )
    keep_aspect: bool = Field(
        False,
        description="images of files keep their shape: each is resized by one factor, as large as fits, and what is "
        "left of the size below it and beside it counts for nothing; false: they are stretched to the size. For the "
        "network 'features'",
    )
    scale: ImageScale | None = Field(
        "unit",
        description="per image: 'none', 'unit' (root mean square 1) or 'centred' (mean 0, then unit); 'shared' divides "
        "all by the root mean square of the training images; unset: decided by how much the brightness of normal "
        "images varies",
    )
    smooth_px: float | None = Field(
        0.0,
        ge=0,
        description="standard deviation of the Gaussian that smooths the residual of an image before it is squared, "
        "px; 0: none (paper); unset: the distance at which the correlation of two pixels falls to 0.7, at most a "
        "sixteenth of the longer side",
    )
    pool: Pool | None = Field(
        "mean",
        description="score of an image: 'mean' of its squared error (paper), or 'max', the maximum of its anomaly map: "
        "the squared error, smoothed by 1/64 of the longer side. 'max' finds small defects; unset: 'max' if an image "
        "is larger than 64 px",
    )
    patch_px: int | None = Field(
        1,
        ge=1,
        le=65_536,
        description="side of the patches whose mean errors make up an anomaly map, px; unset: 4 if an image is larger "
        "than 64 px, else 1",
    )
    relative: bool | None = Field(
        False,
        description="divide the error of each patch by the mean training error of that patch, so that places that are "
        "always hard to rebuild do not hide an anomaly; unset: true if an image is larger than 64 px",
    )

    backbone: str | StoredBackbone | None = Field(
        None,
        description="path of an ONNX file whose maps are the features of the network 'features'; it needs the extra "
        "'onnx', and the model keeps the whole file; unset: our own",
    )
    backbone_outputs: list[str] | None = Field(
        None, description="names of the outputs of that file to take; unset: every output of four axes"
    )
    filters: bool | None = Field(
        False,
        description="beside the reconstruction, compare the responses of fixed filters for edges and lines with those "
        "that training images have at the same place; a place counts by the worse of both; unset: true for the score "
        "'max' of whole images larger than 64 px",
    )

    @model_validator(mode="after")
    def _filters_fit(self) -> Self:
        if self.filters and not (self.relative in (None, True) and self.pool in (None, "max")):
            raise ValueError(
                "filters are compared with relative errors by their maximum; leave pool and relative unset, or set "
                'pool = "max" and relative = true'
            )
        if self.filters and self.tile_px is not None:
            raise ValueError(
                "filters have statistics for each place of a whole image; leave tile_px or filters out"
            )
        if self.keep_aspect and (self.filters or self.tile_px is not None):
            raise ValueError(
                "keep_aspect leaves places of the size empty, which neither filters nor tiles know; leave one of them "
                "out"
            )
        return self

    @model_validator(mode="after")
    def _tiles_fit(self) -> Self:
        if self.tile_px is None:
            if self.tile_overlap_px is not None or self.tiles_per_image is not None:
                raise ValueError(
                    "tile_overlap_px and tiles_per_image are for tiles; set tile_px, or leave them out"
                )
            return self
        if self.size_px is not None:
            raise ValueError(
                "size_px resizes images, and tiles are cut at their own size; leave one of size_px and tile_px out"
            )
        if self.overlap_px >= self.tile_px:
            raise ValueError(
                f"tile_overlap_px = {self.overlap_px} leaves nothing new for the next tile of {self.tile_px} px; take "
                "less than the tile, such as a quarter of it"
            )
        return self

    @property
    def overlap_px(self) -> int:
        """Px that neighbouring tiles share at least."""
        return (self.tile_px or 0) // 4 if self.tile_overlap_px is None else self.tile_overlap_px


# Ours, tuned on validation data; every trial is in docs/trials.
DEFAULT: Mapping[str, Mapping[str, Any]] = {
    "memory": {
        "similarity": "cosine",
        "temperature": 1 / 30,
        "shrinkage": 5.0,
        "initialisation": "kmeans",
        "warmup_epochs": 5,
    },
    "image": {"scale": "unit"},
}
LARGE: Mapping[str, Mapping[str, Any]] = {
    **DEFAULT,
    "image": {"scale": "unit", "pool": None, "patch_px": None, "relative": None, "filters": None},
}
SMALL: Mapping[str, Mapping[str, Any]] = {**DEFAULT, "image": {"scale": None, "smooth_px": None}}
# what the normal images of these two decide, written down: docs/images.md
MNIST: Mapping[str, Mapping[str, Any]] = {**DEFAULT, "image": {"scale": "unit", "smooth_px": 1.0}}
# a car and a lorry of equal brightness differ in shape; and reconstructed photographs never align to the px
CIFAR10: Mapping[str, Mapping[str, Any]] = {**DEFAULT, "image": {"scale": "centred", "smooth_px": 2.0}}
# Frozen features learn nothing, so the memory is filled at once.
FILLED: Mapping[str, Any] = {"initialisation": "kmeans", "trained": False}
FEATURES: Mapping[str, Mapping[str, Any]] = {
    "memory": {"similarity": "cosine", "temperature": 1 / 50, "shrinkage": 1.0, **FILLED},
    "image": {"scale": "none", "pool": None, "patch_px": None, "relative": None},
}
DEFAULTS = {
    "mnist": MNIST,
    "cifar10": CIFAR10,
    "image": LARGE,
    "scene": LARGE,
    "features": FEATURES,
    "small": SMALL,
}
# The paper's networks for MNIST and CIFAR-10 make 1,024 numbers, which lets a plain autoencoder rebuild any digit.
DEFAULT_NETWORKS = {"mnist": "small", "cifar10": "small", "image": "scene"}

# The paper names no epochs, batch or rate for images; these are ours, for all three variants.
TRAINING: Mapping[str, Mapping[str, Any]] = {
    "mnist": {"epochs": 30, "batch_size": 128, "learning_rate": 1e-3},
    "cifar10": {"epochs": 50, "batch_size": 128, "learning_rate": 1e-3},
    "image": {"epochs": 60, "batch_size": 64, "learning_rate": 1e-3, "patience": 10},
    "scene": {"epochs": 60, "batch_size": 64, "learning_rate": 1e-3, "patience": 10},
    "small": {"epochs": 20, "batch_size": 128, "learning_rate": 1e-3},
    "features": {"epochs": 0, "validation_share": 0.0},  # no training that a part could stop early
}

# Our default trains the narrow network of images up to 64 px for as long as MNIST and CIFAR-10 need, or by the data.
DEFAULT_LENGTHS: Mapping[str, Mapping[str, Any]] = {
    "mnist": {"epochs": 20},
    "cifar10": {"epochs": 20},
    "small": {"epochs": None, "least_epochs": 20, "batch_size": None},
}


def preset(network: str, variant: str) -> dict[str, Any]:
    """The nested settings of a network in a variant: "default", "paper" or "released"."""
    if variant in PUBLISHED:
        published = PUBLISHED[variant]
        train = {**TRAINING[network], **published["train"]}
        memory = {**published["memory"], **(FILLED if network == "features" else {})}
        return {"network": network, "train": train, "memory": memory, "image": {"scale": "none"}}
    train = {**TRAINING[network], **DEFAULT_LENGTHS.get(network, {})}
    return {"network": DEFAULT_NETWORKS.get(network, network), "train": train, **DEFAULTS[network]}


def layers_of(network: str, height: int, width: int) -> tuple[tuple[ConvLayer, ...], int]:
    """The layers of the encoder, and the side of the patches, px, that become channels before them.

    Raises:
        DataError: an image below 4 x 4 px.
    """
    if min(height, width) < 4:
        raise DataError(f"images of {height} x {width} px are too small; the networks need at least 4 x 4")
    if network == "mnist":
        return MNIST_LAYERS, 1
    if network == "cifar10":
        return CIFAR10_LAYERS, 1
    if network == "scene" and max(height, width) > SMALL_PX:
        return SCENE_LAYERS, SCENE_PATCH_PX
    # halve at least once: until the shorter side is at most 4 px long, or a small image is a single place
    layers: list[ConvLayer] = []
    narrow = network == "small"
    most, least, side = (64, 1, max(height, width)) if narrow else (128, 4, min(height, width))
    channels = most // 4
    while side > least or not layers:
        layers.append(ConvLayer(3, 2, channels))
        channels, side = min(2 * channels, most), (side + 1) // 2
    if narrow:  # a code as wide as the picture copies any picture, normal or not
        layers[-1] = ConvLayer(3, 2, SMALL_CODE)
    return tuple(layers), 1
