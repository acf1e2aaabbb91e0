"""From videos to what a person acts on, in one pass that decodes each frame once.

`score_frames` gives the frames of a source with their scores. `video_writers` takes them one by one: it finds the
events, and writes a still and a clip of each, and overlays.

    with video_writers(source, rule, levels, events=Path("events.jsonl")) as writers:
        for frame in score_frames(writers.source, scorer):
            writers.add(frame)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, Protocol

from memae.errors import DataError
from memae.explain import ItemUse
from memae.types import Frames
from memae.video.dataset import FrameReader
from memae.video.event_media import Change, EventMedia, MediaRule, Peak, write_events
from memae.video.events import Event, EventFinder, EventRule, PeakDetail
from memae.video.outputs import Output, check_files, check_media_folder, overlay_files
from memae.video.recent import Shot
from memae.video.regions import Box, Region, find_regions
from memae.video.render import OverlayWriter, frame_caption
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
    source: VideoSource,
    rule: EventRule,
    levels: MapLevels,
    *,
    events: Path | None = None,
    overlay: Path | None = None,
    others: Sequence[Path] = (),
    before_s: float = 3.0,
    after_s: float = 3.0,
) -> Iterator[VideoWriters]:
    """Gives the writers of one pass over a source for a block; each file appears when it is complete.

    Where there is no room for an overlay, or for stills and clips, all the rest is written before that is raised.

    Args:
        source: of the videos.
        rule: when frames make an event.
        levels: of the anomaly maps, for colours and boxes.
        events: .jsonl, a line an event; a folder of the same name without suffix takes the stills and clips.
        overlay: .mp4 or .mkv of one video, or a folder for one of each.
        others: files that the caller writes in the same pass.
        before_s: seconds in the clip of an event before its first frame.
        after_s: seconds after its last one.

    Raises:
        ConfigError: an output that would take the place of another file.
        WriteError: one that cannot be written.
        MissingExtraError: PyAV is not installed.
    """
    files = overlay_files(overlay, source) if overlay else {}
    folder = events.with_suffix("") if events else None
    check_files([*others, *([events] if events else []), *files.values()], source)
    if folder:
        check_media_folder(folder, source)
    with ExitStack() as outputs:
        overlays = outputs.enter_context(_Overlays(files, levels.on))
        media = None
        if folder:
            shown = MediaRule(before_s, after_s, rule.on_threshold, levels.on)
            media = outputs.enter_context(EventMedia(folder, rule.merge_gap_s, shown))
        writers = VideoWriters(source, rule, levels, overlays, media)
        yield writers
        writers.finish()
    if events:
        write_events(events, writers.events)
    for output in (media, overlays):
        if output and output.failed:
            raise output.failed


class VideoWriters:
    """Finds the events of scored frames and writes what is wanted of them; see `video_writers`."""

    def __init__(
        self,
        source: VideoSource,
        rule: EventRule,
        levels: MapLevels,
        overlays: _Overlays,
        media: EventMedia | None,
    ) -> None:
        self._drawn = bool(media or overlays.files)
        self.source = source.with_pictures() if self._drawn else source
        """Of the frames to score, with their pictures if any is drawn."""
        self.events: list[Event] = []
        """Those that nothing can change any more; with their stills and clips once the block has ended."""
        self._rule, self._levels, self._finder = rule, levels, EventFinder(rule)
        self._overlays, self._media = overlays, media
        self._video: str | None = None

    def add(self, frame: ScoredFrame) -> None:
        """Takes the next frame of the source, in order."""
        video = frame.key.video
        if video != self._video:
            self._end_video()
            self._video = video
            self._overlays.begin(video)
        size = self.source.sizes[video]
        regions = find_regions(frame.anomaly_map, self._levels.off, *size)
        change = self._change(frame, regions, size)
        if self._drawn and not frame.picture:
            raise DataError(
                f"{video}: frame {frame.key.frame} has no picture; score the frames of `writers.source`"
            )
        if self._media and frame.picture:
            self._media.add(Shot(frame.key, frame.picture, tuple(region.box for region in regions[:1])), change)
        self._overlays.add(frame, self._boxes(regions, change), change.in_event, self._rule.on_threshold)

    def finish(self) -> None:
        """Ends the last video; called by `video_writers` at the end of its block."""
        self._end_video()
        if self._media:
            self.events = self._media.commit(self.events)

    def _change(self, frame: ScoredFrame, regions: Sequence[Region], size: tuple[int, int]) -> Change:
        """What the frame means for the events; an event that is over is noted."""
        before = self._finder.open_since
        event = self._finder.push(frame.key, frame.score, lambda: self._peak(frame, regions, size))
        now = self._finder.open_since
        self._note(event)
        changed = now != before
        return Change(bool(now) and changed, self._finder.in_event, bool(before) and changed, event)

    def _end_video(self) -> None:
        was_open = self._finder.open_since is not None
        event = self._finder.close()
        self._note(event)
        if self._media:
            self._media.end_video(Change(False, False, was_open, event))
        self._overlays.end()

    def _note(self, event: Event | None) -> None:
        if event:
            self.events.append(replace(event, payload=None))  # a picture of each would fill the memory

    def _boxes(self, regions: Sequence[Region], change: Change) -> list[Box]:
        return [region.box for region in regions if region.peak >= self._levels.on or change.in_event]

    def _peak(self, frame: ScoredFrame, regions: Sequence[Region], size: tuple[int, int]) -> PeakDetail:
        height, width = size
        box = regions[0].box if regions else None
        part = (0.0, 0.0, 1.0, 1.0)
        if box:
            part = (box.left / width, box.top / height, box.right / width, box.bottom / height)
        items = tuple(ItemUse(*use) for use in frame.items(part)[:EVENT_ITEMS])
        # a copy, as the map is a view of the maps of the whole clip
        payload = Peak(frame.picture, frame.anomaly_map.copy()) if self._media and frame.picture else None
        return PeakDetail(box, items, payload)


class _Overlays(Output):
    """The overlay of each video that has one."""

    def __init__(self, files: Mapping[str, Path], map_threshold: float) -> None:
        super().__init__()
        self.files, self._map_threshold = files, map_threshold
        self._writer: OverlayWriter | None = None

    def begin(self, video: str) -> None:
        if (path := self.files.get(video)) and not self.failed:
            with self.trying():
                self._writer = self.enter_context(OverlayWriter(path, self._map_threshold))

    def add(self, frame: ScoredFrame, boxes: Sequence[Box], in_event: bool, threshold: float) -> None:
        if not self._writer or not frame.picture or self.failed:
            return
        key, caption = frame.key, frame_caption(frame.key.time_s, frame.score, threshold)
        with self.trying():
            self._writer.write(key.time_s, frame.picture.rgb(), frame.anomaly_map, boxes, caption, in_event)

    def end(self) -> None:
        self._writer = None
        with self.trying():
            self.close()
