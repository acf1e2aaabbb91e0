"""Images: folders and arrays in, error maps, anomaly maps and scores out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from memae.autoencoder import Autoencoder
from memae.config import Config
from memae.image import predict as prediction
from memae.image.arrays import ArraySource
from memae.image.build import build as build_images
from memae.image.build import settle as settle_images
from memae.image.config import NETWORKS, SMALL_PX, ImageConfig, preset
from memae.image.evaluate import evaluate as evaluate_images
from memae.image.mvtec import find_mvtec
from memae.image.paths import IMAGE_SUFFIXES, LIST_SUFFIX, is_pattern
from memae.image.prepare import prepare as prepare_images
from memae.image.preprocess import ImagePreprocess
from memae.image.samples import Images
from memae.image.scoring import ImageReference, map_threshold
from memae.image.source import ImageSource, open_idx
from memae.modality import Artifact, Description, FitOptions, Judged, Modality, Prepared, Request
from memae.progress import Done, Progress
from memae.types import Key, Prediction, Source

__all__ = ["MODALITY", "ImageModality"]


class ImageModality(Modality):
    """Images that do not depend on each other."""

    name = "image"
    unit = "images"
    this = "these are images"
    files = f"MNIST idx3-ubyte (.gz), {', '.join(IMAGE_SUFFIXES)}, folders and lists (.txt) of images"
    Settings = ImageConfig
    networks = NETWORKS
    score_options = frozenset({"explain", "maps", "maps_of"})
    evaluate_options = frozenset({"label_column", "normal", "labels"})
    notes_after_fit = False
    small_step = 4_000_000

    def accepts(self, x: Any, wanted: bool) -> bool:
        """Folders, patterns, image files, lists of these, idx files, and arrays of three or four axes."""
        if isinstance(x, list):
            return all(_means_images(path) for path in x)
        if isinstance(x, Path):
            return _means_images(x) or (x.is_file() and "idx3-ubyte" in x.name.lower())
        if isinstance(x, np.ndarray):
            return x.ndim in (3, 4)
        return isinstance(x, Images)

    def open(
        self, x: Any, preprocess: ImagePreprocess | None, *, origin: str, skip_bad: bool, **options: Any
    ) -> Source:
        """See `Modality.open`; a folder in the layout of MVTec AD means its normal images, or for a model its test."""
        if isinstance(x, Images):
            source: Any = ArraySource(x)
        elif isinstance(x, np.ndarray):
            source = ArraySource.of(x, origin)
        elif isinstance(x, Path) and "idx3-ubyte" in x.name.lower():
            source = open_idx(x)
        else:
            source = _open_files(x if isinstance(x, list) else [x], preprocess)
            source = source.skipping() if skip_bad else source
        return source  # type: ignore[no-any-return]

    def prepare(
        self, source: Any, config: Config, seed: int, options: FitOptions, progress: Progress | None
    ) -> Prepared:
        """See `memae.image.prepare.prepare`."""
        return prepare_images(source, config, seed, options, progress)

    def preset(self, network: str, variant: str) -> Mapping[str, Any]:
        """See `memae.image.config.preset`."""
        return preset(network, variant)

    def settle(self, config: Config, shape: tuple[int, ...]) -> Config:
        """How images of this shape (C, H, W) are scored."""
        return settle_images(config, shape)

    def build(self, config: Config, shape: tuple[int, ...], samples: int | None = None) -> Autoencoder:
        """A fresh model for images (C, H, W)."""
        return build_images(config, shape, samples)

    def calibrate(self, artifact: Artifact, prepared: Prepared, progress: Progress | None) -> Artifact:
        """With use counts, mean training error, threshold and the scale of maps."""
        return prediction.calibrate(artifact, prepared, progress)

    def load_preprocess(self, stored: Any) -> ImagePreprocess:
        """The scaling of pixels."""
        return ImagePreprocess.model_validate(stored)

    def unreadable_format(self, version: int, config: Config, shape: tuple[int, ...]) -> str | None:
        """Before format 8 the network for larger images was another one."""
        wider = version < 8 and config.network == "scene" and max(shape[1:]) > SMALL_PX
        return "whose network 'scene' was wider" if wider else None

    def load_reference(self, tensors: Mapping[str, Tensor], config: Config) -> ImageReference:
        """Maxima of anomaly maps, and the mean training error."""
        return ImageReference.load(tensors, ImageConfig.of(config))

    def predict(
        self, artifact: Artifact, source: Any, request: Request, done: Done, progress: Progress | None
    ) -> Iterator[Prediction]:
        """Image by image, or tile by tile."""
        return prediction.predict(artifact, source, request, done, progress)

    def decode_items(self, artifact: Artifact) -> tuple[np.ndarray, None]:
        """(N, C, H, W)."""
        model = artifact.model
        return model.decoder(model.items_alone(artifact.preprocess.shape)).cpu().numpy(), None

    def describe(self, artifact: Artifact) -> Description:
        """Size and scale."""
        preprocess = artifact.preprocess
        size = f"{preprocess.channels} x {preprocess.height} x {preprocess.width}"
        return Description(f"images of {size} (channels, height, width), scale {preprocess.scale}")

    def original(self, source: Any, key: Key) -> np.ndarray | None:
        """The image at its own size, where it lies in a file."""
        return source.original(key) if isinstance(source, ImageSource) else None

    def map_threshold(self, artifact: Artifact) -> float:
        """The quantile of the maxima over held-out normal images."""
        return map_threshold(artifact)

    def evaluate(
        self, detector: Any, source: Any, options: Mapping[str, Any], progress: Progress | None
    ) -> Judged:
        """By labels, and by masks where there are any."""
        return evaluate_images(detector, source, options, progress)


def _means_images(path: Path) -> bool:
    return path.name.lower().endswith((*IMAGE_SUFFIXES, LIST_SUFFIX)) or is_pattern(path) or path.is_dir()


def _open_files(paths: list[Path], preprocess: ImagePreprocess | None) -> ImageSource:
    layout = find_mvtec(paths[0]) if len(paths) == 1 else None
    if preprocess is None:
        if layout:
            remark = f"{paths[0]} has the layout of MVTec AD: {layout.train} is what trains"
            return ImageSource([layout.train], remark=remark)
        return ImageSource(paths)
    paths = [layout.test] if layout else paths
    if preprocess.overlap is not None:
        return ImageSource(paths, channels=preprocess.channels, own_size=True)
    return ImageSource(paths, channels=preprocess.channels, size=(preprocess.height, preprocess.width))


MODALITY = ImageModality()
