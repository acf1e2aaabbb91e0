"""Scored frames held against labels: what `memae.video.evaluate` counts, frame by frame as they come."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from memae.errors import DataError
from memae.progress import Done, Progress, stage
from memae.types import count
from memae.video.evaluate import VideoMeter
from memae.video.events import EventRule
from memae.video.ground_truth import VideoTruth, read_truth
from memae.video.regions import find_regions
from memae.video.scoring import ScoredFrame
from memae.video.source import VideoSource

__all__ = ["evaluate_frames", "read_labels"]

COUNTED = 512  # frames counted at a time


def read_labels(labels: Path, source: VideoSource, progress: Progress | None = None) -> VideoTruth:
    """The labels of videos, with masks in px of the videos.

    Args:
        labels: a CSV file or a folder of masks.
        source: the videos, whose frames are counted first, which takes time.
        progress: told how far the counting is.

    Raises:
        DataError: labels that are missing, or do not fit the videos.
    """
    if not labels.exists():  # said at once, before the frames are counted
        raise DataError(f"{labels}: no such file or folder of labels; check the path")
    truth = read_truth(labels, _lengths(source, progress))
    for video, masks in truth.masks.items():
        size, own = source.sizes[video], masks.read(0).shape
        if own != size:
            raise DataError(
                f"{labels}: the masks of video {video!r} are {own[1]} x {own[0]} px, and the video is {size[1]} x "
                f"{size[0]} (width x height); bring them to the size of the video"
            )
    return truth


def evaluate_frames(
    frames: Iterable[ScoredFrame],
    source: VideoSource,
    truth: VideoTruth,
    rule: EventRule,
    level: float,
    done: Done,
) -> VideoMeter:
    """Counts scored frames, their regions and their events against the labels.

    Args:
        frames: of the source, in order.
        source: of the frames.
        truth: their labels.
        rule: when frames make an event.
        level: of the anomaly maps, above which there is a region.
        done: told of each frame.
    """
    meter = VideoMeter(truth, rule=rule)
    for frame in frames:
        found = find_regions(frame.anomaly_map, level, *source.sizes[frame.key.video])
        meter.add(frame.key, frame.score, frame.anomaly_map, [(*region.box, region.peak) for region in found])
        done(1, frame.key)
    return meter


def _lengths(source: VideoSource, progress: Progress | None) -> dict[str, int]:
    """Frames of each video, by decoding it small: no container tells for sure."""
    lengths = dict.fromkeys(source.videos, 0)
    with stage(progress, "counting frames", "frames", count(source)) as done:
        for chunk in source.resized(8, 8).chunks(COUNTED):
            lengths[chunk.keys[0].video] += len(chunk)
            done(len(chunk), chunk.keys[-1])
    return lengths
