"""Video: files and folders of frames in, scores of frames and events out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memae.config import Config
from memae.errors import ConfigError, DataError, MemaeError
from memae.modality import (
    Artifact,
    Description,
    FitOptions,
    Judged,
    Modality,
    Prepared,
    Summary,
    WriteRows,
)
from memae.modality.interface import SHOWN_SKIPPED
from memae.progress import Progress, Warn, tell
from memae.types import Skipped, Source
from memae.video.build import build
from memae.video.config import NETWORKS, PRESETS, VideoConfig, preset
from memae.video.evaluate import judge_videos
from memae.video.events import EventRule, EventThreshold, fit_event_threshold
from memae.video.graph import scoring_graph
from memae.video.paths import VIDEO_SUFFIXES, holds_videos
from memae.video.pipeline import Outputs, score_videos
from memae.video.predict import (
    VideoReference,
    calibrate,
    examine,
    normal_scores,
    predict,
    region_level,
    scored_frames,
    scores_in_order,
    training_scores,
)
from memae.video.prepare import prepare as prepare_clips
from memae.video.preprocess import VideoPreprocess
from memae.video.scoring import ScoredFrame
from memae.video.source import VideoSource

__all__ = ["MODALITY", "VideoModality"]

TIMES = ("least_s", "merge_gap_s", "cool_down_s")
EVENT_OPTIONS = frozenset({"false_alarms_per_hour", "on_threshold", "off_threshold", "mask", *TIMES})
FALSE_ALARMS_PER_HOUR = 1.0  # the default
ITEM_POSITIONS = 4  # on each side of the map that an item is decoded on
ITEM_BATCH = 32


class VideoModality(Modality):
    """Frames of videos, scored in clips."""

    name = "video"
    unit = "frames"
    sample = "frame"
    has_events = True
    notes_after_fit = False
    this = "this is video"
    files = f"video: {', '.join(VIDEO_SUFFIXES)}"
    Settings, Preprocess = VideoConfig, VideoPreprocess
    networks, presets = NETWORKS, PRESETS
    open_options = frozenset({"frame_rate"})
    score_options = EVENT_OPTIONS | {"events", "overlay", "before_s", "after_s"}
    in_place_of = {"explain": "of video `events` says why", "maps": "video has `overlay`"}  # noqa: RUF012  constant
    evaluate_options = EVENT_OPTIONS | {"labels"}
    initial_samples = 512  # clips, each of which makes many queries
    initial_batch = 16

    # each is explained where it is written
    preset, build = staticmethod(preset), staticmethod(build)
    examine = staticmethod(examine)
    training_scores = staticmethod(training_scores)
    normal_scores = staticmethod(normal_scores)
    calibrate = staticmethod(calibrate)
    predict = staticmethod(predict)
    scoring_graph = staticmethod(scoring_graph)
    scores_in_order = staticmethod(scores_in_order)
    map_level = staticmethod(region_level)

    def accepts(self, x: Any, wanted: bool) -> bool:
        """Accepts video files, folders of them, UCSD's layout and URLs; if video is wanted, any folder or list."""
        if isinstance(x, list):
            return wanted or any(holds_videos(path) for path in x)
        if isinstance(x, Path):
            return holds_videos(x) or (wanted and x.is_dir())
        return False

    def open(
        self, x: Any, preprocess: VideoPreprocess | None, *, origin: str, skip_bad: bool, **options: Any
    ) -> Source:
        """See `Modality.open`."""
        rate = options.get("frame_rate")
        source = VideoSource(x if isinstance(x, list) else [x], folder_rate=rate, skip_bad=skip_bad)
        return source if preprocess is None else source.resized(preprocess.height, preprocess.width)

    def prepare(
        self, source: Any, config: Config, seed: int, options: FitOptions, progress: Progress | None
    ) -> Prepared:
        """See `memae.video.prepare.prepare`."""
        if options.categorical:
            raise DataError(f"{source.origin}: videos have no column {options.categorical[0]!r}")
        if options.category is not None:
            raise DataError(
                f"{source.origin}: `category` is for images and tables, as a model of video learns the background of "
                "one view; train one model for each view"
            )
        if isinstance(source, VideoSource):
            settings = VideoConfig.of(config)
            source = source.resized(settings.height, settings.width)
        return prepare_clips(source, config, seed, progress, options.group)

    def load_reference(
        self, tensors: Mapping[str, Tensor], config: Config, shape: tuple[int, ...]
    ) -> VideoReference:
        """Scores of normal video."""
        found = VideoReference.load(tensors)
        if found.appearance and found.appearance.background.reference.shape != tuple(shape[-2:]):
            raise ValueError(f"the background is not of {shape[-2]} x {shape[-1]} px")
        return found

    def decode_items(self, artifact: Artifact) -> tuple[np.ndarray | None, None]:
        """(N, 1, H, W) middle frame of each decoded item; an item of one position fills a few positions a side.

        None for a network that predicts: its decoder needs the skips of a clip.
        """
        model = artifact.model
        if VideoConfig.of(artifact.config).task == "predict":
            return None, None
        items = model.items_alone(artifact.preprocess.shape)
        if model.query == "position":
            items = items[..., :ITEM_POSITIONS, :ITEM_POSITIONS]
        parts = [model.decoder(part) for part in torch.split(items, ITEM_BATCH)]
        return torch.cat([part[:, :, part.shape[2] // 2] for part in parts]).float().cpu().numpy(), None

    def encodes_alone(self, artifact: Artifact) -> bool:
        """False: a frame is scored in its clip."""
        return False

    def describe(self, artifact: Artifact) -> Description:
        """Describes the clips and the score of a frame."""
        preprocess, settings = artifact.preprocess, VideoConfig.of(artifact.config)
        score = {
            "mean": "mean squared error of the frame",
            "place": f"root mean squared error of the {_places(settings)} rebuilt worst",
            "psnr": f"{settings.psnr_weight:g} of the PSNR and the rest of the distance of the queries to their items",
        }[settings.score]
        rate = artifact.reference.frames_per_s
        return Description(
            f"video{f' of {rate:.3g} frames/s' if rate else ''} in clips of {preprocess.clip_length} grey frames of "
            f"{preprocess.height} x {preprocess.width} px (height x width); the network sees their {preprocess.input}"
            f"{_predicts(settings)}",
            {"score": f"{score}; a clip every {settings.stride} frames{_and_still(artifact)}"},
            known={"frames_per_s": rate},
        )

    def score_files(
        self, detector: Any, source: Any, options: Mapping[str, Any], write: WriteRows, progress: Progress | None
    ) -> Summary:
        """Rows of frames, events with stills and clips, and an overlay, in one pass."""
        rule, caveat = _event_rule(detector, options)
        known = detector.artifact.reference.frames_per_s
        if known and (note := source.other_rate(known)):
            tell(progress, Warn(note))
        out, events, overlay = (options.get(name) for name in ("out", "events", "overlay"))
        around = {name: options[name] for name in ("before_s", "after_s") if name in options}
        for name, seconds in around.items():
            if not (math.isfinite(seconds) and seconds >= 0):
                raise ConfigError(f"`{name}` {seconds:g}: give seconds, 0 or more")
        outputs = Outputs(out, events, overlay, **around, rows_to_stdout=not (out or events or overlay))
        mask = options.get("mask")
        found = score_videos(detector, source, rule, outputs, write, mask=mask, progress=progress)
        threshold = detector.threshold.value
        files = {"out": out, "event_file": events, "overlay": overlay}
        figures = {
            "frames": found.frames,
            "anomalous_frames": found.anomalous_frames,
            "events": len(found.events),
            "skipped": len(found.skipped),
            "threshold": threshold,
            "on_threshold": rule.on_threshold,
            "enter": rule.on_threshold,  # its old name, until 0.2.0
            "caveat": caveat,
            "drift": found.drift and found.drift.facts,
        }
        count = f"{len(found.events)} event{'s' * (len(found.events) != 1)}"
        line = (
            f"{found.frames:,} frames, {found.anomalous_frames:,} ({found.anomalous_frames / found.frames:.2%}) above "
            f"score {threshold:.4g}; {count} from score {rule.on_threshold:.4g} on"
        )
        lines = ["; ".join([line, *(str(path) for path in files.values() if path)])]
        lines += [f"note: {caveat}"] if caveat else []
        if found.drift and found.drift.note:
            tell(progress, Warn(found.drift.note))
        lines += self.skipped_lines(len(found.skipped), found.skipped) if found.skipped else []
        return Summary(lines, figures | {name: str(path) for name, path in files.items() if path})

    def evaluate(
        self, detector: Any, source: Any, options: Mapping[str, Any], progress: Progress | None
    ) -> Judged:
        """Evaluates frames, pixels, regions and events."""
        if options.get("labels") is None:
            raise ConfigError(
                "a model of video is compared with labels, a CSV file or a folder of masks; see docs/video.md"
            )
        if options.get("skip_bad"):
            raise ConfigError(
                "`skip_bad`: figures without some of the videos are figures of another test set; take the bad videos "
                "and their labels out of it, or mend them"
            )
        rule, caveat = _event_rule(detector, options)
        mask = options.get("mask")
        result, ranking = judge_videos(detector, source, options["labels"], rule, mask=mask, progress=progress)
        notes = [note for note in (detector.threshold.caveat, caveat) if note]
        return Judged(result, notes=notes, ranking=ranking)

    def skipped_lines(self, count: int, first: Sequence[Skipped]) -> list[str]:
        """Lines for a summary: how many videos were bad, and what happened to the first ones."""
        lines = [f"{count:,} bad video{'s' * (count != 1)}:"]
        lines += [f"  {video}: {reason}" for video, reason in first[:SHOWN_SKIPPED]]
        return lines + [f"  and {count - SHOWN_SKIPPED:,} more"] * (count > SHOWN_SKIPPED)

    def summary_of_events(self, detector: Any) -> tuple[str, Mapping[str, Any]] | None:
        """A line and figures on the default threshold of events; None without held-out video."""
        try:
            found: EventThreshold = detector.event_threshold(FALSE_ALARMS_PER_HOUR)
        except MemaeError:
            return None
        minutes = f"{60 * found.normal_hours:.3g} minutes of held-out normal video"
        rate = f"{FALSE_ALARMS_PER_HOUR:g} false alarm an hour"
        line = f"from score {found.on_threshold:.4g} on, for at most {rate}, from {minutes}"
        if found.caveat:
            line = (
                f"from score {found.on_threshold:.4g} on, just above all of {minutes}: too short to promise {rate}"
            )
        return line, found.figures()

    def as_trained(self, source: Any, preprocess: VideoPreprocess) -> Any:
        """The source with frames of the size of the network."""
        return source.resized(preprocess.height, preprocess.width) if isinstance(source, VideoSource) else source

    def watch(
        self, artifact: Artifact, opened: Callable[[], Any], watched: np.ndarray | None
    ) -> Iterator[ScoredFrame]:
        """Every frame with its score."""
        return scored_frames(artifact, opened(), watched)

    def event_threshold(
        self, artifact: Artifact, false_alarms_per_hour: float, rule: Callable[[float], EventRule] | None
    ) -> EventThreshold:
        """The thresholds of events, from the scores of the held-out normal video."""
        normal = artifact.reference.series
        if not normal:
            raise MemaeError(
                "this model holds no scores of normal video to set a threshold for events from; train a model of "
                "video with threshold.calibration_share above 0"
            )
        return fit_event_threshold(normal, false_alarms_per_hour, rule or EventRule)


def _predicts(settings: VideoConfig) -> str:
    return " and predicts the last one" if settings.task == "predict" else ""


def _and_still(artifact: Artifact) -> str:
    reference = artifact.reference
    return "; and what stands still and should not" if reference is not None and reference.appearance else ""


def _places(settings: VideoConfig) -> str:
    share, side = settings.worst_share, settings.place_px
    return f"{share:.3g} of the places of {side} px that are" if share else f"place of {side} px that is"


def _event_rule(detector: Any, options: Mapping[str, Any]) -> tuple[EventRule, str | None]:
    """The event rule for command options, and a caveat about its threshold.

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


MODALITY = VideoModality()
