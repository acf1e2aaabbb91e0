"""A fitted detector on video: rows of frames, events and overlays in one pass, or an evaluation against labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from memae.counts import count
from memae.detector import Detector, Verdicts
from memae.errors import DataError
from memae.progress import Progress, stage
from memae.report.rows import write_verdicts
from memae.types import FrameKey, Skipped
from memae.video.evaluate import VideoEvaluation
from memae.video.events import Event, EventRule
from memae.video.labels import evaluate_frames, read_labels
from memae.video.outputs import Outputs
from memae.video.pipeline import MapLevels, video_writers
from memae.video.regions import watched_pixels
from memae.video.source import VideoSource

__all__ = ["Outputs", "ScoredVideos", "evaluate_videos", "score_videos"]

ROWS = 256  # frames written at a time


@dataclass(frozen=True)
class ScoredVideos:
    """What a pass over videos found."""

    frames: int
    anomalous_frames: int
    events: list[Event]
    skipped: tuple[Skipped, ...]
    """Videos that could not be read, or not to their end; only a source that was asked to skip has them."""


def score_videos(
    detector: Detector,
    x: Any,
    rule: EventRule,
    outputs: Outputs,
    *,
    mask: Path | None = None,
    progress: Progress | None = None,
) -> ScoredVideos:
    """Scores videos once and writes all that is wanted of them; each file appears when it is complete.

    Where there is no room for an overlay, or for stills and clips, all the rest is written before that is raised.

    Args:
        detector: a model of video.
        x: videos, or a source of them.
        rule: when frames make an event.
        outputs: where to.
        mask: an image or a JSON file of polygons that takes places out of every score; see `memae.video.regions`.
        progress: told how far the work is.

    Raises:
        DataError: a video or mask that cannot be used.
        ConfigError: an output that cannot hold what is wanted.
        WriteError: an output that cannot be written.
        MissingExtraError: PyAV is not installed.
    """
    source = _videos(detector, x)
    watched = watched_pixels(mask, source.sizes.values(), *source.size) if mask else None
    levels = MapLevels(detector.map_level(rule.on_threshold), detector.map_level(rule.ends_below))
    with (
        stage(progress, "scoring", "frames", count(source)) as done,
        video_writers(source, rule, levels, outputs) as writers,
    ):

        def rows() -> Iterator[tuple[FrameKey, float]]:
            for frame in detector.watch(writers.source, watched=watched):
                writers.add(frame)
                done(1, frame.key)
                yield frame.key, frame.score  # a frame itself holds its clip and its picture

        parts = _verdicts(detector, rows())
        if outputs.frames or outputs.rows_to_stdout:
            total, flagged = write_verdicts(parts, outputs.frames)
        else:
            sizes = [(len(part), int(part.is_anomaly.sum())) for part in parts]
            total, flagged = (sum(column) for column in zip(*sizes, strict=True))
    return ScoredVideos(total, flagged, writers.events, source.skipped)


def evaluate_videos(
    detector: Detector,
    x: Any,
    labels: Path,
    rule: EventRule,
    *,
    mask: Path | None = None,
    progress: Progress | None = None,
) -> VideoEvaluation:
    """Scores of videos held against labels; see `memae.video.evaluate`.

    Args:
        detector: a model of video.
        x: videos, or a source of them.
        labels: a CSV file or a folder of masks.
        rule: when frames make an event.
        mask: as for `score_videos`.
        progress: told how far the work is.

    Raises:
        DataError: a video, mask or labels that cannot be used.
    """
    source = _videos(detector, x)
    watched = watched_pixels(mask, source.sizes.values(), *source.size) if mask else None
    truth = read_labels(labels, source, progress)
    # what half of the normal frames reach somewhere: lower, and all places run together
    level = detector.map_level(float(np.median(detector.threshold.calibration)))
    with stage(progress, "scoring", "frames", count(source)) as done:
        frames = detector.watch(source, watched=watched)
        meter = evaluate_frames(frames, source, truth, rule, level, done)
    with stage(progress, "figures and intervals", "figures"):
        return meter.result()


def _verdicts(detector: Detector, rows: Iterator[tuple[FrameKey, float]]) -> Iterator[Verdicts]:
    threshold = detector.threshold
    while part := list(islice(rows, ROWS)):
        keys, scores = [key for key, _ in part], np.array([score for _, score in part])
        yield Verdicts(keys, scores, threshold.p_values(scores), threshold.flags(scores), threshold.value)


def _videos(detector: Detector, x: Any) -> VideoSource:
    source = detector.open(x)
    if not isinstance(source, VideoSource):
        raise DataError(f"{source.origin}: this is no video; take score without the options for video")
    return source
