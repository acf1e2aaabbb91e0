"""A still and a clip of each event, written in one pass while the frames come, and the rows of events."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from memae.files import atomic_directory, atomic_file
from memae.types import FrameKey, Picture
from memae.video.events import Event
from memae.video.outputs import Output
from memae.video.recent import RecentFrames, Shot
from memae.video.render import OverlayWriter, clock, frame_caption, plain_text, save_still

__all__ = ["Change", "EventMedia", "MediaRule", "Peak", "write_events"]


class Change(NamedTuple):
    """What a frame means for the events."""

    began: bool
    """It is the first frame of an event."""
    in_event: bool
    """It is part of an event."""
    ended: bool
    """An event is over: `event`, or one that was too short."""
    event: Event | None


class Peak(NamedTuple):
    """The frame of an event with the highest score; the payload of the event."""

    picture: Picture
    anomaly_map: np.ndarray
    """(h, w)"""


@dataclass(frozen=True)
class MediaRule:
    """What stills and clips show."""

    before_s: float
    """Seconds of a clip before the first frame of its event."""
    after_s: float
    """Seconds after its last one."""
    threshold: float
    """The score that begins an event, for captions."""
    map_threshold: float
    """Of anomaly maps, for their colours."""


class EventMedia(Output):
    """Writes a still and a clip of each event into a folder, which appears as a whole.

    A clip shows its event in a red border and the region with the largest error in a box. Its captions show the time
    in the whole video, and it begins at 0. The frames before an event come from a buffer of the latest `before_s`
    seconds or of the merge gap, whichever is longer; see `RecentFrames` for the memory that it takes.

    Args:
        folder: replaced if there is one; left alone while there are no events.
        merge_gap_s: of the rule of events.
        rule: what is shown.
    """

    def __init__(self, folder: Path, merge_gap_s: float, rule: MediaRule) -> None:
        super().__init__()
        self._folder, self._rule = folder, rule
        self._part: Path | None = None
        self._recent = RecentFrames(max(rule.before_s, merge_gap_s))
        self._open: _Clip | None = None  # of the event that may still change
        self._closing: list[_Clip] = []  # of events that are over, until `after_s` has passed
        self._events = 0

    def __exit__(self, *error: Any) -> bool:
        for clip in (*self._closing, *([self._open] if self._open else [])):
            clip.discard()
        return bool(super().__exit__(*error))

    def add(self, shot: Shot, change: Change) -> None:
        """Takes the next frame of a video."""
        if self.failed:
            return
        with self.trying():
            self._end_event(change)
            if change.began:
                begin_s = shot.key.time_s - self._rule.before_s
                before = [shot for shot in self._recent if shot.key.time_s >= begin_s]
                self._open = _Clip(self._named("mp4", self._events + 1), shot.key, before)
            self._recent.add(shot)
            if self._open and change.in_event:
                self._open.write(self._recent, in_event=True)
            for clip in self._closing:
                clip.write([shot])
            self._finish(shot.key.time_s)

    def end_video(self, change: Change) -> None:
        """Ends the clips of a video."""
        if self.failed:
            return
        with self.trying():
            self._end_event(change)
            self._finish(math.inf)
            self._recent.clear()

    def commit(self, events: Sequence[Event]) -> list[Event]:
        """Puts the folder in its place; gives all events with their files, or as they were if there was no room."""
        if self.failed:
            return list(events)
        with self.trying():
            if events or self._folder.exists():
                self._staged()
                self.close()
            else:
                self.__exit__(_Unwanted, _Unwanted(), None)
        if self.failed:
            return list(events)
        names = [str(self._folder / f"event-{number:04}") for number in range(1, len(events) + 1)]
        return [
            replace(event, still=f"{name}.png", clip=f"{name}.mp4")
            for event, name in zip(events, names, strict=True)
        ]

    def _end_event(self, change: Change) -> None:
        clip, event = self._open, change.event
        if not change.ended or clip is None:
            return
        if event is None:
            clip.discard()
        else:
            self._events += 1
            self._save_still(event)
            clip.end_s = event.end_s + self._rule.after_s
            clip.write(self._recent)
            self._closing.append(clip)
        self._open = None

    def _finish(self, time_s: float) -> None:
        """Ends the clips that no frame after this time belongs to."""
        for clip in [clip for clip in self._closing if clip.end_s < time_s]:
            self._closing.remove(clip)
            clip.finish()

    def _save_still(self, event: Event) -> None:
        assert isinstance(event.payload, Peak)
        caption = f"{event.video}   {frame_caption(event.peak_s, event.peak, self._rule.threshold)}"
        save_still(
            self._named("png", self._events),
            event.payload.picture.rgb(),
            event.payload.anomaly_map,
            self._rule.map_threshold,
            [event.region] if event.region else [],
            caption,
        )

    def _named(self, suffix: str, number: int) -> Path:
        return self._staged() / f"event-{number:04}.{suffix}"

    def _staged(self) -> Path:
        self._part = self._part or self.enter_context(atomic_directory(self._folder))
        return self._part


class _Unwanted(Exception):  # noqa: N818  it is no error
    """Closes files that are to be removed."""


class _Clip:
    """The video of one event. It is encoded while the event goes on, so that a long one takes no more memory."""

    def __init__(self, path: Path, first: FrameKey, before: Iterable[Shot]) -> None:
        self._file = ExitStack()
        self._writer = self._file.enter_context(OverlayWriter(path))
        self._begin_s: float | None = None
        self._next = 0  # number of the first frame that is not in it
        self.end_s = math.inf
        self.write(before)
        self._next = first.frame

    def write(self, shots: Iterable[Shot], in_event: bool = False) -> None:
        """Adds those of the frames that are not in it and not too late."""
        for shot in shots:
            key = shot.key
            if key.frame < self._next or key.time_s > self.end_s:
                continue
            self._begin_s = key.time_s if self._begin_s is None else self._begin_s
            self._next = key.frame + 1
            self._writer.write(
                key.time_s - self._begin_s,
                shot.picture.rgb(),
                boxes=shot.boxes if in_event else (),
                caption=f"{clock(key.time_s)}   {plain_text(key.video)}",
                in_event=in_event,
            )

    def finish(self) -> None:
        self._file.close()

    def discard(self) -> None:
        with suppress(Exception):  # what is thrown away may fail to close
            self._file.__exit__(_Unwanted, _Unwanted(), None)


def write_events(path: Path, events: Iterable[Event]) -> int:
    """Writes one JSON object a line and event, and returns how many; times in seconds, region in px.

    A number that is not finite becomes null.
    """
    count = 0
    with atomic_file(path) as part, part.open("w", encoding="utf-8", newline="\n") as file:
        for event in events:
            file.write(json.dumps(_row(event), ensure_ascii=False, allow_nan=False) + "\n")
            count += 1
    return count


def _row(event: Event) -> dict[str, Any]:
    return {
        "video": plain_text(event.video),
        "start_s": _rounded(event.start_s),
        "end_s": _rounded(event.end_s),
        "first_frame": event.first_frame,
        "last_frame": event.last_frame,
        "peak_s": _rounded(event.peak_s),
        "peak_frame": event.peak_frame,
        "peak_score": _significant(event.peak),
        "region": event.region._asdict() if event.region else None,
        "items": [{"item": use.item, "weight": _rounded(use.weight, 4)} for use in event.items],
        "still": None if event.still is None else plain_text(event.still),
        "clip": None if event.clip is None else plain_text(event.clip),
    }


def _rounded(value: float, digits: int = 3) -> float | None:
    return round(float(value), digits) if math.isfinite(value) else None


def _significant(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None
