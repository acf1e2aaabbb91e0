"""From videos to what a person acts on: a row a frame, events with stills and clips, an overlay; in one pass."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from memae.counts import count
from memae.detector import Detector, Verdicts
from memae.errors import ConfigError, DataError, WriteError
from memae.explain import ItemUse
from memae.files import atomic_directory, check_writable, no_room
from memae.report.rows import write_verdicts
from memae.stages import Advance, Watcher, stage
from memae.types import FrameKey, Skipped
from memae.video.evaluate import VideoEvaluation, VideoMeter
from memae.video.events import Event, EventFinder, EventRule, PeakDetail
from memae.video.ground_truth import VideoTruth, read_truth
from memae.video.paths import VIDEO_SUFFIXES
from memae.video.preprocess import VideoPreprocess
from memae.video.regions import Region, find_regions, read_mask
from memae.video.render import OverlayWriter, frame_caption, save_clips, save_still, write_events
from memae.video.scoring import ScoredFrame
from memae.video.source import VideoSource

__all__ = ["Outputs", "Watched", "evaluate_videos", "watch_videos"]

ROWS = 256  # frames written at a time
COUNTED = 512  # frames counted at a time
EVENT_ITEMS = 5  # named in an event, strongest first
OVERLAY_SUFFIXES = (".mp4", ".mkv")
_EVENT_FILE = re.compile(r"event-\d{4,}\.(png|mp4)")


@dataclass(frozen=True)
class Outputs:
    """What is wanted of a pass over videos; None leaves it out."""

    frames: Path | None = None
    """.csv, .parquet or .jsonl: a row a frame."""
    events: Path | None = None
    """.jsonl: a line an event; a folder of the same name without suffix takes the stills and clips."""
    overlay: Path | None = None
    """.mp4 or .mkv of one video, or a folder for one of each."""
    rows_to_stdout: bool = False
    """Rows as CSV on stdout, if `frames` is None."""


@dataclass(frozen=True)
class Watched:
    """What a pass over videos found."""

    frames: int
    anomalous_frames: int
    events: list[Event]
    skipped: tuple[Skipped, ...]
    """Videos that could not be read, or not to their end; only a source that was asked to skip has them."""


def watch_videos(
    detector: Detector,
    x: Any,
    rule: EventRule,
    outputs: Outputs,
    *,
    mask: Path | None = None,
    before_s: float = 3.0,
    after_s: float = 3.0,
    watcher: Watcher | None = None,
) -> Watched:
    """Scores videos once and writes all that is wanted of them; each file appears when it is complete.

    Where there is no room for an overlay, or for stills and clips, all the rest is written before that is raised.

    Args:
        detector: a model of video.
        x: videos, or a source of them.
        rule: when frames make an event.
        outputs: where to.
        mask: an image or a JSON file of polygons that takes places out of every score; see `memae.video.regions`.
        before_s: footage in the clip of an event before its first frame.
        after_s: and after its last one.
        watcher: told how far the work is.

    Raises:
        DataError: a video or mask that cannot be used.
        ConfigError: an output that cannot hold what is wanted.
        WriteError: an output that cannot be written.
        MissingExtraError: PyAV is not installed.
    """
    source = _videos(detector, x)
    overlays = _overlay_files(outputs.overlay, source)
    media = outputs.events.with_suffix("") if outputs.events else None
    _check_files([outputs.frames, outputs.events, *overlays.values()], source)
    if media is not None:
        _check_media_folder(media, source)
    places = _watched_places(detector, source, mask)
    with (
        stage(watcher, "scoring", "frames", count(source)) as done,
        _Pass(detector, source, rule, overlays, places, done) as run,
    ):
        if outputs.frames or outputs.rows_to_stdout:
            frames, flagged = write_verdicts(run.verdicts(), outputs.frames)
        else:
            counts = [(len(part), int(part.is_anomaly.sum())) for part in run.verdicts()]
            frames, flagged = (sum(column) for column in zip(*counts, strict=True))
    events, failed = run.events, run.unwritten
    if outputs.events and media is not None:
        if events or media.exists():
            try:
                with (
                    stage(watcher, "cutting stills and clips", "events", len(events)) as done,
                    atomic_directory(media) as part,
                ):
                    events = _with_media(run, events, (part, media), before_s, after_s, done)
            except WriteError as error:  # the lines are small, and may have room yet
                failed = error
        write_events(outputs.events, events)
    if failed:
        raise failed
    return Watched(frames, flagged, events, source.skipped)


def evaluate_videos(
    detector: Detector,
    x: Any,
    labels: Path,
    rule: EventRule,
    *,
    mask: Path | None = None,
    watcher: Watcher | None = None,
) -> VideoEvaluation:
    """Scores of videos held against labels; see `memae.video.evaluate`.

    Args:
        detector: a model of video.
        x: videos, or a source of them.
        labels: a CSV file or a folder of masks.
        rule: when frames make an event.
        mask: as for `watch_videos`.
        watcher: told how far the work is.

    Raises:
        DataError: a video, mask or labels that cannot be used.
    """
    source = _videos(detector, x)
    watched = _watched_places(detector, source, mask)
    truth = _truth(labels, source, watcher)
    meter = VideoMeter(truth, rule=rule)
    # what half of the normal frames reach somewhere: lower, and all places run together
    level = detector.place_level(float(np.median(detector.threshold.calibration)))
    with stage(watcher, "scoring", "frames", count(source)) as done:
        for frame in detector.watch(source, watched=watched):
            found = find_regions(frame.places, level, *source.sizes[frame.key.video])
            meter.add(frame.key, frame.score, frame.places, [(*region.box, region.peak) for region in found])
            done(1, frame.key)
    with stage(watcher, "figures and intervals", "figures"):
        return meter.result()


class _Pass:
    """One pass over all videos, driven by whoever reads its verdicts."""

    def __init__(
        self,
        detector: Detector,
        source: VideoSource,
        rule: EventRule,
        overlays: Mapping[str, Path],
        watched: np.ndarray | None,
        done: Advance,
    ) -> None:
        self.events: list[Event] = []
        self.unwritten: WriteError | None = None
        """Why an overlay could not be written."""
        self.source, self.rule, self._detector = source, rule, detector
        self._overlays, self._watched, self._done = overlays, watched, done
        self.hot, self._warm = detector.place_level(rule.on_threshold), detector.place_level(rule.ends_below)
        self._finder = EventFinder(rule)
        self._stack = ExitStack()
        self._video: str | None = None
        self._overlay: OverlayWriter | None = None
        self._colour: Iterator[tuple[FrameKey, np.ndarray]] = iter(())

    def __enter__(self) -> _Pass:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def verdicts(self) -> Iterator[Verdicts]:
        threshold = self._detector.threshold
        frames = map(self._seen, self._detector.watch(self.source, watched=self._watched))
        while part := list(islice(frames, ROWS)):
            scores = np.array([frame.score for frame in part])
            keys = [frame.key for frame in part]
            yield Verdicts(keys, scores, threshold.p_values(scores), threshold.flags(scores), threshold.value)
        self._add(self._finder.close())
        self._end_overlay()

    def _seen(self, frame: ScoredFrame) -> ScoredFrame:
        if frame.key.video != self._video:
            self._open(frame.key.video)
        size = self.source.sizes[frame.key.video]
        regions = find_regions(frame.places, self._warm, *size)
        self._add(self._finder.push(frame.key, frame.score, lambda: _peak(frame, regions, size)))
        self._draw(frame, regions)
        self._done(1, frame.key)
        return frame

    def _draw(self, frame: ScoredFrame, regions: Sequence[Region]) -> None:
        if not self._overlay:
            return
        key, picture = next(self._colour)
        assert key.frame == frame.key.frame, "both readings of a video give the same frames"
        caption = frame_caption(key.time_s, frame.score, self.rule.on_threshold)
        boxes = [region.box for region in regions if region.peak >= self.hot or self._finder.in_event]
        try:
            self._overlay.write(key.time_s, picture, frame.places, boxes, caption, self._finder.in_event)
        except Exception as error:
            if not no_room(error):
                raise
            self._end_overlay(error)

    def _open(self, video: str) -> None:
        self._end_overlay()
        self._video = video
        if (path := self._overlays.get(video)) and not self.unwritten:
            self._colour = self._stack.enter_context(closing(self.source.colour(video)))
            self._overlay = self._stack.enter_context(OverlayWriter(path, self.hot))

    def _end_overlay(self, error: Exception | None = None) -> None:
        """The overlay is complete, or could not be: then the scores go on without it and those of videos to come."""
        self._overlay = None
        try:
            self._stack.__exit__(type(error) if error else None, error, None)
            if error:
                raise error
        except WriteError as failed:
            self.unwritten = failed

    def _add(self, event: Event | None) -> None:
        if event:
            self.events.append(event)


def _peak(frame: ScoredFrame, regions: Sequence[Region], size: tuple[int, int]) -> PeakDetail:
    height, width = size
    box = regions[0].box if regions else None
    share = (0.0, 0.0, 1.0, 1.0)
    if box:
        share = (box.left / width, box.top / height, box.right / width, box.bottom / height)
    items = tuple(ItemUse(*use) for use in frame.items(share)[:EVENT_ITEMS])
    return PeakDetail(box, items, payload=frame.places.copy())  # not the whole clip that it is a part of


def _with_media(
    run: _Pass,
    events: list[Event],
    folders: tuple[Path, Path],
    before_s: float,
    after_s: float,
    cut: Advance,
) -> list[Event]:
    """The events with a still and a clip of each, written to the first folder and named by the second."""
    here, final = folders
    done: list[Event] = []
    for video in dict.fromkeys(event.video for event in events):
        mine = [event for event in events if event.video == video]
        named: list[tuple[Path, Event]] = []
        for event in mine:
            name = f"event-{len(done) + len(named) + 1:04}"
            still, clip = f"{name}.png", f"{name}.mp4"
            named.append((here / clip, replace(event, still=str(final / still), clip=str(final / clip))))
            with closing(run.source.colour(video, start_s=event.peak_s)) as frames:
                _, picture = next(frames)
            caption = f"{video}   {frame_caption(event.peak_s, event.peak, run.rule.on_threshold)}"
            boxes = [event.region] if event.region else []
            save_still(here / still, picture, event.payload, run.hot, boxes, caption)
        begin_s = max(0.0, min(event.start_s for event in mine) - before_s)
        with closing(run.source.colour(video, start_s=begin_s)) as frames:
            save_clips(frames, named, before_s, after_s)
        cut(len(mine), video)
        done += [event for _, event in named]
    return done


def _check_files(outputs: Sequence[Path | None], source: VideoSource) -> None:
    """Fails before the work if an output would take the place of a video, or of another output."""
    taken = {path.resolve(): f"{path} is a video to be scored" for path in source.paths.values()}
    for path in outputs:
        if path is None:
            continue
        if reason := taken.get(path.resolve()):
            raise ConfigError(f"{path}: cannot be written, because {reason}; name another file")
        taken[path.resolve()] = "another output has that name"
        check_writable(path)


def _check_media_folder(folder: Path, source: VideoSource) -> None:
    """Fails before the work if the folder of stills and clips, which is replaced whole, holds anything else."""
    if not folder.exists():
        return
    wanted = f"{folder}: the stills and clips go to this folder and replace all in it, but"
    if not folder.is_dir():
        raise ConfigError(f"{wanted} it is a file; give `events` another name")
    for file in sorted(folder.iterdir()):
        if not _EVENT_FILE.fullmatch(file.name):
            raise ConfigError(f"{wanted} it holds {file.name}; give `events` another name")
    for path in source.paths.values():
        if path.resolve().is_relative_to(folder.resolve()):
            raise ConfigError(f"{wanted} {path} is to be scored; give `events` another name")


def _truth(labels: Path, source: VideoSource, watcher: Watcher | None) -> VideoTruth:
    """The labels, with masks in px of the videos."""
    if not labels.exists():  # said at once: to count the frames takes time
        raise DataError(f"{labels}: no such file or folder of labels; check the path")
    truth = read_truth(labels, _lengths(source, watcher))
    for video, masks in truth.masks.items():
        size, own = source.sizes[video], masks.read(0).shape
        if own != size:
            raise DataError(
                f"{labels}: the masks of video {video!r} are {own[1]} x {own[0]} px, and the video is {size[1]} x "
                f"{size[0]} (width x height); bring them to the size of the video"
            )
    return truth


def _videos(detector: Detector, x: Any) -> VideoSource:
    source = detector.open(x)
    if not isinstance(source, VideoSource):
        raise DataError(f"{source.origin}: this is no video; take score without the options for video")
    return source


def _watched_places(detector: Detector, source: VideoSource, mask: Path | None) -> np.ndarray | None:
    if mask is None:
        return None
    read = read_mask(mask)
    for height, width in set(source.sizes.values()):
        read.check_aspect(height, width)
    assert isinstance(detector.preprocess, VideoPreprocess)
    return read.watched(detector.preprocess.height, detector.preprocess.width)


def _overlay_files(overlay: Path | None, source: VideoSource) -> dict[str, Path]:
    """Where the overlay of each video goes."""
    if overlay is None:
        return {}
    if overlay.suffix.lower() in OVERLAY_SUFFIXES and not overlay.is_dir():
        if len(source.videos) > 1:
            raise ConfigError(
                f"{overlay}: one file cannot hold the overlays of {len(source.videos)} videos; name a folder"
            )
        return {source.videos[0]: overlay}
    if overlay.suffix and not overlay.is_dir():
        raise ConfigError(f"{overlay}: give a file that ends in .mp4 or .mkv, or a folder")
    short = {video: _without_suffix(video) for video in source.videos}
    times = Counter(short.values())
    # a.avi beside a.mp4 keeps its suffix, as a.avi.mp4
    names = {video: name if times[name] == 1 else video for video, name in short.items()}
    return {video: overlay / f"{name}.mp4" for video, name in names.items()}


def _without_suffix(video: str) -> str:
    """A frame folder may be called cam.1, which is no suffix."""
    path = PurePosixPath(video)
    return str(path.with_suffix("")) if path.suffix.lower() in VIDEO_SUFFIXES else video


def _lengths(source: VideoSource, watcher: Watcher | None) -> dict[str, int]:
    """Frames of each video, by decoding it small: no container tells for sure."""
    lengths = dict.fromkeys(source.videos, 0)
    with stage(watcher, "counting frames", "frames", count(source)) as done:
        for chunk in source.resized(8, 8).chunks(COUNTED):
            lengths[chunk.keys[0].video] += len(chunk)
            done(len(chunk), chunk.keys[-1])
    return lengths
