"""Writes overlays, and a still and a clip of each event, for people to watch.

All of it is drawn from the frames as they come. The latest ones are held, so that a clip can begin before its event.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from PIL import Image

from memae.errors import WriteError
from memae.files.atomic import atomic_directory, atomic_file, no_room
from memae.types import Box
from memae.video.encode import VideoEncoder, encoded_video
from memae.video.events import Event, EventRule
from memae.video.frames import FrameKey, Picture
from memae.video.render import annotated, clock, frame_caption, plain_text, save_still
from memae.video.scoring import ScoredFrame

__all__ = ["EventMedia", "Overlays", "Peak", "RecentFrames", "Shot", "write_events"]

PLAIN_BYTES = 64 << 20  # of pictures as they were decoded; older ones are held as JPEG
JPEG_QUALITY = 95  # takes about a tenth of RGB

T = TypeVar("T")


class Output(ExitStack):
    """The open files of one output. If the disk is full, the output is dropped and the work goes on.

    Args:
        wanted: False attempts nothing.
    """

    def __init__(self, *, wanted: bool) -> None:
        super().__init__()
        self.wanted = wanted
        self.failed: WriteError | None = None
        """Why it was dropped."""

    def attempt(self, work: Callable[..., T], *args: Any) -> T | None:
        """The result of `work`; None if the output is not wanted, or was dropped because the disk is full."""
        if not self.wanted or self.failed:
            return None
        try:
            return work(*args)
        except Exception as error:  # of whatever kind the library that wrote raises where there is no room
            if not (isinstance(error, WriteError) or no_room(error)):
                raise
            self.failed = self._dropped(error)
            return None

    def _dropped(self, error: Exception) -> WriteError:
        try:
            self.__exit__(type(error), error, error.__traceback__)
        except WriteError as named:  # by the output itself, and not by an unfinished file of it
            return named
        assert isinstance(error, WriteError), "whoever opens a file turns a full disk into a WriteError"
        return error


class Overlays(Output):
    """Writes the overlay of each video that has one; a file is complete when its video is.

    Args:
        files: where to, by the name of the video.
        map_threshold: of the anomaly maps, for their colours.
        on_threshold: the score that begins an event, for captions.
    """

    def __init__(self, files: Mapping[str, Path], map_threshold: float, on_threshold: float) -> None:
        super().__init__(wanted=bool(files))
        self._files, self._map_threshold, self._on_threshold = files, map_threshold, on_threshold
        self._encoder: VideoEncoder | None = None

    def add(self, frame: ScoredFrame, picture: Picture, boxes: Sequence[Box], in_event: bool) -> None:
        """Writes the next frame of a video."""
        self._encoder = self._encoder or self.enter_context(encoded_video(self._files[frame.key.video]))
        caption = frame_caption(frame.key.time_s, frame.score, self._on_threshold, frame.part)
        shown = (frame.anomaly_map, self._map_threshold)
        pixels = annotated(picture.rgb(), boxes, caption, shown, in_event=in_event)
        self._encoder.write(frame.key.time_s, pixels)

    def end_video(self) -> None:
        """Completes the file."""
        self._encoder = None  # it holds the frames that the codec looks ahead at
        self.close()


ROUNDING_S = 1e-6  # a frame just so long before or after an event is in its clip, however sums of seconds round


@dataclass
class Shot:
    """One frame with the boxes that a clip draws on it."""

    key: FrameKey
    picture: Picture
    boxes: tuple[Box, ...]
    """Drawn around if the frame is part of an event, in its px."""


class RecentFrames:
    """The frames of the last seconds of one video.

    They take at most `PLAIN_BYTES`, and the JPEG files of what exceeds that: for 1920 x 1080 px about 0.6 MB a frame,
    so 3 s at 25 frames a second take 64 MB and 35 MB.

    Args:
        seconds: how old a frame gets.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.clear()

    def clear(self) -> None:
        """Drops all frames, for another video."""
        self._shots: deque[Shot] = deque()
        self._plain: deque[Shot] = deque()  # the newest of them, which are not compressed
        self._plain_bytes = 0

    def add(self, shot: Shot) -> None:
        """Adds the next frame, and drops those that are too old now."""
        self._shots.append(shot)
        self._plain.append(shot)
        self._plain_bytes += shot.picture.nbytes
        while self._shots[0].key.time_s < shot.key.time_s - self._seconds:
            if self._shots.popleft() is self._plain[0]:
                self._plain_bytes -= self._plain.popleft().picture.nbytes
        while self._plain_bytes > PLAIN_BYTES and len(self._plain) > 1:
            oldest = self._plain.popleft()
            self._plain_bytes -= oldest.picture.nbytes
            oldest.picture = _Jpeg(oldest.picture.rgb())

    def __iter__(self) -> Iterator[Shot]:
        return iter(self._shots)


class _Jpeg:
    """A picture compressed as JPEG, to save memory."""

    def __init__(self, pixels: np.ndarray) -> None:
        file = BytesIO()
        Image.fromarray(pixels).save(file, "jpeg", quality=JPEG_QUALITY)
        self._content = file.getvalue()

    @property
    def nbytes(self) -> int:
        """Size of the JPEG file, bytes."""
        return len(self._content)

    def rgb(self) -> np.ndarray:
        """(H, W, 3) uint8."""
        with Image.open(BytesIO(self._content), formats=("JPEG",)) as image:
            return np.array(image)


class Peak(NamedTuple):
    """The frame of an event with the highest score; the payload of the event."""

    picture: Picture
    anomaly_map: np.ndarray
    """(h, w)"""


class EventMedia(Output):
    """Writes a still and a clip of each event into a folder, which appears when it is complete.

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

    def add(self, shot: Shot, ended: Event | None, open_since: FrameKey | None, in_event: bool) -> None:
        """Adds the next frame of a video.

        Args:
            shot: the frame.
            ended: the event that it made final.
            open_since: the first frame of the event that may still change.
            in_event: whether the frame is part of that one.
        """
        if self._open and self._open.first != open_since:
            self._end_event(ended)
        if open_since and not self._open:
            before = (
                old for old in self._recent if old.key.time_s >= open_since.time_s - self._before_s - ROUNDING_S
            )
            self._open = _Clip(self._path(self._events + 1, "mp4"), open_since, before)
        self._recent.add(shot)
        if self._open and in_event:
            self._open.write(self._recent, in_event=True)
        for clip in self._closing:
            clip.write([shot])
        self._finish(shot.key.time_s)

    def end_video(self, ended: Event | None) -> None:
        """Ends all clips of a video, including that of the event that ends with the video."""
        if self._open:
            self._end_event(ended)
        self._finish(math.inf)
        self._recent.clear()

    def commit(self, events: list[Event]) -> list[Event]:
        """Moves the folder to its place, and returns the events with the paths of their files."""
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

    def _end_event(self, event: Event | None) -> None:
        """Closes the open event; None if it was too short, and its clip is discarded."""
        clip, self._open = self._open, None
        assert clip is not None, "an event begins before it ends"
        if event is None:
            clip.discard()
            return
        self._events += 1
        self._closing.append(clip)
        self._save_still(event)
        clip.end_s = event.end_s + self._after_s + ROUNDING_S
        clip.write(self._recent)

    def _finish(self, time_s: float) -> None:
        """Closes the clips that end before this time."""
        for clip in [clip for clip in self._closing if clip.end_s < time_s]:
            self._closing.remove(clip)
            clip.close()

    def _save_still(self, event: Event) -> None:
        peak: Peak = event.payload
        told = frame_caption(event.peak_s, event.peak, self._rule.on_threshold, event.part)
        caption = f"{event.video}   {told}"
        boxes = [event.region] if event.region else []
        path = self._path(self._events, "png")
        save_still(path, peak.picture.rgb(), peak.anomaly_map, self._map_threshold, boxes, caption)

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
        self.first = first
        self._begin_s: float | None = None
        self._next = 0  # number of the first frame that is not in it
        self.end_s = math.inf
        self.write(before)
        self._next = first.frame

    def write(self, shots: Iterable[Shot], in_event: bool = False) -> None:
        """Adds the frames that the clip does not have yet and that are not after its end."""
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
    """Writes one line of JSON for each event and returns their number; times in seconds, regions in px.

    A number that is not finite becomes null.
    """
    rows = [json.dumps(_row(event), ensure_ascii=False, allow_nan=False) + "\n" for event in events]
    with atomic_file(path) as part, part.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(rows)
    return len(rows)


def _row(event: Event) -> dict[str, Any]:
    return {
        "video": plain_text(event.video),
        "start_s": _rounded(event.start_s),
        "end_s": _rounded(event.end_s),
        "first_frame": event.first_frame,
        "last_frame": event.last_frame,
        "peak_s": _rounded(event.peak_s),
        "peak_frame": event.peak_frame,
        "peak_score": float(f"{event.peak:.6g}") if math.isfinite(event.peak) else None,
        "part": event.part,
        "region": event.region._asdict() if event.region else None,
        "items": [{"item": use.item, "weight": _rounded(use.weight, 4)} for use in event.items],
        "still": None if event.still is None else plain_text(event.still),
        "clip": None if event.clip is None else plain_text(event.clip),
    }


def _rounded(value: float, digits: int = 3) -> float | None:
    return round(float(value), digits) if math.isfinite(value) else None
