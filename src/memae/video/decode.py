"""The frames of a video file with their times, decoded once each by FFmpeg."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from memae.errors import DataError, MissingExtraError
from memae.video.ends import cut_short
from memae.video.frames import FrameKey, Picture

if TYPE_CHECKING:
    from av import FFmpegError
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.reformatter import VideoReformatter
    from av.video.stream import VideoStream

__all__ = ["DecodedFrame", "DecodedPicture", "Turn", "Video", "VideoFile", "is_cover", "pyav", "turn_of"]

# FFmpeg goes by the content, whatever the suffix says. Its readers of playlists (hls, concat, dash, ...) open the
# files and addresses that stand in there, so only these readers are allowed, and these only to open local files.
_READERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,asf,mpeg,mpegts,mpegvideo,m4v"
_OPTIONS = {"format_whitelist": _READERS, "protocol_whitelist": "file"}
# Of the others FFmpeg makes up a length from what is there.
_STATES_LENGTH = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi"}

_PLAYLIST_HEADS = (b"#EXTM3U", b"ffconcat", b"[playlist]")
_CURE = "copy the file again, or make one of what is there:  ffmpeg -i BROKEN -c copy WHOLE.mkv"


class DecodedFrame(NamedTuple):
    """One frame of one video."""

    key: FrameKey
    grey: np.ndarray
    """(H, W) uint8, at the size that was asked for."""
    picture: Picture | None
    """At the size of the video; None unless it was asked for."""


class Video(Protocol):
    """The interface of a video file and of a folder of frames."""

    path: Path
    size: tuple[int, int]
    """(height, width) in px of a frame as it is shown, upright."""
    rate: float
    """Frames per second, on average."""
    about: int
    """Frames, as far as is known without decoding them; 0 where nothing tells."""

    def check_whole(self) -> None:
        """Raises an error if the end is missing, as far as this can be seen without decoding.

        Raises:
            DataError: it is.
        """
        ...

    def frames(self, name: str, size: tuple[int, int], pictures: bool) -> Iterator[DecodedFrame]:
        """All frames in order, each decoded once.

        Args:
            name: of the video, in the keys.
            size: (height, width) in px of the grey frames.
            pictures: give each frame as it was decoded, too.

        Raises:
            DataError: it breaks off, or cannot be decoded further.
        """
        ...


class VideoFile:
    """An encoded video file. Opening it decodes one frame, so that a bad file is noticed before the work starts.

    Raises:
        DataError: an empty file, a playlist, or one without a video stream that can be decoded.
        MissingExtraError: PyAV is not installed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.stat().st_size == 0:
            raise DataError(f"{path}: the file is empty; check how it was written")
        with _opened(path) as (container, stream):
            from av import time_base  # of the length of a container

            with closing(self._decoded(container, stream)) as frames:
                first = next(frames)
            # FFmpeg makes up the times of reordered frames that AVI and ASF do not store, and orders them wrongly
            untimed = container.format.name in ("avi", "asf") and stream.codec_context.has_b_frames
            self._container = container.format.name
            self._first_pts = None if untimed else first.pts
            self._tick = first.time_base or Fraction(1, 90_000)
            self._mean_rate = stream.average_rate or stream.guessed_rate or Fraction(25)
            states_length = container.format.name in _STATES_LENGTH
            self.about = round((container.duration or 0) / time_base * self._mean_rate) if states_length else 0
        self.rate = float(self._mean_rate)
        self._turn = turn_of(first)
        self.size = self._turn.of_size((first.height, first.width))

    def check_whole(self) -> None:
        """Raises an error if the file ends within a part of its container; see `memae.video.ends`.

        Raises:
            DataError: it does.
        """
        if cut_short(self.path, self._container):
            raise DataError(f"{self.path}: was cut short, as its last part is not whole; {_CURE}")

    def frames(self, name: str, size: tuple[int, int], pictures: bool) -> Iterator[DecodedFrame]:
        """All frames, resized and turned upright; see `Video`."""
        from av.video.reformatter import VideoReformatter

        # each keeps its tables between frames; pictures take one of their own, as another thread may draw them
        scaler, painter = VideoReformatter(), VideoReformatter()
        height, width = self._turn.of_size(size)
        with _opened(self.path) as (container, stream):
            for number, (decoded, time_s) in enumerate(self._timed(self._decoded(container, stream))):
                # the scaler takes AREA as bilinear where it enlarges
                scaled = scaler.reformat(decoded, width, height, "gray", interpolation="AREA")
                picture = DecodedPicture(decoded, painter, self._turn) if pictures else None
                yield DecodedFrame(FrameKey(name, number, time_s), self._turn(scaled.to_ndarray()), picture)

    def _timed(self, frames: Iterator[VideoFrame]) -> Iterator[tuple[VideoFrame, float]]:
        """Frames with their times in s from the first; missing or decreasing times follow from the average rate."""
        origin, last_s = self._first_pts, -math.inf
        for number, decoded in enumerate(frames):
            if origin is None:
                yield decoded, float(number / self._mean_rate)
                continue
            time_s = last_s if decoded.pts is None else float((decoded.pts - origin) * self._tick)
            if time_s <= last_s:
                time_s = last_s + float(1 / self._mean_rate)
                if decoded.pts is not None:  # a recording joined of several: the clock goes on from here
                    origin = decoded.pts - round(time_s / self._tick)
            last_s = time_s
            yield decoded, time_s

    def _decoded(self, container: InputContainer, stream: VideoStream) -> Generator[VideoFrame]:
        """Frames in the order of presentation, at least one.

        What cannot be decoded before the first frame is passed over: a recording may start between keyframes.
        """
        from av import FFmpegError

        stream.thread_type = "AUTO"
        count, reached_s = 0, 0.0
        failure: FFmpegError | None = None
        try:
            for packet in container.demux():
                if packet.pts is not None:
                    reached_s = max(reached_s, float((packet.pts + (packet.duration or 0)) * packet.time_base))
                if packet.stream.index != stream.index:  # packet.stream_index is 0 in all that end a stream
                    continue
                try:
                    frames = stream.decode(packet)
                except FFmpegError as error:
                    failure = error
                    if count:
                        raise
                    continue
                count += len(frames)
                yield from frames
        except FFmpegError as error:
            raise DataError(
                f"{self.path}: breaks off {reached_s:.1f} s in, with {count} frames read, after that: "
                f"{error.strerror}; {_CURE}"
            ) from None
        if not count:
            raise DataError(
                f"{self.path}: no frame can be decoded ({failure.strerror if failure else 'it holds none'}); "
                "record or copy it again"
            )


class Turn(NamedTuple):
    """How decoded pixels become upright: transposed first, then mirrored."""

    transposed: bool = False
    mirrored_rows: bool = False
    mirrored_columns: bool = False

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels (H, W, ...) upright."""
        upright = pixels.swapaxes(0, 1) if self.transposed else pixels
        rows, columns = (slice(None, None, -1 if mirrored else 1) for mirrored in self[1:])
        return np.ascontiguousarray(upright[rows, columns])

    def of_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """The size before the turn for a size after it, and vice versa."""
        return size[::-1] if self.transposed else size


class DecodedPicture(NamedTuple):
    """A frame in the pixel format of its file, which takes at most half of the memory of RGB."""

    frame: VideoFrame
    painter: VideoReformatter
    turn: Turn

    @property
    def nbytes(self) -> int:
        """Memory that the frame takes, bytes."""
        return sum(plane.buffer_size for plane in self.frame.planes)

    def rgb(self) -> np.ndarray:
        """(H, W, 3) uint8, upright."""
        frame = self.frame
        return self.turn(
            self.painter.reformat(frame, frame.width, frame.height, "rgb24", interpolation="AREA").to_ndarray()
        )


def pyav(what: str) -> Any:
    """Imports PyAV, the package of the extra `video`; `what` names in the message what needs it.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import av
    except ImportError:
        raise MissingExtraError(what, "video") from None
    return av


@contextmanager
def _opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its video stream; PyAV is silent about what FFmpeg finds odd, unless told otherwise."""
    av = pyav("reading video files")
    try:
        # file: so that nothing in the name is taken for a protocol
        container = av.open(f"file:{path}", "r", options=_OPTIONS, metadata_errors="replace")
    except av.ArgumentError:
        raise DataError(
            f"{path}: is of another kind inside than its name says, such as a playlist, which may point anywhere; give "
            "the video files that it names"
        ) from None
    except av.FFmpegError as error:
        raise DataError(f"{path}: {_unreadable(path, error)}") from None
    with container:
        stream = next((stream for stream in container.streams.video if not is_cover(stream)), None)
        if stream is None:
            raise DataError(f"{path}: holds no video, only sound or data; give a file with pictures")
        if stream.codec_context is None:
            raise DataError(f"{path}: coded in a way that the installed FFmpeg does not know; convert it to H.264")
        yield container, stream


def is_cover(stream: VideoStream) -> bool:
    """Whether a stream is the cover of a sound file, which counts as a video stream."""
    from av.stream import Disposition

    return bool(stream.disposition & Disposition.attached_pic)


def _unreadable(path: Path, error: FFmpegError) -> str:
    with path.open("rb") as file:
        head = file.read(64)
    if head.lstrip().startswith(_PLAYLIST_HEADS):
        return "is a playlist inside, which may point anywhere; give the video files that it names"
    lost = " (a recording that was cut short before its index was written is lost)" if b"ftyp" in head else ""
    return f"not a readable video ({error.strerror}); copy it again{lost}"


def turn_of(frame: VideoFrame) -> Turn:
    """The turn that the display matrix says; it maps (x, y) to (a x + c y, b x + d y) in steps of 90 degrees."""
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return Turn()
    a, b, _, c, d = (int(entry) for entry in np.frombuffer(matrix, dtype=np.int32)[:5])
    if abs(b) > abs(a):
        return Turn(True, b < 0, c < 0)
    return Turn(False, d < 0, a < 0)
