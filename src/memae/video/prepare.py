"""Prepares normal video for training: encoded clips in three parts.

Neighbouring frames look alike, so a part is never a random choice of frames: with at least ten videos it is whole
videos, else the last segment of each.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import torch

from memae.config import Config
from memae.errors import ConfigError
from memae.modality import Prepared
from memae.progress import Progress
from memae.threshold import check_parts
from memae.training.loop import local_seed
from memae.training.split import counted
from memae.video.clips import Windows
from memae.video.config import VideoConfig
from memae.video.dataset import Clips, Span, StoredFrames
from memae.video.frames import FrameReader
from memae.video.preprocess import VideoPreprocess

__all__ = ["prepare"]

MANY_VIDEOS = 10  # from here on whole videos are held out


def prepare(
    source: FrameReader,
    config: Config,
    seed: int,
    progress: Progress | None = None,
    group: str | Sequence[Hashable] | None = None,
) -> Prepared:
    """All frames of a source, at the size of the network, in parts of the shares that `config` names.

    `group` is `memae.modality.FitOptions.group`, of videos.

    Raises:
        DataError: frames that cannot be used, or too few.
        ConfigError: a false-alarm rate that so few frames cannot promise.
    """
    if group is not None:
        raise ConfigError(f"{source.origin}: `group` is for images and tables as yet; leave it out")
    video = VideoConfig.of(config)
    preprocess = VideoPreprocess(
        clip_length=video.clip_length, height=video.height, width=video.width, input=video.input
    )
    frames = StoredFrames.read(source, progress)
    train, validation, calibration = _split(frames, config, seed)

    def clips(spans: Sequence[Span], stride: int) -> Clips:
        windows = Windows(video.clip_length, min(stride, video.clip_length), video.dilation)
        return Clips(frames.pixels, torch.from_numpy(windows.training_clips(spans)), preprocess)

    training = clips(train, video.training_stride)
    if video.crop_px:
        generator = torch.Generator().manual_seed(local_seed(seed, 3))
        training = training.crops(video.crop_px, video.crops_per_clip, generator, progress)
    return Prepared(
        preprocess=preprocess,
        training=training,
        whole=replace(clips(train, video.clip_length), segments=tuple(frames.frames(span) for span in train)),
        validation=clips(validation, video.clip_length) if validation else None,
        calibration=tuple(frames.frames(span) for span in calibration),
        counts=counted(*map(_size, (train, validation, calibration))),
        origin=frames.origin,
        skipped=getattr(source, "skipped", ()),
        key_of=lambda clip: frames.keys[int(training.frames[clip, video.clip_length // 2])],
    )


_Parts: TypeAlias = tuple[list[Span], list[Span], list[Span]]


def _split(frames: StoredFrames, config: Config, seed: int) -> _Parts:
    """Spans for training, validation and calibration."""
    videos, shares = frames.videos, (config.train.validation_share, config.threshold.calibration_share)
    parts = _whole_videos(videos, shares, seed) if len(videos) >= MANY_VIDEOS else _last_segments(videos, shares)
    if any(share and not part for share, part in zip(shares, parts[1:], strict=True)):
        parts = _last_segments(videos, shares)  # one video is most of all frames
    count = len(frames.keys)
    training, validation, calibration = map(_size, parts)
    what = f"{frames.origin}: holds {count} frame{'s' * (count != 1)}"
    check_parts(training, validation, calibration, config, what)
    return parts


def _whole_videos(videos: Sequence[Span], shares: tuple[float, float], seed: int) -> _Parts:
    parts: _Parts = ([], [], [])
    wanted = [share * _size(videos) for share in shares]
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


def _last_segments(videos: Sequence[Span], shares: tuple[float, float]) -> _Parts:
    parts: _Parts = ([], [], [])
    for start, stop in videos:
        validation, calibration = (round(share * (stop - start)) for share in shares)
        cuts = [start, stop - validation - calibration, stop - calibration, stop]
        for part, here in enumerate(pairwise(cuts)):
            if here[1] > here[0]:
                parts[part].append(Span(*here))
    return parts


def _size(spans: Sequence[Span]) -> int:
    return sum(stop - start for start, stop in spans)
