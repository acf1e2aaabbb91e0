"""The latest frames of a video, held so that a clip can begin before its event does."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image

from memae.video.frames import FrameKey, Picture
from memae.video.regions import Box

__all__ = ["RecentFrames", "Shot"]

PLAIN_BYTES = 64 << 20  # of pictures as they were decoded; older ones are held as JPEG
JPEG_QUALITY = 95  # takes about a tenth of RGB


@dataclass
class Shot:
    """One frame, with what a clip shows of it."""

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
        """Takes the next frame, and drops those that it makes too old."""
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
    """A picture in a fraction of its memory."""

    def __init__(self, pixels: np.ndarray) -> None:
        file = BytesIO()
        Image.fromarray(pixels).save(file, "jpeg", quality=JPEG_QUALITY)
        self._content = file.getvalue()

    @property
    def nbytes(self) -> int:
        """Of the file."""
        return len(self._content)

    def rgb(self) -> np.ndarray:
        """(H, W, 3) uint8."""
        with Image.open(BytesIO(self._content)) as image:
            return np.array(image)
