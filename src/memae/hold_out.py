"""What of the normal samples a training sees, and what is held out from it: three disjoint parts.

One part trains, one stops early, one sets the threshold: a threshold from scores that chose the epoch would promise
too much. Rows and images are dealt in a seeded order. Frames beside each other look alike, so footage is held out in
long pieces: whole videos where there are many, else the last part of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from memae.config import Config
from memae.data.encoded import Encoded
from memae.data.footage import Clips, Footage, Span
from memae.data.images import ImageSource
from memae.data.preprocess import ImagePreprocess, TablePreprocess, VideoPreprocess, fit_preprocess
from memae.data.samples import Frames, Images, Samples, Table
from memae.data.sources import Source, collect
from memae.data.stored import MEMORY_BYTES, StoredImages, store
from memae.data.windows import Windows
from memae.errors import ConfigError, DataError
from memae.threshold import reachable_rate
from memae.train import local_seed

__all__ = ["Prepared", "prepare", "take"]

MANY_VIDEOS = 10  # from here on whole videos are held out
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
    calibration: Encoded | tuple[Frames, ...]
    """Encoded samples, or footage piece by piece."""
    counts: dict[str, int]
    """Samples (for video frames) of each part."""
    origin: str


def prepare(source: Source, config: Config, seed: int, dropped: Sequence[str] = ()) -> Prepared:
    """All samples of a source, dealt by the shares of `config`, with the preprocessing fitted on the training part.

    Raises:
        DataError: samples that cannot be used, or too few.
        ConfigError: a false-alarm rate that so few samples cannot promise.
    """
    if source.modality == "video":
        return _prepare_video(source, config, seed)
    if isinstance(source, ImageSource) and source.bytes > MEMORY_BYTES:
        return _prepare_stored(store(source), config, seed)
    samples = collect(source)
    split = _split(len(samples), config, seed, samples.origin)
    train = split.train
    if config.preprocess.duplicates == "drop" and isinstance(samples, Table):
        train = train[_first_of_each_kind(samples.columns.take(train.numpy()))]
    preprocess = fit_preprocess(
        take(samples, train),
        image_scale=config.preprocess.image_scale,
        number_scale=config.preprocess.number_scale,
        dropped=tuple(dropped),
    )
    encoded = preprocess.encode(samples)
    training = encoded[train]
    return Prepared(
        preprocess=preprocess,
        training=training,
        usual=training,
        held_out=encoded[split.held_out] if len(split.held_out) else None,
        calibration=encoded[split.calibration],
        counts=_counts(len(train), len(split.held_out), len(split.calibration)),
        origin=samples.origin,
    )


def _prepare_stored(images: Images, config: Config, seed: int) -> Prepared:
    """As images in memory, to the bit, but encoded when they are asked for."""
    split = _split(len(images), config, seed, images.origin)
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
    )


def _first_of_each_kind(rows: pa.Table) -> Tensor:
    """The places of the rows that equal no row before them, in order."""
    placed = rows.append_column("", pa.array(np.arange(len(rows))))
    first = placed.group_by(rows.column_names).aggregate([("", "min")])["_min"]
    return torch.from_numpy(np.sort(first.to_numpy()))


def take(samples: Samples, index: Tensor) -> Samples:
    """The images or rows of an index (B,)."""
    rows = index.numpy()
    keys: list[Any] = [samples.keys[row] for row in rows]
    if isinstance(samples, Images):
        return Images(samples.pixels[rows], keys, samples.origin)
    if isinstance(samples, Table):
        return Table(samples.columns.take(rows), keys, samples.origin)
    return Frames(samples.pixels[rows], keys, samples.origin)


def _prepare_video(source: Source, config: Config, seed: int) -> Prepared:
    video = config.video
    preprocess = VideoPreprocess(
        clip_length=video.clip_length, height=video.height, width=video.width, input=video.input
    )
    footage = Footage.read(source)
    train, held_out, calibration = _split_footage(footage, config, seed)

    def clips(spans: Sequence[Span], stride: int) -> Clips:
        windows = Windows(video.clip_length, min(stride, video.clip_length), video.dilation)
        return Clips(footage.pixels, torch.from_numpy(windows.training_clips(spans)), preprocess)

    training = clips(train, video.training_stride)
    if video.crop_px:
        generator = torch.Generator().manual_seed(local_seed(seed, 3))
        training = training.crops(video.crop_px, video.crops_per_clip, generator)
    return Prepared(
        preprocess=preprocess,
        training=training,
        usual=clips(train, video.clip_length),
        held_out=clips(held_out, video.clip_length) if held_out else None,
        calibration=tuple(footage.frames(span) for span in calibration),
        counts=_counts(_frames(train), _frames(held_out), _frames(calibration)),
        origin=footage.origin,
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
    _check_parts(
        training, held_out, calibration, config, f"{origin}: holds {samples} sample{'s' * (samples != 1)}"
    )
    order = torch.randperm(samples, generator=torch.Generator().manual_seed(local_seed(seed, 0)))
    return _Split(*torch.split(order, [training, held_out, calibration]))


def _check_parts(training: int, held_out: int, calibration: int, config: Config, what: str) -> None:
    share, wanted = config.threshold.calibration_share, config.threshold.false_alarm_rate
    least_held_out = bool(config.train.patience)
    if least_held_out and not config.train.validation_share:
        raise ConfigError(
            "train.patience needs held-out samples: raise train.validation_share, or set train.patience=0"
        )
    if training < 2 or (share and not calibration) or held_out < least_held_out:
        raise DataError(
            f"{what}, too few to train on, stop early on and set a threshold on; give at least 20, better 200 "
            "normal ones"
        )
    if calibration:
        reachable_rate(calibration, wanted)
    elif wanted is not None:
        raise ConfigError(
            f"threshold.false_alarm_rate = {wanted:g} needs held-out samples: raise "
            "threshold.calibration_share above 0"
        )


def _split_footage(footage: Footage, config: Config, seed: int) -> tuple[list[Span], list[Span], list[Span]]:
    """Spans to train on, to hold out, and to calibrate on."""
    videos, shares = footage.videos, (config.train.validation_share, config.threshold.calibration_share)
    parts = _whole_videos(videos, shares, seed) if len(videos) >= MANY_VIDEOS else _tails(videos, shares)
    if any(share and not part for share, part in zip(shares, parts[1:], strict=True)):
        parts = _tails(videos, shares)  # one video is most of the footage
    frames = len(footage.keys)
    sizes = (_frames(parts[0]), _frames(parts[1]), _frames(parts[2]))
    _check_parts(*sizes, config, f"{footage.origin}: holds {frames} frame{'s' * (frames != 1)}")
    return parts


_Parts: TypeAlias = tuple[list[Span], list[Span], list[Span]]


def _whole_videos(videos: Sequence[Span], shares: tuple[float, float], seed: int) -> _Parts:
    parts: _Parts = ([], [], [])
    wanted = [share * _frames(videos) for share in shares]
    for number in np.random.default_rng(local_seed(seed, 0)).permutation(len(videos)).tolist():
        # each part takes whole videos until it is nearest to its share; the rest trains
        size = videos[number].stop - videos[number].start
        part = next((p for p in (0, 1) if wanted[p] > size / 2), None)
        if part is None:
            parts[0].append(videos[number])
        else:
            wanted[part] -= size
            parts[part + 1].append(videos[number])
    return sorted(parts[0]), sorted(parts[1]), sorted(parts[2])


def _tails(videos: Sequence[Span], shares: tuple[float, float]) -> _Parts:
    parts: _Parts = ([], [], [])
    for start, stop in videos:
        held, calibration = (round(share * (stop - start)) for share in shares)
        cuts = [start, stop - held - calibration, stop - calibration, stop]
        for part, here in enumerate(pairwise(cuts)):
            if here[1] > here[0]:
                parts[part].append(Span(*here))
    return parts


def _frames(spans: Sequence[Span]) -> int:
    return sum(stop - start for start, stop in spans)
