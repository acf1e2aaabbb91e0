"""From videos to what a person acts on, in one pass that decodes each frame once.

`score_frames` gives the frames of a source with their scores. `video_writers` takes them one by one: it finds the
events, and writes a still and a clip of each, and overlays.

    with video_writers(source, rule, levels, Outputs(events=Path("events.jsonl"))) as writers:
        for frame in score_frames(writers.source, scorer):
            writers.add(frame)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, Protocol

from memae.errors import DataError
from memae.types import ItemUse
from memae.video.dataset import FrameReader
from memae.video.encode import VideoEncoder, encoded_video
from memae.video.event_media import EventMedia, Peak, write_events
from memae.video.events import Event, EventFinder, EventRule, PeakDetail
from memae.video.frames import Frames, Picture
from memae.video.outputs import Output, Outputs, check_outputs, overlay_files
from memae.video.recent import Shot
from memae.video.regions import Box, Region, find_regions
from memae.video.render import annotated, frame_caption
from memae.video.scoring import CHUNK_FRAMES, ScoredFrame
from memae.video.source import VideoSource

__all__ = ["MapLevels", "Scorer", "VideoWriters", "score_frames", "video_writers"]

EVENT_ITEMS = 5  # named in an event, largest share first


class Scorer(Protocol):
    """What scores frames, such as `memae.video.scoring.FrameScorer`."""

    def scored(self, chunks: Iterable[Frames]) -> Iterator[ScoredFrame]:
        """Every frame of the chunks, in order."""
        ...


def score_frames(source: FrameReader, scorer: Scorer) -> Iterator[ScoredFrame]:
    """Every frame of a source in order, with its score; memory does not grow with their number.

    Raises:
        DataError: there are none, or a video breaks off.
    """
    empty = True
    for frame in scorer.scored(source.chunks(CHUNK_FRAMES)):
        empty = False
        yield frame
    if empty:
        raise DataError(f"{source.origin}: holds no frames")


class MapLevels(NamedTuple):
    """Values of the anomaly map that the two thresholds of events, which are scores of frames, stand for."""

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
    files = overlay_files(outputs.overlay, source) if outputs.overlay else {}
    check_outputs(outputs, files.values(), source)
    with (
        Overlays(files, levels.on, rule.on_threshold) as overlays,
        EventMedia(outputs.media, rule, levels.on, outputs.before_s, outputs.after_s) as media,
    ):
        writers = VideoWriters(source, rule, levels, overlays, media)
        yield writers
        writers.finish()
    if outputs.events:
        write_events(outputs.events, writers.events)
    if failed := media.failed or overlays.failed:
        raise failed


class VideoWriters:
    """Finds the events of scored frames and writes what is wanted of them; see `video_writers`."""

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
        """Takes the next frame of the source, in order."""
        key, picture = frame.key, frame.picture
        if key.video != self._video:
            self._end_video()
            self._video = key.video
            self._overlays.attempt(self._overlays.begin, key.video)
        size = self.source.sizes[key.video]
        regions = find_regions(frame.anomaly_map, self._levels.off, *size)
        began = self._find_events(frame, regions, size)
        if not self.drawn:
            return
        if not picture:
            raise DataError(f"{key.video}: frame {key.frame} has no picture; score the frames of `writers.source`")
        if began:
            self._media.attempt(self._media.begin_event, key)
        in_event, boxes = self._finder.in_event, tuple(region.box for region in regions)
        self._media.attempt(self._media.add, Shot(key, picture, boxes[:1]), in_event)
        shown = [region.box for region in regions if region.peak >= self._levels.on or in_event]
        self._overlays.attempt(self._overlays.add, frame, picture, shown, in_event)

    def finish(self) -> None:
        """Ends the last video; called by `video_writers` at the end of its block."""
        self._end_video()
        self.events = self._media.attempt(self._media.commit, self.events) or self.events

    def _find_events(self, frame: ScoredFrame, regions: Sequence[Region], size: tuple[int, int]) -> bool:
        """Whether an event begins with this frame."""
        before = self._finder.open_since
        event = self._finder.push(frame.key, frame.score, lambda: _peak(frame, regions, size))
        now = self._finder.open_since
        if before and now != before:
            self._end_event(event)
        return now is not None and now != before

    def _end_event(self, event: Event | None) -> None:
        self._media.attempt(self._media.end_event, event)
        if event:
            self.events.append(replace(event, payload=None))  # a picture of each would fill the memory

    def _end_video(self) -> None:
        if self._finder.open_since:
            self._end_event(self._finder.close())
        self._media.attempt(self._media.end_video)
        self._overlays.attempt(self._overlays.end)


def _peak(frame: ScoredFrame, regions: Sequence[Region], size: tuple[int, int]) -> PeakDetail:
    height, width = size
    box = regions[0].box if regions else None
    part = (0.0, 0.0, 1.0, 1.0)
    if box:
        part = (box.left / width, box.top / height, box.right / width, box.bottom / height)
    items = tuple(ItemUse(*use) for use in frame.items(part)[:EVENT_ITEMS])
    # a copy, as the map is a view of the maps of the whole clip
    return PeakDetail(box, items, Peak(frame.picture, frame.anomaly_map.copy()) if frame.picture else None)


class Overlays(Output):
    """Writes the overlay of each video that has one.

    Args:
        files: where to, by the name of the video.
        map_threshold: of the anomaly maps, for their colours.
        on_threshold: the score that begins an event, for captions.
    """

    def __init__(self, files: Mapping[str, Path], map_threshold: float, on_threshold: float) -> None:
        super().__init__(wanted=bool(files))
        self._files, self._map_threshold, self._on_threshold = files, map_threshold, on_threshold
        self._encoder: VideoEncoder | None = None

    def begin(self, video: str) -> None:
        """Opens the file of a video."""
        self._encoder = self.enter_context(encoded_video(self._files[video]))

    def add(self, frame: ScoredFrame, picture: Picture, boxes: Sequence[Box], in_event: bool) -> None:
        """Writes the next frame of the video."""
        assert self._encoder is not None, "a video begins before its frames"
        time_s = frame.key.time_s
        caption = frame_caption(time_s, frame.score, self._on_threshold)
        shown = (frame.anomaly_map, self._map_threshold)
        self._encoder.write(time_s, annotated(picture.rgb(), boxes, caption, shown, in_event=in_event))

    def end(self) -> None:
        """Completes the file."""
        self._encoder = None  # it holds the frames that the codec looks ahead at
        self.close()
