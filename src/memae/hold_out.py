"""What of the normal samples a training sees, and what is held out from it: three disjoint parts.

One part trains, one stops early, one sets the threshold: a threshold from scores that chose the epoch would promise
too much. Rows and images are dealt in a seeded order. Frames beside each other look alike, so footage is held out in
long pieces: whole videos where there are many, else the last part of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from memae.config import Config
from memae.encoded import Encoded
from memae.errors import DataError
from memae.image.dataset import MEMORY_BYTES, StoredImages, store
from memae.image.preprocess import ImagePreprocess, TablePreprocess
from memae.image.source import ImageSource
from memae.image.tiles import OwnSizeImages, store_own_size
from memae.sources import Source, collect
from memae.stages import Watcher, stage
from memae.table.prepare import prepare as prepare_table
from memae.threshold import check_parts
from memae.training.loop import local_seed
from memae.types import Frames, Images, Samples, Skipped, Table
from memae.video.prepare import prepare as prepare_video
from memae.video.preprocess import VideoPreprocess

__all__ = ["Prepared", "prepare", "take"]

AnyPreprocess: TypeAlias = ImagePreprocess | TablePreprocess | VideoPreprocess


@dataclass(frozen=True)
class Prepared:
    """Normal samples, encoded and dealt."""

    preprocess: AnyPreprocess
    training: Encoded
    """What the loop trains on; for video crops or clips."""
    usual: Encoded
    """What the trained model is looked at with: `training`, or clips of whole frames end to end."""
    held_out: Encoded | None
    calibration: Encoded | tuple[Frames, ...] | OwnSizeImages
    """Encoded samples, footage piece by piece, or images that are cut into tiles."""
    counts: dict[str, int]
    """Samples (for video frames) of each part."""
    origin: str
    skipped: tuple[Skipped, ...] = ()
    """Bad samples that the source was asked to leave out."""
    notes: tuple[str, ...] = ()
    """What the owner of the data should know."""


def prepare(
    source: Source,
    config: Config,
    seed: int,
    dropped: Sequence[str] = (),
    categorical: Sequence[str] = (),
    *,
    stream: bool | None = None,
    watcher: Watcher | None = None,
) -> Prepared:
    """All samples of a source, dealt by the shares of `config`, with the preprocessing fitted on the training part.

    Rows of a table are held in memory, or encoded into a file in three passes over the source: with `stream`, or, where
    that is None, if they are many for this machine. The parts are the same rows either way. `watcher` is told how far
    the reading and encoding are.

    Raises:
        DataError: samples that cannot be used, or too few.
        ConfigError: a false-alarm rate that so few samples cannot promise.
    """
    if source.modality == "video":
        return _prepare_video(source, config, seed, watcher)
    if source.modality == "table":
        return _prepare_table(source, config, seed, dropped, categorical, stream, watcher)
    if source.modality == "image" and config.preprocess.tile:
        return _prepare_tiles(source, config, seed, watcher)
    if isinstance(source, ImageSource) and source.bytes > MEMORY_BYTES:
        return _prepare_stored(source, config, seed, watcher)
    samples, skipped = _readable(collect(source, watcher))
    assert isinstance(samples, Images)
    split = _split(len(samples), config, seed, samples.origin)
    with stage(watcher, "fitting scales", "images", len(split.train)) as done:
        preprocess = ImagePreprocess.fit(samples, config.preprocess.image_scale, split.train.numpy())
        done(len(split.train))
    with stage(watcher, "encoding", "images", len(samples)) as done:
        encoded = preprocess.encode(samples)
        done(len(samples))
    training = encoded[split.train]
    return Prepared(
        preprocess=preprocess,
        training=training,
        usual=training,
        held_out=encoded[split.held_out] if len(split.held_out) else None,
        calibration=encoded[split.calibration],
        counts=_counts(*map(len, split)),
        origin=samples.origin,
        skipped=skipped,
        notes=getattr(source, "notes", ()),
    )


def _prepare_stored(source: ImageSource, config: Config, seed: int, watcher: Watcher | None) -> Prepared:
    """As images in memory, to the bit, but encoded when they are asked for."""
    images, skipped = store(source, watcher)
    split = _split(len(images), config, seed, images.origin)
    with stage(watcher, "fitting scales", "images"):
        preprocess = ImagePreprocess.fit(images, config.preprocess.image_scale, split.train.numpy())
    training, held_out, calibration = (StoredImages(images, rows, preprocess) for rows in split)
    return Prepared(
        preprocess=preprocess,
        training=training,
        usual=training,
        held_out=held_out if len(held_out) else None,
        calibration=calibration,
        counts=_counts(*map(len, split)),
        origin=images.origin,
        skipped=skipped,
        notes=source.notes,
    )


def _prepare_tiles(source: Source, config: Config, seed: int, watcher: Watcher | None) -> Prepared:
    """Whole images are dealt, as the tiles of one look alike; those to set the threshold from stay whole."""
    tile = config.preprocess.tile
    assert tile is not None
    images, skipped = store_own_size(source, watcher)
    split = _split(len(images), config, seed, images.origin)
    sizes = np.array([pixels.shape[1:] for pixels in images.images])
    if not (sizes >= tile).any():
        height, width = sizes.max(axis=0)
        raise DataError(
            f"{images.origin}: preprocess.tile = {tile}: no image is as large as a tile; the largest sides are {width} "
            f"x {height} px (width x height). Take smaller tiles, or none"
        )
    train, held_out, calibration = (images.part(rows) for rows in split)
    preprocess = ImagePreprocess.fit_tiles(
        train.levels,
        len(images.images[0]),
        tile,
        config.preprocess.overlap,
        config.preprocess.image_scale,
        images.origin,
        deep=images.images[0].dtype != np.uint8,
    )
    generator = np.random.default_rng(local_seed(seed, 4))
    most = config.preprocess.tiles_per_image
    training = train.tiles(preprocess, most, generator)
    return Prepared(
        preprocess=preprocess,
        training=training,
        usual=training,
        held_out=held_out.tiles(preprocess, most, generator) if len(held_out) else None,
        calibration=calibration,
        counts=_counts(*map(len, split)),
        origin=images.origin,
        skipped=skipped,
        notes=getattr(source, "notes", ()),
    )


def _prepare_table(
    source: Source,
    config: Config,
    seed: int,
    dropped: Sequence[str],
    categorical: Sequence[str],
    stream: bool | None,
    watcher: Watcher | None,
) -> Prepared:
    def split(samples: int) -> _Split:
        return _split(samples, config, seed, source.origin)

    table = prepare_table(source, config, split, dropped, categorical, stream=stream, watcher=watcher)
    return Prepared(
        preprocess=table.preprocess,
        training=table.training,
        usual=table.training,
        held_out=table.validation,
        calibration=table.calibration,
        counts=table.counts,
        origin=table.origin,
        skipped=table.skipped,
        notes=table.notes,
    )


def _readable(samples: Samples) -> tuple[Samples, tuple[Skipped, ...]]:
    """The samples without those that could not be read, and these."""
    if isinstance(samples, Frames) or not samples.unreadable:
        return samples, ()
    good = np.ones(len(samples), dtype=bool)
    good[list(samples.unreadable)] = False
    skipped = tuple(Skipped(samples.keys[row], why) for row, why in samples.unreadable.items())
    if not good.any():
        raise DataError(f"{samples.origin}: holds no sample that can be read; the first {skipped[0].reason}")
    return take(samples, torch.from_numpy(np.flatnonzero(good))), skipped


def take(samples: Samples, index: Tensor) -> Samples:
    """The images or rows of an index (B,)."""
    rows = index.numpy()
    keys: list[Any] = [samples.keys[row] for row in rows]
    if isinstance(samples, Frames):
        return Frames(samples.pixels[rows], keys, samples.origin)
    bad = samples.unreadable
    unreadable = {place: bad[row] for place, row in enumerate(rows.tolist()) if row in bad} if bad else {}
    if isinstance(samples, Images):
        return Images(samples.pixels[rows], keys, samples.origin, unreadable)
    return Table(samples.columns.take(rows), keys, samples.origin, unreadable)


def _prepare_video(source: Source, config: Config, seed: int, watcher: Watcher | None) -> Prepared:
    video = prepare_video(source, config, seed, watcher)
    return Prepared(
        preprocess=video.preprocess,
        training=video.training,
        usual=video.whole,
        held_out=video.validation,
        calibration=video.calibration,
        counts=video.counts,
        origin=video.origin,
        skipped=video.skipped,
    )


def _counts(training: int, held_out: int, calibration: int) -> dict[str, int]:
    return {"training": training, "held_out": held_out, "calibration": calibration}


class _Split(NamedTuple):
    train: Tensor
    held_out: Tensor
    calibration: Tensor


def _split(samples: int, config: Config, seed: int, origin: str) -> _Split:
    """Three disjoint parts in a seeded order; fails before any training if the threshold cannot be promised."""
    calibration = round(samples * config.threshold.calibration_share)
    held_out = round(samples * config.train.validation_share)
    training = samples - calibration - held_out
    check_parts(training, held_out, calibration, config, f"{origin}: holds {samples} sample{'s' * (samples != 1)}")
    order = torch.randperm(samples, generator=torch.Generator().manual_seed(local_seed(seed, 0)))
    return _Split(*torch.split(order, [training, held_out, calibration]))
