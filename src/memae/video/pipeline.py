"""Scores videos and writes rows, events, stills, clips and overlays, in one pass that decodes each frame once.

`score_videos` is the pass. `score_frames` gives the frames of a source with their scores, `VideoWriters` finds the
events and has them drawn, and each score goes to the rows:

    with video_writers(source, rule, levels, Outputs(events=Path("events.jsonl"))) as writers:
        for frame in score_frames(writers.source, scorer):
            writers.add(frame)
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, Protocol

import numpy as np

from memae.drift import Drift
from memae.errors import ConfigError, DataError
from memae.files.atomic import check_writable
from memae.modality import WriteRows
from memae.plots.regions import find_regions
from memae.progress import Progress, stage
from memae.types import ItemUse, Region, Skipped, Verdicts, check_scores, count
from memae.video.encode import OUTPUT_SUFFIXES
from memae.video.events import Event, EventFinder, EventRule, PeakDetail
from memae.video.frames import FrameKey, FrameReader, Frames
from memae.video.masks import watched_pixels
from memae.video.media import EventMedia, Overlays, Peak, Shot, write_events
from memae.video.paths import VIDEO_SUFFIXES
from memae.video.scoring import CHUNK_FRAMES, ScoredFrame, item_shares_of
from memae.video.source import VideoSource

__all__ = [
    "MapLevels",
    "Outputs",
    "ScoredVideos",
    "Scorer",
    "VideoWriters",
    "peak_detail",
    "score_frames",
    "score_videos",
    "video_writers",
    "videos_of",
]

EVENT_ITEMS = 5  # named in an event, largest share first
ROWS = 256  # frames written at a time

_EVENT_FILE = re.compile(r"event-\d{4,}\.(png|mp4)")


@dataclass(frozen=True)
class Outputs:
    """The files that a pass over videos writes; None leaves one out."""

    frames: Path | None = None
    """.csv, .parquet or .jsonl: a row a frame, which the caller writes."""
    events: Path | None = None
    """.jsonl: a line an event; a folder of the same name without suffix takes the stills and clips."""
    overlay: Path | None = None
    """.mp4 or .mkv of one video, or a folder for one of each."""
    before_s: float = 3.0
    """Seconds in the clip of an event before its first frame."""
    after_s: float = 3.0
    """Seconds after its last one."""
    rows_to_stdout: bool = False
    """Rows as CSV on stdout, if `frames` is None."""

    @property
    def media(self) -> Path | None:
        """The folder of the stills and clips."""
        return self.events.with_suffix("") if self.events else None


@dataclass(frozen=True)
class ScoredVideos:
    """The result of a pass over videos."""

    frames: int
    anomalous_frames: int
    events: list[Event]
    skipped: tuple[Skipped, ...]
    """Videos that could not be read, or not to their end; only a source that was asked to skip has them."""
    drift: Drift | None = None
    """How the frames compare with held-out normal ones; None where there are too few, or a mask hides places."""


def score_videos(
    detector: Any,
    x: Any,
    rule: EventRule,
    outputs: Outputs,
    write: WriteRows,
    *,
    mask: Path | None = None,
    progress: Progress | None = None,
) -> ScoredVideos:
    """Scores videos in one pass and writes the requested outputs; each file appears when it is complete.

    Where there is no room for an overlay, or for stills and clips, all the rest is written before that is raised.

    Args:
        detector: a `memae.Detector` with a model of video.
        x: videos, or a source of them.
        rule: when frames make an event.
        outputs: where to.
        write: writes the rows of the frames, where these are wanted.
        mask: an image or a JSON file of polygons that takes places out of every score; see `memae.video.masks`.
        progress: told how far the work is.

    Raises:
        DataError: a video or mask that cannot be used.
        ConfigError: an output that cannot hold what is wanted.
        WriteError: an output that cannot be written.
        MissingExtraError: PyAV is not installed.
    """
    source, watched = videos_of(detector, x, mask)
    levels = MapLevels(detector.map_level(rule.on_threshold), detector.map_level(rule.ends_below))
    watch = None if watched is not None else detector.artifact.drift_watch()
    with (
        stage(progress, "scoring", "frames", count(source)) as done,
        video_writers(source, rule, levels, outputs) as writers,
    ):

        def rows() -> Iterator[tuple[FrameKey, float]]:
            for frame in detector.watch(writers.source, watched=watched):
                writers.add(frame)
                if watch:
                    watch.look(np.array([frame.score]), partial(item_shares_of, [frame]))
                done(1, frame.key)
                yield frame.key, frame.score  # a frame itself holds its clip and its picture

        parts = _verdicts(detector.threshold, rows())
        total, flagged = (write if outputs.frames or outputs.rows_to_stdout else _counted)(parts)
    return ScoredVideos(total, flagged, writers.events, source.skipped, watch and watch.found)


def videos_of(detector: Any, x: Any, mask: Path | None) -> tuple[VideoSource, np.ndarray | None]:
    """Opens videos, and reads the pixels (H, W) at the network's size that a mask leaves; None without a mask.

    Raises:
        DataError: something else than videos, or a mask that cannot be used.
    """
    source = detector.open(x)
    if not isinstance(source, VideoSource):
        raise DataError(f"{source.origin}: this is no video; take score without the options for video")
    return source, watched_pixels(mask, source.sizes.values(), *source.size) if mask else None


def _verdicts(threshold: Any, rows: Iterator[tuple[FrameKey, float]]) -> Iterator[Verdicts]:
    while part := list(islice(rows, ROWS)):
        keys, scores = [key for key, _ in part], np.array([score for _, score in part])
        yield Verdicts(keys, scores, threshold.p_values(scores), threshold.flags(scores), threshold.value)


def _counted(parts: Iterable[Verdicts]) -> tuple[int, int]:
    """The number of frames, and of anomalous ones among them."""
    total = flagged = 0
    for part in parts:
        total, flagged = total + len(part), flagged + int(part.is_anomaly.sum())
    return total, flagged


class Scorer(Protocol):
    """The interface of objects that score frames, such as `memae.video.scoring.FrameScorer`."""

    def scored(self, chunks: Iterable[Frames]) -> Iterator[ScoredFrame]:
        """Every frame of the chunks, in order."""
        ...


def score_frames(source: FrameReader, scorer: Scorer) -> Iterator[ScoredFrame]:
    """Every frame of a source in order, with its score; memory does not grow with their number.

    Raises:
        DataError: there are none, or a video breaks off.
        ArtifactError: a model of which a score is no finite number.
    """
    empty = True
    for frame in scorer.scored(source.chunks(CHUNK_FRAMES)):
        empty = False
        check_scores([frame.key], np.array([frame.score]))
        yield frame
    if empty:
        raise DataError(f"{source.origin}: holds no frames")


class MapLevels(NamedTuple):
    """Anomaly-map values that correspond to the on and off thresholds of events, which are scores of frames."""

    on: float
    off: float


@contextmanager
def video_writers(
    source: VideoSource, rule: EventRule, levels: MapLevels, outputs: Outputs
) -> Iterator[VideoWriters]:
    """Gives the writers of one pass over a source for a block; each file appears when it is complete.

    Where there is no room for an overlay, or for stills and clips, all the rest is written before that is raised.

    Args:
        source: of the videos.
        rule: when frames make an event.
        levels: of the anomaly maps, for colours and boxes.
        outputs: where to.

    Raises:
        ConfigError: an output that would take the place of another file.
        WriteError: one that cannot be written.
        MissingExtraError: PyAV is not installed.
    """
    files = _overlay_files(outputs.overlay, source) if outputs.overlay else {}
    _check_outputs(outputs, files.values(), source)
    overlays = Overlays(files, levels.on, rule.on_threshold)
    media = EventMedia(outputs.media, rule, levels.on, outputs.before_s, outputs.after_s)
    with overlays, media:
        writers = VideoWriters(source, rule, levels, overlays, media)
        yield writers
        writers.finish()
    if outputs.events:
        write_events(outputs.events, writers.events)
    if failed := media.failed or overlays.failed:
        raise failed


class VideoWriters:
    """Finds events in scored frames and writes the requested outputs; see `video_writers`."""

    def __init__(
        self, source: VideoSource, rule: EventRule, levels: MapLevels, overlays: Overlays, media: EventMedia
    ) -> None:
        self.drawn = overlays.wanted or media.wanted
        self.source = source.with_pictures() if self.drawn else source
        """Of the frames to score, with their pictures if any is drawn."""
        self.events: list[Event] = []
        """Those that nothing can change any more; with their stills and clips once the block has ended."""
        self._levels, self._finder = levels, EventFinder(rule)
        self._overlays, self._media = overlays, media
        self._video: str | None = None

    def add(self, frame: ScoredFrame) -> None:
        """Adds the next frame of the source, in order."""
        key = frame.key
        if key.video != self._video:
            self._end_video()
            self._video = key.video
        size = self.source.sizes[key.video]
        # where nothing is drawn, only the peaks of events need them
        regions = cache(partial(find_regions, frame.anomaly_map, self._levels.off, *size))
        ended = self._kept(self._finder.push(key, frame.score, lambda: peak_detail(frame, regions(), size)))
        if self.drawn:
            self._draw(frame, regions(), ended)

    def finish(self) -> None:
        """Ends the last video; called by `video_writers` at the end of its block."""
        self._end_video()
        self.events = self._media.attempt(self._media.commit, self.events) or self.events

    def _draw(self, frame: ScoredFrame, regions: Sequence[Region], ended: Event | None) -> None:
        picture, in_event = frame.picture, self._finder.in_event
        if not picture:
            video, number, _ = frame.key
            raise DataError(f"{video}: frame {number} has no picture; score the frames of `writers.source`")
        shot = Shot(frame.key, picture, tuple(region.box for region in regions[:1]))
        self._media.attempt(self._media.add, shot, ended, self._finder.open_since, in_event)
        shown = [region.box for region in regions if region.peak >= self._levels.on or in_event]
        self._overlays.attempt(self._overlays.add, frame, picture, shown, in_event)

    def _kept(self, event: Event | None) -> Event | None:
        if event:
            self.events.append(replace(event, payload=None))  # a picture of each would fill the memory
        return event

    def _end_video(self) -> None:
        self._media.attempt(self._media.end_video, self._kept(self._finder.close()))
        self._overlays.attempt(self._overlays.end_video)


def peak_detail(frame: ScoredFrame, regions: Sequence[Region], size: tuple[int, int]) -> PeakDetail:
    """What an event keeps of its highest frame: where the error stood, and the items that rebuilt it.

    Args:
        frame: with its picture, where a still is wanted.
        regions: of its map, largest error first.
        size: (height, width) of the picture, px.
    """
    height, width = size
    box = regions[0].box if regions else None
    part = (0.0, 0.0, 1.0, 1.0)
    if box:
        part = (box.left / width, box.top / height, box.right / width, box.bottom / height)
    # the items rebuild motion, and say nothing of what stands still
    uses = frame.items(part)[:EVENT_ITEMS] if frame.part == "motion" else []
    items = tuple(ItemUse(*use) for use in uses)
    # a copy, as the map is a view of the maps of the whole clip
    payload = Peak(frame.picture, frame.anomaly_map.copy()) if frame.picture else None
    return PeakDetail(box, items, payload, frame.part)


# The files, checked before the work


def _check_outputs(outputs: Outputs, overlays: Iterable[Path], source: VideoSource) -> None:
    """Raises an error before the work if an output would replace a video or another output.

    Raises:
        ConfigError: it would, or the folder of stills and clips, which is replaced whole, holds anything else.
        WriteError: one cannot be written.
    """
    taken = {path.resolve(): f"{path} is a video to be scored" for path in source.paths.values()}
    for path in filter(None, (outputs.frames, outputs.events, *overlays)):
        if reason := taken.get(path.resolve()):
            raise ConfigError(f"{path}: cannot be written, because {reason}; name another file")
        taken[path.resolve()] = "another output has that name"
        check_writable(path)
    if outputs.media and (held := _held(outputs.media, source)):
        raise ConfigError(
            f"{outputs.media}: the stills and clips go to this folder and replace all in it, but {held}; give "
            "`events` another name"
        )


def _held(folder: Path, source: VideoSource) -> str | None:
    """Why a folder of stills and clips must not be replaced; None if it may be."""
    if not folder.is_dir():
        return "it is a file" if folder.exists() else None
    strange = [file.name for file in sorted(folder.iterdir()) if not _EVENT_FILE.fullmatch(file.name)]
    scored = [path for path in source.paths.values() if path.resolve().is_relative_to(folder.resolve())]
    return f"it holds {strange[0]}" if strange else f"{scored[0]} is to be scored" if scored else None


def _overlay_files(overlay: Path, source: VideoSource) -> dict[str, Path]:
    """Where the overlay of each video goes: a file for a single video, or a folder for one of each.

    Raises:
        ConfigError: a file of another suffix, or one file for several videos.
    """
    if overlay.suffix.lower() in OUTPUT_SUFFIXES and not overlay.is_dir():
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
    """A name without its suffix; in the frame folder cam.1, .1 is not a suffix."""
    path = PurePosixPath(video)
    return str(path.with_suffix("")) if path.suffix.lower() in VIDEO_SUFFIXES else video
