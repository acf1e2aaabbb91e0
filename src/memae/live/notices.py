"""What is told of the pictures of a camera: black, frozen, without colours, or at another rate than the model knows."""

from __future__ import annotations

from typing import Any

import numpy as np

from memae.video.decode import pyav

__all__ = ["Look", "SentRate"]

FROZEN_S, BLACK_GREY = 20.0, 20
BRIGHT_SHARE = 0.005  # of a picture that is not black
COLOUR_S, COLOUR_PX = 1.0, (64, 48)  # how often, and at what size, a picture is asked for its colours
RATE_S, HOLE_S = 5.0, 2.0  # of frames that tell the rate of a stream, without a hole
ALIKE = 1.25  # times as many frames, either way


class SentRate:
    """Compares the rate of a stream with the one that the network knows.

    Args:
        known: frames a second.
    """

    def __init__(self, known: float) -> None:
        self._known, self._times = known, 1.0
        self.begin()

    def begin(self) -> None:
        """Another connection."""
        self._first_s = self._last_s = 0.0
        self._count = 0

    def note(self, time_s: float) -> str:
        """Takes the time of each frame that is sent; a note where they are other than before, and else nothing."""
        if not self._count or not 0 <= time_s - self._last_s <= HOLE_S:
            self._first_s, self._count = time_s, 0
        self._last_s = time_s
        self._count += 1
        if time_s - self._first_s < RATE_S:
            return ""
        sent = (self._count - 1) / (time_s - self._first_s)
        self._count = 0
        before, self._times = self._times, sent / self._known
        if max(before, self._times) <= ALIKE * min(before, self._times):
            return ""
        at = f"{sent:.3g} frames/s arrive, and the model was trained at {self._known:.3g}"
        if self._times > ALIKE:
            return f"{at}: so many of them are scored"
        if self._times * ALIKE < 1:
            return f"{at}: motion looks faster to it than it is; let the camera send more, or train on this camera"
        return f"{at}"


class Look:
    """Notices a picture that stands, is black, or has lost its colours."""

    def __init__(self, has_colour: bool = False) -> None:
        self.has_colour = has_colour
        self._last: np.ndarray | None = None
        self._changed_s = 0.0
        self._colour, self._colour_s = 0.0, float("-inf")
        self._size: tuple[int, int] | None = None
        self._scaler = pyav("watching cameras").video.reformatter.VideoReformatter()

    def resized(self, size: tuple[int, int]) -> bool:
        """Whether a frame is of another size (height, width) than the one before."""
        before, self._size = self._size, size
        return before is not None and before != size

    def at(self, pixels: np.ndarray, decoded: Any, time_s: float) -> str:
        """A note on a frame at a time, from its pixels (H, W) and as it was decoded; empty if nothing is odd."""
        if self._last is None or not np.array_equal(pixels, self._last):
            self._last, self._changed_s = pixels, time_s
        if not 0 <= time_s - self._colour_s < COLOUR_S:
            self._colour, self._colour_s = self._colour_of(decoded), time_s
        self.has_colour = self.has_colour or self._colour > 4
        if np.count_nonzero(pixels >= BLACK_GREY) < BRIGHT_SHARE * pixels.size:
            return "picture black"
        if time_s - self._changed_s > FROZEN_S:
            return "picture frozen"
        return "night mode" if self.has_colour and self._colour < 1 else ""

    def _colour_of(self, decoded: Any) -> float:
        """How far its chroma is from grey, in levels of 8 bits, as the mean over some of its pixels."""
        small = self._scaler.reformat(decoded, *COLOUR_PX, "yuv420p", interpolation="POINT").to_ndarray()
        return float(np.abs(small[COLOUR_PX[1] :].astype(np.int16) - 128).mean())
