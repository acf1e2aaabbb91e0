"""Frames with their times encoded into a video file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from memae.errors import ConfigError, DataError
from memae.files.atomic import atomic_file
from memae.video.decode import pyav

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

__all__ = ["OUTPUT_SUFFIXES", "VideoEncoder", "encoded_video"]

_CONTAINERS = {".mp4": "mp4", ".mkv": "matroska"}
OUTPUT_SUFFIXES = tuple(_CONTAINERS)
TICKS_PER_S = 60_000  # whole ticks a frame at 24, 25, 30, 50, 60 and 29.97 a second; MPEG-4 can do at most 65,535


@contextmanager
def encoded_video(path: Path) -> Iterator[VideoEncoder]:
    """Gives an encoder for a block; the file is there when the block has ended without an error.

    Args:
        path: .mp4 or .mkv, replaced if there is one.

    Raises:
        ConfigError: another suffix.
        MissingExtraError: PyAV is not installed.
        DataError: the block ended before any frame was written.
    """
    kind = _CONTAINERS.get(path.suffix.lower())  # named, because the name of the file in progress does not tell it
    if kind is None:
        raise ConfigError(f"{path}: cannot write a video with the suffix {path.suffix!r}; give .mp4 or .mkv")
    av = pyav("writing video")
    with atomic_file(path) as part, av.open(str(part), "w", format=kind) as container:
        encoder = VideoEncoder(container)
        yield encoder
        if not encoder.finish():
            raise DataError(f"{path}: no frame was given to write; a video needs at least one")


class VideoEncoder:
    """Encodes frames into a container; the first frame sets the size of the video."""

    def __init__(self, container: OutputContainer) -> None:
        self._container = container
        self._stream: VideoStream | None = None
        self._last = -1

    def write(self, time_s: float, pixels: np.ndarray) -> None:
        """Adds one frame.

        Args:
            time_s: presentation time from the beginning of the file, later than that of the frame before.
            pixels: (H, W, 3) uint8 RGB, of one size for the whole file.
        """
        import av

        height, width = pixels.shape[:2]
        even = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")  # yuv420p halves both sides
        if self._stream is None:
            self._stream = _add_stream(self._container, even.shape[0], even.shape[1])
        frame = av.VideoFrame.from_ndarray(even, format="rgb24")
        self._last = max(round(time_s * TICKS_PER_S), self._last + 1)  # no container takes one time twice
        frame.pts, frame.time_base = self._last, Fraction(1, TICKS_PER_S)
        self._container.mux(self._stream.encode(frame))

    def finish(self) -> bool:
        """Writes what the codec still holds, and returns whether there was any frame."""
        if self._stream is None:
            return False
        self._container.mux(self._stream.encode(None))
        return True


def _add_stream(container: OutputContainer, height: int, width: int) -> VideoStream:
    import av

    try:
        av.codec.Codec("libx264", "w")
    except ValueError:  # a PyAV that was built without GPL code
        stream = container.add_stream("mpeg4", rate=25)
        stream.bit_rate = 4 * height * width
    else:
        # with B-frames, which are written out of order, an MP4 of varying frame rate would lose its last second
        stream = container.add_stream("libx264", rate=25, options={"preset": "veryfast", "crf": "23", "bf": "0"})
    stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
    stream.codec_context.time_base = Fraction(1, TICKS_PER_S)
    return stream
