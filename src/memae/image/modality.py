"""`ImageModality`: what the library needs to know about images."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn

from memae.autoencoder import Autoencoder
from memae.config import Config
from memae.errors import ConfigError, DataError
from memae.files.patterns import files_meant, is_pattern
from memae.image.arrays import ArraySource, Images
from memae.image.backbone import FEATURE_CHANNELS, FrozenFeatures, weights_installed
from memae.image.config import NETWORKS, NUM_ITEMS, SCENE_PATCH_PX, SMALL_PX, ImageConfig, layers_of, preset
from memae.image.evaluate import evaluate
from memae.image.graph import has_levels, scoring_graph
from memae.image.idx import open_idx
from memae.image.item_source import ItemPictures
from memae.image.made_up import made_up
from memae.image.networks import conv_decoder, conv_encoder, encoded_shape
from memae.image.onnx_backbone import OnnxFeatures
from memae.image.paths import IMAGE_SUFFIXES, LIST_SUFFIX, find_mvtec
from memae.image.predict import calibrate, examine, normal_scores, predict
from memae.image.prepare import prepare
from memae.image.preprocess import ImagePreprocess
from memae.image.scoring import ImageReference, map_threshold
from memae.image.source import ImageSource
from memae.memory.base import widening
from memae.memory.build import memory_of
from memae.modality import Artifact, Description, Layout, Modality, SampleTensor
from memae.modality.items import Items
from memae.types import Key, Source

__all__ = ["MODALITY", "ImageModality"]


FEATURES = "features"
PIXELS = "image"


class ImageModality(Modality):
    """Images that do not depend on each other."""

    name = "image"
    unit = "images"
    this = "these are images"
    files = f"MNIST idx3-ubyte (.gz), {', '.join(IMAGE_SUFFIXES)}, folders and lists (.txt) of images"
    Settings, Preprocess = ImageConfig, ImagePreprocess
    networks = NETWORKS
    score_options = frozenset({"explain", "overlay", "maps", "masks", "maps_of", "format"})
    evaluate_options = frozenset({"label_column", "normal", "labels", "group"})
    notes_after_fit = False
    layouts: ClassVar[tuple[Layout, ...]] = ("memae", "anomalib")
    small_step = 4_000_000

    # each is explained where it is written
    preset = staticmethod(preset)
    prepare = staticmethod(prepare)
    examine = staticmethod(examine)
    normal_scores = staticmethod(normal_scores)
    calibrate = staticmethod(calibrate)
    predict = staticmethod(predict)
    scoring_graph = staticmethod(scoring_graph)
    map_threshold = staticmethod(map_threshold)
    evaluate = staticmethod(evaluate)
    made_up = staticmethod(made_up)

    def accepts(self, x: Any, wanted: bool) -> bool:
        """Folders and patterns with images, image files, lists of these, idx files, arrays of three or four axes."""
        if isinstance(x, list):
            return all(_means_images(path, wanted) for path in x)
        if isinstance(x, Path):
            return _means_images(x, wanted) or (x.is_file() and "idx3-ubyte" in x.name.lower())
        if isinstance(x, np.ndarray):
            return x.ndim in (3, 4)
        return isinstance(x, Images) or (isinstance(x, Items) and x.are_pictures)

    def open(
        self, x: Any, preprocess: ImagePreprocess | None, *, origin: str, skip_bad: bool, **options: Any
    ) -> Source:
        """See `Modality.open`; a folder in the layout of MVTec AD means its normal images, or for a model its test."""
        if isinstance(x, Images):
            return ArraySource(x)
        if isinstance(x, Items):
            return ItemPictures(x)
        if isinstance(x, np.ndarray):
            return ArraySource.of(x, origin)
        if isinstance(x, Path) and "idx3-ubyte" in x.name.lower():
            return open_idx(x)
        source = _open_files(x if isinstance(x, list) else [x], preprocess)
        return source.skipping() if skip_bad else source

    def default_preset(self, source: Any, config: Config) -> str:
        """`small` where the network sees at most 64 px of a side. Above, `features` if its extra is installed, and for
        any size where the settings name a backbone.

        `image` is for all others: for tiles, and where the settings ask for a training or for another memory.
        """
        settings = ImageConfig.of(config)
        if isinstance(source, ImageSource):
            source = source.sized(settings.size_px)
        if settings.backbone is not None:
            return FEATURES
        if not settings.tile_px and max(source.size) <= SMALL_PX and config.memory.query != "position":
            return "small"  # which has one position only
        trains = settings.tile_px or _asks_for_training(config)
        return FEATURES if weights_installed() and not trains else "image"

    def resolve(self, config: Config, shape: tuple[int, ...]) -> Config:
        """The config with the settings of scoring that the preset left open, for images of shape (C, H, W)."""
        settings, large = ImageConfig.of(config), config.network == FEATURES or not _is_small(config, shape)
        left: dict[str, object] = {}
        if settings.pool is None:
            left["pool"] = "max" if large else "mean"
        if settings.patch_px is None:
            left["patch_px"] = SCENE_PATCH_PX if large else 1
        if settings.relative is None:
            left["relative"] = large
        if settings.filters is None:
            whole = config.with_own(**left)
            worst = ImageConfig.of(whole).pool == "max" and ImageConfig.of(whole).relative
            left["filters"] = bool(large and worst and not settings.tile_px)
        return config.with_own(**left)

    def build(self, config: Config, shape: tuple[int, ...], samples: int | None = None) -> Autoencoder:
        """A fresh model for images (C, H, W)."""
        channels, height, width = shape
        layers, patch = layers_of(config.network, height, width)
        if config.memory.score == "distance" and ImageConfig.of(config).tile_px:
            raise ConfigError(
                "memory.score = 'distance' is for whole images; leave image.tile_px out, or take memory.score = "
                "'reconstruction'"
            )
        if config.network == FEATURES:
            return _feature_model(config)
        code = encoded_shape(layers, height, width, patch)
        # one prototype per image while an image shows one object; one per place where it is a scene or a texture
        query = config.memory.query or ("whole" if _is_small(config, shape) else "position")
        item_dim = prod(code) if query == "whole" else code[0]
        memory = memory_of(config, item_dim, NUM_ITEMS[config.network], samples)
        encoder = conv_encoder(channels, layers, patch)
        decoder = conv_decoder(channels, layers, height, width, patch, widening(memory))
        return Autoencoder(encoder, memory, decoder, query)

    def pretrain(self, model: Autoencoder) -> None:
        """Gives frozen features their published weights.

        Raises:
            MissingExtraError: the extra `features` is not installed.
        """
        if isinstance(model.encoder, FrozenFeatures):
            model.encoder.load_published()
        elif isinstance(model.encoder, OnnxFeatures):
            model.encoder.load_file()

    def unreadable_format(self, version: int, config: Config, shape: tuple[int, ...]) -> str | None:
        """Why a network `scene` of before format 8 cannot be read: it was wider. None for all others."""
        wider = version < 8 and config.network == "scene" and max(shape[1:]) > SMALL_PX
        return "whose network 'scene' was wider" if wider else None

    def load_reference(
        self, tensors: Mapping[str, Tensor], config: Config, shape: tuple[int, ...]
    ) -> ImageReference:
        """Maxima of anomaly maps, and the mean training error."""
        return ImageReference.load(tensors, ImageConfig.of(config), shape)

    def tensors(self, artifact: Artifact) -> tuple[SampleTensor, ...]:
        """The pixels (C, H, W)."""
        dtype = np.uint8 if has_levels(artifact.preprocess) else np.float32
        return (SampleTensor(PIXELS, dtype, artifact.preprocess.shape),)

    def from_tensors(self, artifact: Artifact, given: Mapping[str, np.ndarray]) -> np.ndarray:
        """Images (S, C, H, W) or (S, H, W)."""
        if given.keys() != {PIXELS}:
            raise DataError(f"the arrays {', '.join(map(repr, given))}; the model takes one, {PIXELS!r}")
        pixels = given[PIXELS]
        if pixels.ndim not in (3, 4) or pixels.dtype.kind not in "uif":
            raise DataError(f"{PIXELS!r} has the shape {list(pixels.shape)}; give numbers (images, C, H, W)")
        return pixels

    def decode_items(self, artifact: Artifact) -> tuple[np.ndarray | None, None]:
        """The memory items decoded into images (N, C, H, W); None for items that are features."""
        model = artifact.model
        if model.target == "encoding":
            return None, None
        return model.decoder(model.items_alone(artifact.preprocess.shape)).cpu().numpy(), None

    def encodes_alone(self, artifact: Artifact) -> bool:
        """Unless images are cut into tiles."""
        return artifact.preprocess.overlap is None

    def describe(self, artifact: Artifact) -> Description:
        """Describes the size and the scale of images."""
        preprocess = artifact.preprocess
        size = f"{preprocess.channels} x {preprocess.height} x {preprocess.width}"
        return Description(f"images of {size} (channels, height, width), scale {preprocess.scale}")

    def original(self, source: Any, key: Key) -> np.ndarray | None:
        """The image at its own size, if it was read from a file."""
        return source.original(key) if isinstance(source, ImageSource) else None


def _asks_for_training(config: Config) -> bool:
    """Whether settings that were laid over the preset `image` say how to train, or name a memory that has to be."""
    train, memory = preset("image", "default")["train"], config.memory
    asked = any(getattr(config.train, name) != value for name, value in train.items())
    return asked or not memory.enabled or memory.kind != "memae" or memory.query == "whole"


def _feature_model(config: Config) -> Autoencoder:
    """A memory that rebuilds frozen features place by place, and no decoder behind it."""
    if config.train.epochs:
        raise ConfigError(
            f"train.epochs = {config.train.epochs}: the network 'features' trains no weights; leave "
            "train.epochs out, or take the network 'scene'"
        )
    settings = ImageConfig.of(config)
    stored = settings.backbone
    assert not isinstance(stored, str), "a file that is named is read before a model is built"
    memory = memory_of(config, stored.channels if stored else FEATURE_CHANNELS, NUM_ITEMS[FEATURES], None)
    if memory is None or not memory.certifiable or config.memory.query == "whole":
        raise ConfigError(
            "the network 'features' rebuilds each place of an image from memory items; leave memory.enabled, "
            "memory.kind and memory.query out, or take the network 'scene'"
        )
    empty = settings.keep_aspect
    encoder = OnnxFeatures(stored, empty_places=empty) if stored else FrozenFeatures(empty_places=empty)
    return Autoencoder(encoder, memory, nn.Identity(), "position", target="encoding")


def _is_small(config: Config, shape: tuple[int, ...]) -> bool:
    return max(shape[1:]) <= SMALL_PX and not ImageConfig.of(config).tile_px


def _means_images(path: Path, wanted: bool) -> bool:
    if path.is_dir() or is_pattern(path):
        return wanted or next(files_meant(path, IMAGE_SUFFIXES), None) is not None
    return path.name.lower().endswith((*IMAGE_SUFFIXES, LIST_SUFFIX))


def _open_files(paths: list[Path], preprocess: ImagePreprocess | None) -> ImageSource:
    layout = find_mvtec(paths[0]) if len(paths) == 1 else None
    if preprocess is None:
        if layout:
            remark = f"{paths[0]} has the layout of MVTec AD: {layout.train} is what trains"
            return ImageSource([layout.train], remark=remark)
        return ImageSource(paths)
    paths = [layout.test] if layout else paths
    if preprocess.overlap is not None:
        source = ImageSource(paths, channels=preprocess.channels, own_size=True)
    else:
        size = preprocess.height, preprocess.width
        source = ImageSource(paths, channels=preprocess.channels, size=size, keep_aspect=preprocess.keep_aspect)
    return source.fitting(preprocess)


MODALITY = ImageModality()
