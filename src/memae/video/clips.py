"""Which frames make up a clip, and from which clip each frame takes its error.

A clip is `length` frames, `dilation` apart. Every frame of a video takes its error from exactly one clip. Clips start
`stride` frames apart, each owns the `stride` frames in its middle, the first clip owns all before them as well, and
what is left at the end belongs to a last clip that ends with the video. So a stride of 1 scores each frame at the
middle of a clip of its own (exact, slowest), `length` cuts the video into clips end to end (fastest), and half of it
uses the central half of each clip. A video that is shorter than one clip is mirrored at its end until it fills one.

With `latest` a clip owns its last `stride` frames in place of those in its middle. The frame of a camera is then scored
`stride` frames later at most, and else (`length` + `stride`) / 2. A network that predicts the last frame of a clip
takes this rule. The first frames of a video, too few to predict from, belong to its first clip.

With a dilation of d, the frames 0, d, 2d, ... and 1, d + 1, ... are so many videos, each cut by the same rule.

The released code aligns otherwise: one error for a whole clip, given to its frame 8 (from 0), and 15 frames of every
video go without: `released_frames`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import NamedTuple

import numpy as np

from memae.errors import ConfigError
from memae.video.frames import FrameKey, Frames

__all__ = ["Clip", "ClipCutter", "Windows", "released_frames"]


class Clip(NamedTuple):
    """One window on a video."""

    pixels: np.ndarray
    """(length, H, W) uint8."""
    owned: range
    """The places in the clip, counted from 0, of the frames whose error this clip gives."""
    keys: list[FrameKey]
    """One for each owned place."""


@dataclass(frozen=True)
class Windows:
    """The rule that cuts videos into clips.

    Args:
        length: frames in a clip.
        stride: frames from the start of a clip to that of the next, from 1 to `length`.
        dilation: frames from one frame of a clip to the next.
        latest: a clip owns its last frames, and not those in its middle.

    Raises:
        ConfigError: a number out of its range.
    """

    length: int
    stride: int
    dilation: int = 1
    latest: bool = False

    def __post_init__(self) -> None:
        if self.length < 1 or self.dilation < 1 or not 1 <= self.stride <= self.length:
            raise ConfigError(
                f"clips of {self.length} frames, {self.stride} apart, dilation {self.dilation}: lengths and dilation "
                "are at least 1, and the stride lies between 1 and the length, so that no frame is left out"
            )

    @property
    def first_owned(self) -> int:
        """Index in a clip of the first frame that it owns, for clips that touch neither end of the video."""
        behind = self.length - self.stride
        return behind if self.latest else behind // 2

    def training_clips(self, spans: Iterable[tuple[int, int]]) -> np.ndarray:
        """(S, length) frame numbers of the training clips; each clip lies within one span of video.

        Args:
            spans: first frame and the one behind the last of each span. A span that is shorter than a clip gives
                a single mirrored one.
        """
        found = []
        for start, stop in spans:
            for phase in range(min(self.dilation, stop - start)):
                places = np.arange(start + phase, stop, self.dilation)
                starts = np.arange(0, max(1, len(places) - self.length + 1), self.stride)
                found.append(places[_mirrored(starts[:, None] + np.arange(self.length), len(places))])
        return np.concatenate(found) if found else np.empty((0, self.length), dtype=np.int64)

    def clips(self, chunks: Iterable[Frames]) -> Iterator[Clip]:
        """Cuts videos that come in chunks into clips; holds at most one clip of frames for each phase.

        Within a phase the owned frames come in order, each once; dilated phases alternate.
        """
        return chain.from_iterable(self.batches(chunks, 1))

    def batches(self, chunks: Iterable[Frames], most: int) -> Iterator[list[Clip]]:
        """The same clips, at most `most` at a time, and none waits for a later chunk.

        So a file, which is read in long chunks, gives full batches, and a stream of single frames gives each clip at
        once.
        """
        cutter = ClipCutter(self)
        for chunk in chunks:
            yield from _batches(cutter.push(chunk), most)
        yield from _batches(cutter.end(), most)


def _batches(clips: Iterator[Clip], most: int) -> Iterator[list[Clip]]:
    while batch := list(islice(clips, most)):
        yield batch


class ClipCutter:
    """Makes clips of one video after the other, each as soon as the first frame behind it is there."""

    def __init__(self, windows: Windows) -> None:
        self._windows = windows
        self._video: str | None = None
        self._phases: list[_Phase] = []
        self._seen = 0  # frames of this video

    def push(self, chunk: Frames) -> Iterator[Clip]:
        """The clips that consecutive frames complete; the first frame of another video ends the one before."""
        dilation = self._windows.dilation
        for pixels, key in zip(chunk.pixels, chunk.keys, strict=True):
            if key.video != self._video:
                yield from self.end()
                self._video, self._seen = key.video, 0
                self._phases = [_Phase(self._windows) for _ in range(dilation)]
            yield from self._phases[self._seen % dilation].push(pixels, key)
            self._seen += 1

    def end(self) -> Iterator[Clip]:
        """The clips that own what no clip owns yet: the video is over."""
        for phase in self._phases:
            yield from phase.end()


class _Phase:
    """Makes clips of every d-th frame of one video, for a dilation d."""

    def __init__(self, windows: Windows) -> None:
        self._windows = windows
        self._pixels: list[np.ndarray] = []
        self._keys: list[FrameKey] = []
        self._first = 0  # the number of the first frame held
        self._seen = 0
        self._given = 0  # frames that have an owner

    def push(self, pixels: np.ndarray, key: FrameKey) -> Iterator[Clip]:
        # a full clip waits for one more frame: if none comes, it is the last and owns the rest
        if len(self._pixels) == self._windows.length:
            if self._first % self._windows.stride == 0:
                yield self._clip(self._first + self._windows.first_owned + self._windows.stride)
            del self._pixels[0], self._keys[0]
            self._first += 1
        self._pixels.append(pixels)
        self._keys.append(key)
        self._seen += 1

    def end(self) -> Iterator[Clip]:
        if self._given < self._seen:
            yield self._clip(self._seen)

    def _clip(self, until: int) -> Clip:
        """A clip of the held frames. It owns those before frame number `until` that no earlier clip owns."""
        owned = range(self._given - self._first, until - self._first)
        self._given = until
        order = _mirrored(np.arange(self._windows.length), len(self._pixels))
        return Clip(np.stack([self._pixels[i] for i in order]), owned, [self._keys[i] for i in owned])


def released_frames(frames: int, length: int = 16) -> range:
    """The frames that the released code scores: from each clip of stride 1, frame start + length / 2, counted from 0.

    For 16 frames a clip that is the label cut [8:-7].
    """
    first = length // 2
    return range(first, first + max(0, frames - length + 1))


def _mirrored(places: np.ndarray, count: int) -> np.ndarray:
    """Places beyond the end of `count` frames, walked back and forth: 0 1 2 3 2 1 0 1 ..."""
    if count == 1:
        return np.zeros_like(places)
    around = places % (2 * count - 2)
    mirrored: np.ndarray = np.minimum(around, 2 * count - 2 - around)
    return mirrored
