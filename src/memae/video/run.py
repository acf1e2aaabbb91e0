"""A fitted detector on video: rows of frames, events and overlays in one pass, or an evaluation against labels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from memae.errors import ConfigError, DataError, MemaeError
from memae.modality import Judged, Summary, WriteRows
from memae.progress import Progress, stage
from memae.threshold import Threshold
from memae.types import Skipped, Verdicts, count
from memae.video.evaluate import VideoEvaluation
from memae.video.events import Event, EventRule, EventThreshold
from memae.video.frames import FrameKey
from memae.video.labels import evaluate_frames, read_labels
from memae.video.outputs import Outputs
from memae.video.pipeline import MapLevels, video_writers
from memae.video.regions import watched_pixels
from memae.video.scoring import ScoredFrame
from memae.video.source import VideoSource

__all__ = [
    "Outputs",
    "ScoredVideos",
    "bad_videos",
    "default_events",
    "evaluate",
    "evaluate_videos",
    "event_rule",
    "score_files",
    "score_videos",
]

ROWS = 256  # frames written at a time
FALSE_ALARMS_PER_HOUR = 1.0  # where nobody names a rate
TIMES = ("least_s", "merge_gap_s", "cool_down_s")
SHOWN_SKIPPED = 5


class VideoDetector(Protocol):
    """What a run needs of a detector: `memae.Detector` with a model of video."""

    @property
    def threshold(self) -> Threshold: ...

    def open(self, x: Any, *, skip_bad: bool = False) -> Any: ...

    def watch(self, x: Any, *, watched: np.ndarray | None = None) -> Iterator[ScoredFrame]: ...

    def map_level(self, score: float) -> float: ...


@dataclass(frozen=True)
class ScoredVideos:
    """What a pass over videos found."""

    frames: int
    anomalous_frames: int
    events: list[Event]
    skipped: tuple[Skipped, ...]
    """Videos that could not be read, or not to their end; only a source that was asked to skip has them."""


def score_videos(
    detector: VideoDetector,
    x: Any,
    rule: EventRule,
    outputs: Outputs,
    write: WriteRows,
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
        write: writes the rows of the frames, where these are wanted.
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
            total, flagged = write(parts)
        else:
            sizes = [(len(part), int(part.is_anomaly.sum())) for part in parts]
            total, flagged = (sum(column) for column in zip(*sizes, strict=True))
    return ScoredVideos(total, flagged, writers.events, source.skipped)


def evaluate_videos(
    detector: VideoDetector,
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


def _verdicts(detector: VideoDetector, rows: Iterator[tuple[FrameKey, float]]) -> Iterator[Verdicts]:
    threshold = detector.threshold
    while part := list(islice(rows, ROWS)):
        keys, scores = [key for key, _ in part], np.array([score for _, score in part])
        yield Verdicts(keys, scores, threshold.p_values(scores), threshold.flags(scores), threshold.value)


def _videos(detector: VideoDetector, x: Any) -> VideoSource:
    source = detector.open(x)
    if not isinstance(source, VideoSource):
        raise DataError(f"{source.origin}: this is no video; take score without the options for video")
    return source


def event_rule(detector: Any, options: Mapping[str, Any]) -> tuple[EventRule, str | None]:
    """The rule of events behind options, and what must be said about its threshold.

    Args:
        detector: a model of video.
        options: `on_threshold` or `false_alarms_per_hour`, `off_threshold`, `least_s`, `merge_gap_s`, `cool_down_s`.

    Raises:
        ConfigError: a value out of range, or a score and a rate.
        MemaeError: no score is given, and the model knows no normal video to find one from.
    """
    times = {name: options[name] for name in TIMES if name in options}
    on, off, rate = (options.get(name) for name in ("on_threshold", "off_threshold", "false_alarms_per_hour"))
    if on is not None and rate is not None:
        raise ConfigError(
            "`on_threshold` and `false_alarms_per_hour` both set the score that begins an event; give one of them"
        )
    if on is not None:
        return EventRule(on, off, **times), None
    rate = FALSE_ALARMS_PER_HOUR if rate is None else rate
    if not rate > 0:
        raise ConfigError(f"`false_alarms_per_hour` {rate:g}: give a rate above 0")
    found: EventThreshold = detector.event_threshold(rate, lambda score: EventRule(score, **times))
    return EventRule(found.on_threshold, found.off_threshold if off is None else off, **times), found.caveat


def default_events(detector: Any) -> tuple[str, Mapping[str, Any]] | None:
    """When events begin where nobody says, in a line and as figures; None without held-out video."""
    try:
        found: EventThreshold = detector.event_threshold(FALSE_ALARMS_PER_HOUR)
    except MemaeError:
        return None
    minutes = f"{60 * found.normal_hours:.3g} minutes of held-out normal video"
    rate = f"{FALSE_ALARMS_PER_HOUR:g} false alarm an hour"
    line = f"from score {found.on_threshold:.4g} on, for at most {rate}, from {minutes}"
    if found.caveat:
        line = f"from score {found.on_threshold:.4g} on, just above all of {minutes}: too short to promise {rate}"
    return line, found.figures()


def bad_videos(count: int, first: Sequence[Skipped]) -> list[str]:
    """Lines on how many videos were bad, and what became of the first of them."""
    lines = [f"{count:,} bad video{'s' * (count != 1)}:"]
    lines += [f"  {video}: {reason}" for video, reason in first[:SHOWN_SKIPPED]]
    return lines + [f"  and {count - SHOWN_SKIPPED:,} more"] * (count > SHOWN_SKIPPED)


def score_files(
    detector: Any, source: Any, options: Mapping[str, Any], write: WriteRows, progress: Progress | None
) -> Summary:
    """One run of scoring; see `memae.modality.Modality.score_files`."""
    rule, caveat = event_rule(detector, options)
    out, events, overlay = (options.get(name) for name in ("out", "events", "overlay"))
    around = {name: options[name] for name in ("before_s", "after_s") if name in options}
    for name, seconds in around.items():
        if not (math.isfinite(seconds) and seconds >= 0):
            raise ConfigError(f"`{name}` {seconds:g}: give seconds, 0 or more")
    outputs = Outputs(out, events, overlay, **around, rows_to_stdout=not (out or events or overlay))
    found = score_videos(detector, source, rule, outputs, write, mask=options.get("mask"), progress=progress)
    count = f"{len(found.events)} event{'s' * (len(found.events) != 1)}"
    lines = [
        f"{found.frames:,} frames, {found.anomalous_frames:,} ({found.anomalous_frames / found.frames:.2%}) above "
        f"score {detector.threshold.value:.4g}; {count} from score {rule.on_threshold:.4g} on"
        + "".join(f"; {path}" for path in (out, events, overlay) if path)
    ]
    if caveat:
        lines.append(f"note: {caveat}")
    if found.skipped:
        lines += bad_videos(len(found.skipped), found.skipped)
    files = {"out": out, "event_file": events, "overlay": overlay}
    return Summary(
        lines,
        {
            "frames": found.frames,
            "anomalous_frames": found.anomalous_frames,
            "events": len(found.events),
            "skipped": len(found.skipped),
            "threshold": detector.threshold.value,
            "on_threshold": rule.on_threshold,
            "enter": rule.on_threshold,  # its old name, until 0.2.0
            "caveat": caveat,
            **{name: str(path) for name, path in files.items() if path},
        },
    )


def evaluate(detector: Any, source: Any, options: Mapping[str, Any], progress: Progress | None) -> Judged:
    """Videos held against labels; see `memae.modality.Modality.evaluate`."""
    if options.get("labels") is None:
        raise ConfigError(
            "a model of video is compared with labels, a CSV file or a folder of masks; see docs/video.md"
        )
    if options.get("skip_bad"):
        raise ConfigError(
            "`skip_bad`: figures without some of the videos are figures of another test set; take the bad videos and "
            "their labels out of it, or mend them"
        )
    rule, caveat = event_rule(detector, options)
    mask = options.get("mask")
    result = evaluate_videos(detector, source, options["labels"], rule, mask=mask, progress=progress)
    return Judged(result, notes=[caveat] if caveat else [])
