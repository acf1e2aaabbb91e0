"""Prepares normal images for training: three parts, encoded by the preprocessing fitted to the training part.

Images that fit into memory are encoded at once; others lie in a temporary file and are encoded batch by batch, to the
same bits; with `image.tile_px` they are cut into tiles at their own size. Whole images are split, as the tiles of one
look alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from memae.categories import GivenCategories, one_for_each
from memae.config import Config
from memae.errors import ConfigError, DataError
from memae.image.arrays import Images
from memae.image.config import ImageConfig, StoredBackbone
from memae.image.dataset import MEMORY_BYTES, StoredImages, collect, store
from memae.image.decisions import fitted
from memae.image.extent import Extent
from memae.image.near_duplicates import near_duplicate_note
from memae.image.onnx_backbone import stored_backbone
from memae.image.preprocess import ImagePreprocess
from memae.image.source import ImageSource
from memae.image.tiles import OwnSizeImages, Tiles, store_own_size
from memae.modality import FitOptions, Prepared
from memae.modality.groups import groups_of_files
from memae.progress import Progress, Warn, fold_name, stage, tell, within
from memae.training.loop import local_seed
from memae.training.split import Split, Splits, splits
from memae.types import EVERYTHING, Encoded, Key, Skipped, readable

__all__ = ["prepare"]


def prepare(source: Any, config: Config, seed: int, options: FitOptions, progress: Progress | None) -> Prepared:
    """All images of a source in three parts; see `memae.modality.Modality.prepare`."""
    if options.categorical:
        raise DataError(f"{source.origin}: images have no column {options.categorical[0]!r}")
    settings = ImageConfig.of(config)
    _check_network(config)
    if isinstance(source, ImageSource):
        source = (
            source.own_size()
            if settings.tile_px
            else source.sized(settings.size_px, keep_aspect=settings.keep_aspect)
        )
        for note in source.notes:
            tell(progress, Warn(note))  # such as another size: before a long training, and not behind it alone
    groups = None if options.group is None else _groups(source, options.group)
    if options.category is not None and settings.tile_px:
        raise ConfigError(
            f"{source.origin}: `category` needs whole images, and image.tile_px cuts them; leave the tiles out, or "
            "train one model for each category"
        )
    on_disk = isinstance(source, ImageSource) and not settings.tile_px and source.bytes > MEMORY_BYTES
    images: Any
    if settings.tile_px:
        images, skipped = store_own_size(source, progress)
    elif on_disk:
        images, skipped = store(source, progress)
    else:
        images, skipped = readable(collect(source, progress))
    groups = groups if groups is None else groups[_kept(source, skipped, len(groups))]
    categories = None if options.category is None else _categories(source, options.category, skipped)
    dealt = splits(len(images), config, seed, images.origin, groups)
    alike = near_duplicate_note(images, dealt, progress, grouped=groups is not None)
    dealt = replace(dealt, notes=(*dealt.notes, *((alike,) if alike else ())))
    for note in dealt.notes:
        tell(progress, Warn(note))

    def prepared(found: Splits, progress: Progress | None) -> Prepared:
        if settings.tile_px:
            smooth_px = settings.smooth_px or 0.0
            preprocess, encoded = _tiles(images, found.whole, settings, seed)
        else:
            preprocess, smooth_px, encoded = _whole_images(images, found.whole, settings, on_disk, progress)
        training, validation, calibration = encoded
        if isinstance(source, ImageSource):
            seen = preprocess.height, preprocess.width
            extent = Extent.of(source.sizes, seen, preprocess.fit_of_images)
            preprocess = preprocess.model_copy(update={"extent": extent})
        return Prepared(
            preprocess=preprocess,
            decided={
                "scale": preprocess.scale,
                "smooth_px": smooth_px,
                "keep_aspect": preprocess.keep_aspect,
                "backbone": _backbone(settings, preprocess),
            },
            training=training,
            whole=training,
            validation=validation,
            calibration=calibration,
            counts=found.counts,
            origin=images.origin,
            skipped=skipped,
            notes=(*getattr(source, "notes", ()), *found.notes),
            key_of=_key_of(images, training, found.whole.train),
            calibration_groups=None if groups is None else groups[found.whole.calibration.numpy()],
            groups=found.group_counts(groups),
            categories=categories and categories.take(found.whole.train.numpy()),
            calibration_categories=categories and categories.numbers[found.whole.calibration.numpy()],
            folds=tuple(
                partial(prepared, Splits(fold), within(progress, fold_name(number, len(found.folds))))
                for number, fold in enumerate(found.folds, 1)
            ),
        )

    return prepared(dealt, progress)


def _backbone(settings: ImageConfig, preprocess: ImagePreprocess) -> StoredBackbone | None:
    """The ONNX file that the settings name, as the model keeps it."""
    if settings.backbone is None:
        return None
    named = settings.backbone if isinstance(settings.backbone, str) else settings.backbone.path
    return stored_backbone(named, settings.backbone_outputs or (), preprocess.shape)


def _check_network(config: Config) -> None:
    settings = ImageConfig.of(config)
    if settings.backbone is not None and config.network != "features":
        raise ConfigError(
            f"image.backbone: the network {config.network!r} learns its own features; leave backbone out, or take the "
            "network 'features'"
        )
    if settings.keep_aspect and config.network != "features":
        raise ConfigError(
            f"image.keep_aspect = true: the network {config.network!r} learns to rebuild all of a size; leave "
            "keep_aspect out, or take the network 'features'"
        )


def _key_of(images: Any, training: Encoded, train: Tensor) -> Callable[[int], Key]:
    """From the number of a training sample, an image or a tile of one, to the key of the image."""
    numbers = train[torch.from_numpy(training.places[:, 0])] if isinstance(training, Tiles) else train
    return lambda place: images.keys[int(numbers[place])]


def _groups(source: Any, group: Any) -> np.ndarray:
    """The groups of all images, also of those that cannot be read."""
    paths = source.paths if isinstance(source, ImageSource) else None
    return groups_of_files(group, _names(source), source.origin, paths)


def _names(source: Any) -> Sequence[Key]:
    """(S,) the keys of all images."""
    if isinstance(source, ImageSource):
        return source.keys
    return [key for part in source.chunks(EVERYTHING) for key in part.keys]


def _categories(source: Any, category: Any, skipped: Sequence[Skipped]) -> GivenCategories:
    """Those of all images that could be read."""
    names = _names(source)
    if not isinstance(category, str):
        category = one_for_each(category, len(names), source.origin)
    kept = np.flatnonzero(_kept(source, skipped, len(names)))
    chosen = category if isinstance(category, str) else category[kept]
    return GivenCategories.of_files(chosen, [names[row] for row in kept.tolist()], source.origin)


def _kept(source: Any, skipped: Sequence[Skipped], images: int) -> np.ndarray:
    """(S,) bool: the images that could be read."""
    if not skipped:
        return np.ones(images, dtype=bool)
    bad = {one.key for one in skipped}
    return np.array([key not in bad for key in source.keys])


_Parts: TypeAlias = tuple[Encoded, Encoded | None, Any]
"""Encoded images to train on, to stop early on where there are any, and to set the threshold on."""


def _whole_images(
    images: Images, parts: Split, settings: ImageConfig, on_disk: bool, progress: Progress | None
) -> tuple[ImagePreprocess, float, _Parts]:
    with stage(progress, "fitting scales", "images", len(parts.train)) as done:
        preprocess, smooth_px = fitted(images, settings.scale, settings.smooth_px, parts.train.numpy())
        preprocess = preprocess.model_copy(update={"keep_aspect": images.sizes is not None})
        done(len(parts.train))
    if on_disk:
        train, validation, calibration = (StoredImages(images, rows, preprocess) for rows in parts)
        return preprocess, smooth_px, (train, validation if len(validation) else None, calibration)
    with stage(progress, "encoding", "images", len(images)) as done:
        x = preprocess.encode(images)
        done(len(images))
    return (
        preprocess,
        smooth_px,
        (
            x[parts.train],
            x[parts.validation] if len(parts.validation) else None,
            x[parts.calibration],
        ),
    )


def _tiles(
    images: OwnSizeImages, parts: Split, settings: ImageConfig, seed: int
) -> tuple[ImagePreprocess, _Parts]:
    assert settings.tile_px is not None
    sizes = np.array([pixels.shape[1:] for pixels in images.images])
    if not (sizes >= settings.tile_px).any():
        height, width = sizes.max(axis=0)
        raise DataError(
            f"{images.origin}: image.tile_px = {settings.tile_px}: no image is as large as a tile; the largest sides "
            f"are {width} x {height} px (width x height). Take smaller tiles, or none"
        )
    train, validation, calibration = (images.part(rows) for rows in parts)
    preprocess = ImagePreprocess.fit_tiles(
        train.levels,
        len(images.images[0]),
        settings.tile_px,
        settings.overlap_px,
        settings.scale or "unit",
        images.origin,
        deep=images.images[0].dtype != np.uint8,
    )
    generator = np.random.default_rng(local_seed(seed, 4))
    training = train.tiles(preprocess, settings.tiles_per_image, generator)
    held_out = validation.tiles(preprocess, settings.tiles_per_image, generator) if len(validation) else None
    return preprocess, (training, held_out, calibration)  # the last as whole images, as they will be scored
