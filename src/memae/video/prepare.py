"""Prepares normal video for training: encoded clips in three parts, or in folds for cross-fitting.

Neighbouring frames look alike, so a part is never a random choice of frames. What is dealt to the parts whole, a group,
is a video, or what `group` says of videos; where videos are few, or one is most of all, they are cut into stretches.
Between a stretch that trains and one that sets the threshold lies a gap of a clip that does neither.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from memae.config import Config
from memae.modality import Prepared
from memae.modality.groups import groups_of_files
from memae.progress import Progress, Warn, fold_name, tell, within
from memae.threshold import check_count
from memae.training.loop import local_seed
from memae.training.split import Splits, splits
from memae.video.clips import Windows
from memae.video.config import VideoConfig
from memae.video.dataset import Clips, Span, StoredFrames
from memae.video.frames import FrameReader
from memae.video.preprocess import VideoPreprocess

__all__ = ["prepare"]

MANY_VIDEOS = 10  # from here on whole videos are groups
LARGEST_SHARE = 0.25  # of all frames: of many videos a longer one is cut
STRETCHES = 500  # of fewer videos at most: a fifth of them is enough for a false-alarm rate of 0.01
FEWEST_STRETCHES = 10
STRETCH_CLIPS = 8  # in a stretch, at least, where the videos are long enough


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
    video = VideoConfig.of(config)
    preprocess = VideoPreprocess(
        clip_length=video.clip_length, height=video.height, width=video.width, input=video.input
    )
    frames = StoredFrames.read(source, progress)
    count = len(frames.keys)
    check_count(count, f"{frames.origin}: holds {count} frame{'s' * (count != 1)}")
    gap = (video.clip_length - 1) * video.dilation + 1
    stretches, notes = (frames.videos, ()) if group is not None else _stretches(frames.videos, gap)
    numbers = np.arange(len(stretches)) if group is None else _video_groups(frames, source, group)
    groups = np.repeat(numbers, [span.stop - span.start for span in stretches])
    dealt = splits(len(groups), config, seed, frames.origin, groups)
    notes = (*notes, *dealt.notes)
    for note in notes:
        tell(progress, Warn(note))

    def clips(spans: Sequence[Span], stride: int) -> Clips:
        windows = Windows(video.clip_length, min(stride, video.clip_length), video.dilation)
        return Clips(frames.pixels, torch.from_numpy(windows.training_clips(spans)), preprocess)

    def prepared(found: Splits, progress: Progress | None) -> Prepared:
        train, validation, calibration = (_spans(rows, frames.videos) for rows in found.whole)
        train, validation = (_apart(spans, frames.videos, gap) for spans in (train, validation))
        training = clips(train, video.training_stride)
        if video.crop_px:
            generator = torch.Generator().manual_seed(local_seed(seed, 3))
            training = training.crops(video.crop_px, video.crops_per_clip, generator, progress)
        whole = clips(train, video.clip_length)
        return Prepared(
            preprocess=preprocess,
            training=training,
            whole=replace(whole, segments=tuple(frames.frames(span) for span in train)),
            validation=clips(validation, video.clip_length) if validation else None,
            calibration=tuple(frames.frames(span) for span in calibration),
            counts=found.counts,
            origin=frames.origin,
            skipped=getattr(source, "skipped", ()),
            key_of=lambda clip: frames.keys[int(training.frames[clip, video.clip_length // 2])],
            whole_key_of=lambda clip: frames.keys[int(whole.frames[clip, video.clip_length // 2])],
            notes=notes,
            calibration_groups=np.concatenate([groups[slice(*span)] for span in calibration] or [groups[:0]]),
            groups=found.group_counts(groups),
            folds=tuple(
                partial(prepared, Splits(fold), within(progress, fold_name(number, len(found.folds))))
                for number, fold in enumerate(found.folds, 1)
            ),
        )

    return prepared(dealt, progress)


def _video_groups(frames: StoredFrames, source: FrameReader, group: str | Sequence[Hashable]) -> np.ndarray:
    """(V,) the number of the group of each video."""
    names = [frames.keys[span.start].video for span in frames.videos]
    paths = getattr(source, "paths", None)
    return groups_of_files(group, names, frames.origin, paths and [paths[name] for name in names])


def _stretches(videos: Sequence[Span], clip: int) -> tuple[tuple[Span, ...], tuple[str, ...]]:
    """Videos cut into equal stretches, and a note where any is cut.

    Args:
        videos: their frames.
        clip: frames that a clip spans.
    """
    total = _size(videos)
    shortest = min(STRETCH_CLIPS * clip, max(1, total // FEWEST_STRETCHES))
    many = len(videos) >= MANY_VIDEOS
    length = max(shortest, total // (MANY_VIDEOS if many else STRETCHES))
    found: list[Span] = []
    for start, stop in videos:
        whole = many and stop - start <= LARGEST_SHARE * total
        pieces = 1 if whole else max(1, round((stop - start) / length))
        cuts = np.linspace(start, stop, pieces + 1).round().astype(int).tolist()
        found += [Span(*cut) for cut in pairwise(cuts)]
    if len(found) == len(videos):
        return tuple(found), ()
    return tuple(found), (
        f"the threshold takes {len(found)} stretches of {len(videos)} video{'s' * (len(videos) != 1)} for groups, as "
        "videos are few or of very unequal length: it promises a false-alarm rate for more of the same footage, and "
        "another day or camera may differ",
    )


def _spans(rows: Tensor, videos: Sequence[Span]) -> list[Span]:
    """The frames (B,) of one part as runs within videos."""
    chosen = np.sort(rows.numpy())
    if not len(chosen):
        return []
    starts = np.array([video.start for video in videos])
    new = (np.diff(chosen) > 1) | np.isin(chosen[1:], starts)
    edges = [0, *(np.flatnonzero(new) + 1).tolist(), len(chosen)]
    return [Span(int(chosen[a]), int(chosen[b - 1]) + 1) for a, b in pairwise(edges)]


def _apart(spans: Sequence[Span], videos: Sequence[Span], gap: int) -> list[Span]:
    """Spans without the `gap` frames, or a quarter of a short span, at each end that lies within a video."""
    starts, stops = {video.start for video in videos}, {video.stop for video in videos}
    found = []
    for start, stop in spans:
        margin = min(gap, (stop - start) // 4)
        found.append(Span(start + margin * (start not in starts), stop - margin * (stop not in stops)))
    return found


def _size(spans: Sequence[Span]) -> int:
    return sum(stop - start for start, stop in spans)
