"""The events of one camera while they happen, as messages."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from memae.errors import WriteError
from memae.live.capture import CapturedFrame
from memae.live.message import EndedBy, EventMessage, RelativeBox, new_event_id
from memae.live.packets import PacketRing, Taking
from memae.live.pictures import save_rebuilt
from memae.plots.regions import find_regions
from memae.types import Box
from memae.video.events import Event, EventFinder, EventRule, PeakDetail
from memae.video.media import Peak
from memae.video.pipeline import MapLevels
from memae.video.render import frame_caption, save_still
from memae.video.scoring import ScoredFrame

__all__ = ["CameraEvents", "MediaRule"]

log = logging.getLogger("memae")

UPDATE_S = 5.0  # between two updates of an event


class _Shown(NamedTuple):
    """What is drawn of the frame of an event with the highest score."""

    peak: Peak
    seen: np.ndarray
    """(H, W) as the network saw it."""
    rebuilt: np.ndarray
    """(H, W)"""


@dataclass(frozen=True)
class MediaRule:
    """Where stills and clips of events go, and how long events get."""

    folder: Path
    before_s: float = 5.0
    after_s: float = 5.0
    greatest_s: float = 300.0
    """A longer event ends, and another begins."""


class CameraEvents:
    """Finds the events of one camera, tells them, and has their stills and clips written.

    Args:
        rule: when frames make an event.
        levels: of the anomaly maps, for boxes and colours.
        media: stills and clips.
        ring: of the packets of the camera.
        tell: takes the messages, from any thread.
    """

    def __init__(
        self,
        rule: EventRule,
        levels: MapLevels,
        media: MediaRule,
        ring: PacketRing,
        tell: Callable[[EventMessage], None],
    ) -> None:
        self._rule, self._levels, self._media, self._ring, self._tell = rule, levels, media, ring, tell
        self._finder = EventFinder(rule)
        self._open: EventMessage | None = None
        self._event: Event | None = None
        self._taking: Taking | None = None
        self._finished = _Finished(tell)
        self._told_at = self._begun_at = 0.0

    @property
    def is_open(self) -> bool:
        """An event goes on."""
        return self._open is not None or self._finder.open_event is not None

    def add(self, frame: ScoredFrame, captured: CapturedFrame) -> None:
        """Adds the next scored frame."""
        size = captured.picture.turn.of_size((captured.picture.frame.height, captured.picture.frame.width))

        def detail() -> PeakDetail:
            regions = find_regions(frame.anomaly_map, self._levels.off, *size)
            # copies, as they are views of the whole clip
            seen, rebuilt = (part[frame.index_in_clip].cpu().numpy().copy() for part in frame.clip[:2])
            shown = _Shown(Peak(captured.picture, frame.anomaly_map.copy()), seen, rebuilt)
            return PeakDetail(regions[0].box if regions else None, (), shown, frame.part)

        final = self._finder.push(frame.key, frame.score, detail)
        if self._open and self._finder.open_event is None:
            self._end("quiet", final)
        event = self._finder.open_event
        if event is None or event.duration_s < self._rule.least_s:
            return
        self._go_on(event, frame, captured, size)
        if self._open and captured.at - self._open.started_at >= self._media.greatest_s:
            self._end("greatest length", self._finder.close())

    def end(self, why: EndedBy) -> None:
        """The stretch of frames is over: ends the event that is open."""
        final = self._finder.close()
        if self._open:
            self._end(why, final)

    def _go_on(self, event: Event, frame: ScoredFrame, captured: CapturedFrame, size: tuple[int, int]) -> None:
        began = self._open is None
        if self._open is None:
            started_at = captured.at - (frame.key.time_s - event.start_s)
            self._open = EventMessage(
                "new", new_event_id(started_at), frame.key.video, started_at, captured.at, None, frame.score,
                event.peak, captured.at, self._rule.on_threshold,
            )  # fmt: skip
        at = captured.at - (frame.key.time_s - event.end_s)
        new_peak = event.peak > self._open.peak_score or began
        self._open = replace(self._open, updated_at=max(at, self._open.updated_at), score=frame.score)
        if new_peak:
            peak_at = captured.at - (frame.key.time_s - event.peak_s)
            boxes = (_relative(event.region, size),) if event.region else ()
            self._open = replace(self._open, peak_score=event.peak, peak_at=peak_at, boxes=boxes)
        self._event = event
        if began:
            self._begin_clip(self._open)
        elif self._taking is not None:
            self._ring.extend(self._taking, self._open.updated_at + self._media.after_s)
        if began or captured.at - self._told_at >= UPDATE_S:
            self._told_at = captured.at
            if new_peak:
                self._open = self._with_pictures(self._open, event)
            self._tell(replace(self._open, type="new" if began else "update"))

    def _begin_clip(self, message: EventMessage) -> None:
        self._taking, self._finished = None, _Finished(self._tell)
        try:
            since, until = message.started_at - self._media.before_s, message.updated_at + self._media.after_s
            self._taking = self._ring.take(self._path(message, "mp4"), since, self._finished.clip, until)
        except WriteError as error:
            log.error("camera %s: no clip of an event: %s", message.source, error)

    def _end(self, why: EndedBy, final: Event | None) -> None:
        message, event = self._open, final or self._event
        assert message is not None and event is not None
        self._open = self._event = None
        last = replace(message, type="end", ended_at=message.updated_at, ended_by=why)
        last = self._with_pictures(last, event)
        self._finished.end(last, has_clip=self._taking is not None)
        if self._taking is not None:
            self._ring.extend(self._taking, message.updated_at + self._media.after_s, ends=True)

    def _with_pictures(self, message: EventMessage, event: Event) -> EventMessage:
        """The message with pictures of the peak so far; those that cannot be written stay as they were."""
        shown: _Shown | None = event.payload
        if shown is None:
            return message
        path, rebuilt = self._path(message, "png"), self._path(message, "rebuilt.png")
        facts = frame_caption(event.peak_s, event.peak, self._rule.on_threshold, event.part)
        boxes = [event.region] if event.region else []
        try:
            frame, anomaly_map = shown.peak.picture.rgb(), shown.peak.anomaly_map
            save_still(path, frame, anomaly_map, self._levels.on, boxes, f"{message.source}   {facts}")
            save_rebuilt(rebuilt, shown.seen, shown.rebuilt)
        except (WriteError, OSError) as error:
            log.error("camera %s: no still of an event: %s", message.source, error)
            return message
        return replace(message, still=path, rebuilt=rebuilt)

    def _path(self, message: EventMessage, suffix: str) -> Path:
        return self._media.folder / message.source / f"{message.id}.{suffix}"


class _Finished:
    """Tells the end of an event once its clip is written, and at once if there is none."""

    def __init__(self, tell: Callable[[EventMessage], None]) -> None:
        self._tell = tell
        self._last: EventMessage | None = None
        self._clip: Path | None = None
        self._done = False

    def end(self, last: EventMessage, has_clip: bool) -> None:
        self._last = last
        if self._done or not has_clip:
            self._tell(replace(last, clip=self._clip))

    def clip(self, path: Path | None, why: str | None) -> None:
        self._done, self._clip = True, path
        if why:
            log.error("a clip could not be written: %s", why)
        if self._last is not None:
            self._tell(replace(self._last, clip=path))


def _relative(box: Box, size: tuple[int, int]) -> RelativeBox:
    height, width = size
    return RelativeBox(box.left / width, box.top / height, box.right / width, box.bottom / height)
