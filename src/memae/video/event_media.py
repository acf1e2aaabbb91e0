"""A still and a clip of each event, written in one pass while the frames come, and the rows of events."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from memae.files.atomic import atomic_directory, atomic_file
from memae.video.encode import encoded_video
from memae.video.events import Event, EventRule
from memae.video.frames import FrameKey, Picture
from memae.video.outputs import Output
from memae.video.recent import RecentFrames, Shot
from memae.video.render import annotated, clock, frame_caption, plain_text, save_still

__all__ = ["EventMedia", "Peak", "write_events"]


class Peak(NamedTuple):
    """The frame of an event with the highest score; the payload of the event."""

    picture: Picture
    anomaly_map: np.ndarray
    """(h, w)"""


class EventMedia(Output):
    """Writes a still and a clip of each event into a folder, which appears as a whole.

    A clip shows its event in a red border and the region with the largest error in a box. Its captions show the time
    in the whole video, and it begins at 0. The frames before an event come from a buffer of the latest `before_s`
    seconds or of the merge gap, whichever is longer; see `RecentFrames` for the memory that it takes.

    Args:
        folder: replaced if there is one, left alone while there are no events; None writes nothing.
        rule: when frames make an event.
        map_threshold: of anomaly maps, for their colours.
        before_s: seconds of a clip before the first frame of its event.
        after_s: seconds after its last one.
    """

    def __init__(
        self, folder: Path | None, rule: EventRule, map_threshold: float, before_s: float, after_s: float
    ) -> None:
        super().__init__(wanted=folder is not None)
        self._folder = folder or Path()
        self._rule, self._map_threshold = rule, map_threshold
        self._before_s, self._after_s = before_s, after_s
        self._recent = RecentFrames(max(before_s, rule.merge_gap_s))
        self._staged: Path | None = None
        self._events = 0
        self._open: _Clip | None = None  # of the event that may still change
        self._closing: list[_Clip] = []  # of events that are over, until `after_s` has passed

    def __exit__(self, *error: Any) -> bool:
        for clip in (*self._closing, *([self._open] if self._open else [])):
            clip.discard()
        return bool(super().__exit__(*error))

    def begin_event(self, first: FrameKey) -> None:
        """An event begins with the frame that is added next."""
        before = (shot for shot in self._recent if shot.key.time_s >= first.time_s - self._before_s)
        self._open = _Clip(self._path(self._events + 1, "mp4"), first, before)

    def add(self, shot: Shot, in_event: bool) -> None:
        """Takes the next frame of a video."""
        self._recent.add(shot)
        if self._open and in_event:
            self._open.write(self._recent, in_event=True)
        for clip in self._closing:
            clip.write([shot])
        self._finish(shot.key.time_s)

    def end_event(self, event: Event | None) -> None:
        """The event is over, as it stands, or was too short."""
        assert self._open is not None, "an event begins before it ends"
        if event is None:
            self._open.discard()
        else:
            self._events += 1
            self._save_still(event)
            self._open.end_s = event.end_s + self._after_s
            self._open.write(self._recent)
            self._closing.append(self._open)
        self._open = None

    def end_video(self) -> None:
        """Ends the clips of a video."""
        self._finish(math.inf)
        self._recent.clear()

    def commit(self, events: list[Event]) -> list[Event]:
        """Puts the folder in its place; gives the events with the paths of their files."""
        if not events and not self._folder.exists():
            self.__exit__(_Unwanted, _Unwanted(), None)
            return events
        self._path(0, "")
        self.close()
        names = [str(self._folder / f"event-{number + 1:04}") for number in range(len(events))]
        return [
            replace(event, still=f"{name}.png", clip=f"{name}.mp4")
            for event, name in zip(events, names, strict=True)
        ]

    def _finish(self, time_s: float) -> None:
        """Ends the clips that no frame after this time belongs to."""
        for clip in [clip for clip in self._closing if clip.end_s < time_s]:
            self._closing.remove(clip)
            clip.close()

    def _save_still(self, event: Event) -> None:
        peak: Peak = event.payload
        caption = f"{event.video}   {frame_caption(event.peak_s, event.peak, self._rule.on_threshold)}"
        save_still(
            self._path(self._events, "png"),
            peak.picture.rgb(),
            peak.anomaly_map,
            self._map_threshold,
            [event.region] if event.region else [],
            caption,
        )

    def _path(self, number: int, suffix: str) -> Path:
        self._staged = self._staged or self.enter_context(atomic_directory(self._folder))
        return self._staged / f"event-{number:04}.{suffix}"


class _Unwanted(Exception):  # noqa: N818  it is no error
    """Closes files that are to be removed."""


class _Clip(ExitStack):
    """The video of one event. It is encoded while the event goes on, so that a long one takes no more memory."""

    def __init__(self, path: Path, first: FrameKey, before: Iterable[Shot]) -> None:
        super().__init__()
        self._encoder = self.enter_context(encoded_video(path))
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
            caption = f"{clock(key.time_s)}   {key.video}"
            pixels = annotated(shot.picture.rgb(), shot.boxes if in_event else (), caption, in_event=in_event)
            self._encoder.write(key.time_s - self._begin_s, pixels)

    def discard(self) -> None:
        with suppress(Exception):  # what is thrown away may fail to close
            self.__exit__(_Unwanted, _Unwanted(), None)


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
