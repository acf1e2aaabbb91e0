"""The pictures of one video, a file that FFmpeg reads or a folder of frames, with their times."""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from fractions import Fraction
from itertools import chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from PIL import Image

from memae.errors import DataError, MissingExtraError
from memae.video.ends import cut_short
from memae.video.paths import frames_in

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

__all__ = ["FrameFolder", "Picture", "Video", "VideoFile"]

SEEK_FROM_S = 10.0  # nearer to the start, decoding is cheaper than finding out which frame a keyframe is

# FFmpeg goes by the content, whatever the suffix says. Its readers of playlists (hls, concat, dash, ...) open the
# files and addresses that stand in there, so only these readers are allowed, and these only to open local files.
_READERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,asf,mpeg,mpegts,mpegvideo,m4v"
_OPTIONS = {"format_whitelist": _READERS, "protocol_whitelist": "file"}
# Of the others FFmpeg makes up a length from what is there.
_STATES_LENGTH = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi"}
# A packet of others may hold no picture to show (VP8) or half of one (interlaced H.264).
_FRAME_IS_PACKET = {"h264", "hevc", "vp9", "av1", "mjpeg", "mpeg4", "mpeg1video", "mpeg2video", "ffv1"}

_PLAYLIST_HEADS = (b"#EXTM3U", b"ffconcat", b"[playlist]")
_CURE = "copy the file again, or make one of what is there:  ffmpeg -i BROKEN -c copy WHOLE.mkv"


class Picture(NamedTuple):
    """One frame of one video, decoded."""

    frame: int
    """Counted from 0, in the order of presentation."""
    time_s: float
    pixels: np.ndarray
    """(H, W) or (H, W, 3) uint8."""


class Video(Protocol):
    """What a video file and a folder of frames have in common."""

    path: Path
    size: tuple[int, int]
    about: int
    """Frames, as far as is known without decoding them; 0 where nothing tells."""

    def check_whole(self) -> None:
        """Raises DataError where the end is missing, as far as that shows without decoding."""
        ...

    def pictures(self, size: tuple[int, int], colour: bool, start_s: float) -> Iterator[Picture]:
        """The frames from `start_s` on, at this (height, width) in px."""
        ...


class FrameFolder:
    """The images of a folder, in natural order, as one video of constant rate."""

    def __init__(self, path: Path, rate: float) -> None:
        self.path, self._rate = path, rate
        self._files = frames_in(path)
        self.about = len(self._files)
        _check_numbers(path, [file.name for file in self._files])
        self.size = _image_size(self._files[0])
        for file in self._files:
            if (size := _image_size(file)) != self.size:
                raise DataError(
                    f"{file}: is {size[1]} x {size[0]} px, and {self._files[0].name} is {self.size[1]} x "
                    f"{self.size[0]} (width x height); the frames of a video have one "
                    "size: resize them, or put those of another size into a folder of their own"
                )

    def check_whole(self) -> None:
        """Nothing: where a folder should end, nothing tells."""

    def pictures(self, size: tuple[int, int], colour: bool, start_s: float) -> Iterator[Picture]:
        """The images from `start_s` on, each decoded when it is asked for."""
        for frame, file in enumerate(self._files):
            if (time_s := frame / self._rate) >= start_s:
                yield Picture(frame, time_s, _read_image(file, size, "RGB" if colour else "L"))


def _check_numbers(folder: Path, names: list[str]) -> None:
    """Notices a missing frame where the names differ in one number only; a constant step (0, 10, 20) is none."""
    split = [re.split(r"(\d+)", Path(name).stem) for name in names]
    if len({len(parts) for parts in split}) > 1:
        return
    columns = [set(column) for column in zip(*split, strict=True)]
    varying = [place for place, column in enumerate(columns) if len(column) > 1]
    if len(varying) != 1 or varying[0] % 2 == 0:
        return
    numbers = [int(parts[varying[0]]) for parts in split]
    steps = [later - number for number, later in pairwise(numbers)]
    step = min(steps, default=0)
    if 0 in steps:
        place = steps.index(0)
        raise DataError(f"{folder}: {names[place]} and {names[place + 1]} have one number; remove one of them")
    for name, number, this_step in zip(names, numbers, steps, strict=False):
        if this_step != step:
            raise DataError(
                f"{folder}: frame {number + step} is missing after {name}; restore it, or number the frames "
                "without a gap"
            )


@contextmanager
def _opened_image(file: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(file) as image:
            yield image
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{file}: not a readable image ({str(error).splitlines()[0]}); restore it, or split the folder "
            "there into two"
        ) from None


def _image_size(file: Path) -> tuple[int, int]:
    with _opened_image(file) as image:
        if image.format == "TIFF" and getattr(image, "n_frames", 1) > 1:
            raise DataError(f"{file}: holds several images; save each of them as a file of its own")
        return image.height, image.width


def _read_image(file: Path, size: tuple[int, int], mode: str) -> np.ndarray:
    height, width = size
    with _opened_image(file) as image:
        # A JPEG can be halved while it is decoded, and its luma read alone. Twice the size that is wanted remains,
        # because shrinking a little after shrinking leaves steps in the picture.
        draft = image.draft(mode, (2 * width, 2 * height))
        plain = _eight_bits(image, file)
        # by way of RGBA Pillow drops the alpha channel without a warning
        opened = plain.convert("RGBA") if "transparency" in image.info else plain
        shrinks = height <= image.height and width <= image.width
        # HAMMING is what comes nearest to the mean over an area, as the scaler for files takes it (0.4 grey levels
        # on UCSD Ped2, at most 16); Pillow's BOX counts a pixel fully or not at all, and is up to 79 levels away.
        method = Image.Resampling.HAMMING if shrinks else Image.Resampling.BILINEAR
        return np.array(opened.convert(mode).resize((width, height), method, draft[1] if draft else None))


def _eight_bits(image: Image.Image, file: Path) -> Image.Image:
    """Grey of 16 bits scaled to 8, where Pillow would clip it."""
    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image)
    if values.dtype.kind == "f" or values.min() < 0 or values.max() > 0xFFFF:
        raise DataError(f"{file}: grey of more than 16 bits or with a fraction; save it with 8 or 16 bits")
    return Image.fromarray(((values.astype(np.uint32) * 255 + 0x7FFF) // 0xFFFF).astype(np.uint8))


class _Turn(NamedTuple):
    """How decoded pixels become upright: transposed first, then mirrored."""

    transposed: bool = False
    mirrored_rows: bool = False
    mirrored_columns: bool = False

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        upright = pixels.swapaxes(0, 1) if self.transposed else pixels
        rows, columns = (slice(None, None, -1 if mirrored else 1) for mirrored in self[1:])
        return np.ascontiguousarray(upright[rows, columns])

    def of_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """The size before the turn of what has this size after it, and the other way round."""
        return size[::-1] if self.transposed else size


class _Keyframe(NamedTuple):
    frame: int
    pts: int
    dts: int


class VideoFile:
    """An encoded file; one frame is decoded at once, so that a bad file is noticed before the work starts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.stat().st_size == 0:
            raise DataError(f"{path}: the file is empty; check how it was written")
        with _opened_video(path) as (container, stream):
            from av import time_base  # of the length of a container

            with closing(self._decoded(container, stream)) as frames:
                first = next(frames)
            # FFmpeg makes up the times of reordered frames that AVI and ASF do not store, and orders them wrongly
            untimed = container.format.name in ("avi", "asf") and stream.codec_context.has_b_frames
            self._container = container.format.name
            self._first_pts = None if untimed else first.pts
            self._tick = first.time_base or Fraction(1, 90_000)
            self._rate = stream.average_rate or stream.guessed_rate or Fraction(25)
            states_length = container.format.name in _STATES_LENGTH
            self.about = round((container.duration or 0) / time_base * self._rate) if states_length else 0
            self._can_seek = (
                self._first_pts is not None
                and container.format.name != "avi"
                and stream.codec_context.codec.canonical_name in _FRAME_IS_PACKET
                and not first.interlaced_frame
            )
        self._turn = _turn_of(first)
        self.size = self._turn.of_size((first.height, first.width))
        self._keyframes: list[_Keyframe] | None = None

    def check_whole(self) -> None:
        """Raises DataError where the file ends within a part of its container; see `memae.video.ends`."""
        if cut_short(self.path, self._container):
            raise DataError(f"{self.path}: was cut short, as its last part is not whole; {_CURE}")

    def pictures(self, size: tuple[int, int], colour: bool, start_s: float) -> Iterator[Picture]:
        """The frames from `start_s` on, resized and turned upright."""
        from av.video.reformatter import VideoReformatter

        scaler = VideoReformatter()  # one for all frames: it keeps its tables between them
        height, width = self._turn.of_size(size)
        layout = "rgb24" if colour else "gray"
        for frame, time_s, decoded in self._timed(self._from(start_s)):
            if time_s >= start_s:
                # the scaler takes AREA as bilinear where it enlarges
                scaled = scaler.reformat(decoded, width, height, layout, interpolation="AREA")
                yield Picture(frame, time_s, self._turn(scaled.to_ndarray()))

    def _timed(self, frames: Iterator[tuple[int, VideoFrame]]) -> Iterator[tuple[int, float, VideoFrame]]:
        """With seconds from the first frame; by the average rate where there is no time or one that goes back."""
        origin, last_s = self._first_pts, -math.inf
        for frame, decoded in frames:
            if origin is None:
                yield frame, float(frame / self._rate), decoded
                continue
            time_s = last_s if decoded.pts is None else float((decoded.pts - origin) * self._tick)
            if time_s <= last_s:
                time_s = last_s + float(1 / self._rate)
                if decoded.pts is not None:  # a recording joined of several: the clock goes on from here
                    origin = decoded.pts - round(time_s / self._tick)
            last_s = time_s
            yield frame, time_s, decoded

    def _from(self, start_s: float) -> Iterator[tuple[int, VideoFrame]]:
        """Frames with their numbers, from the last keyframe before `start_s` if one can be reached, else all."""
        if start_s > SEEK_FROM_S and (key := self._keyframe_before(start_s)):
            with _opened_video(self.path) as (container, stream):
                frames = self._decoded(container, stream)
                if landed := _landed(container, stream, key, frames):
                    yield from enumerate(chain([landed], frames), key.frame)
                    return
        with _opened_video(self.path) as (container, stream):
            yield from enumerate(self._decoded(container, stream))

    def _keyframe_before(self, start_s: float) -> _Keyframe | None:
        if not self._can_seek or self._first_pts is None:
            return None
        if self._keyframes is None:
            with _opened_video(self.path) as (container, stream):
                self._keyframes = _keyframes(container, stream, self._first_pts)
        # strictly before: the time of a packet and `start_s` may differ by a rounding
        latest = self._first_pts + start_s / self._tick - 1
        return max((key for key in self._keyframes if key.pts < latest), default=None)

    def _decoded(self, container: InputContainer, stream: VideoStream) -> Generator[VideoFrame]:
        """Frames in the order of presentation, of which there is at least one.

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


def _head_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(64)


@contextmanager
def _opened_video(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its video stream; PyAV is silent about what FFmpeg finds odd, unless told otherwise."""
    try:
        import av
    except ImportError:
        raise MissingExtraError("reading video files", "video") from None
    try:
        # file: so that nothing in the name is taken for a protocol
        container = av.open(f"file:{path}", "r", options=_OPTIONS, metadata_errors="replace")
    except av.ArgumentError:
        raise DataError(
            f"{path}: is of another kind inside than its name says, such as a playlist, which may point anywhere; give "
            "the video files that it names"
        ) from None
    except av.FFmpegError as error:
        head = _head_of(path)
        if head.lstrip().startswith(_PLAYLIST_HEADS):
            raise DataError(
                f"{path}: is a playlist inside, which may point anywhere; give the video files that it names"
            ) from None
        lost = " (a recording that was cut short before its index was written is lost)" if b"ftyp" in head else ""
        raise DataError(f"{path}: not a readable video ({error.strerror}); copy it again{lost}") from None
    with container:
        # the cover of a sound file counts as a video stream
        covers = av.stream.Disposition.attached_pic
        stream = next((stream for stream in container.streams.video if not stream.disposition & covers), None)
        if stream is None:
            raise DataError(f"{path}: holds no video, only sound or data; give a file with pictures")
        if stream.codec_context is None:
            raise DataError(f"{path}: coded in a way that the installed FFmpeg does not know; convert it to H.264")
        yield container, stream


def _turn_of(frame: VideoFrame) -> _Turn:
    """From the display matrix, which maps (x, y) to (a x + c y, b x + d y) in steps of 90 degrees."""
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return _Turn()
    a, b, _, c, d = (int(entry) for entry in np.frombuffer(matrix, dtype=np.int32)[:5])
    if abs(b) > abs(a):
        return _Turn(True, b < 0, c < 0)
    return _Turn(False, d < 0, a < 0)


def _keyframes(container: InputContainer, stream: VideoStream, first_pts: int) -> list[_Keyframe]:
    """Keyframes with the numbers of their frames, by the times of packets; none where these are in doubt.

    One in a second is enough: some files consist of keyframes only.
    """
    times, keys = array("q"), []
    last_dts = last_key = -math.inf
    second = 1 / (stream.time_base or Fraction(1, 90_000))
    for packet in container.demux(stream):
        if packet.size == 0 or packet.is_discard:
            continue
        if packet.pts is None or packet.dts is None or packet.dts <= last_dts:
            return []
        last_dts = packet.dts
        if packet.pts >= first_pts:
            times.append(packet.pts)
            if packet.is_keyframe and packet.pts - last_key >= second:
                last_key = packet.pts
                keys.append((packet.pts, packet.dts))
    ordered = np.unique(np.array(times))
    if len(ordered) != len(times) or not len(ordered) or ordered[0] != first_pts:
        return []
    return [_Keyframe(int(np.searchsorted(ordered, pts)), pts, dts) for pts, dts in keys]


def _landed(
    container: InputContainer, stream: VideoStream, key: _Keyframe, frames: Iterator[VideoFrame]
) -> VideoFrame | None:
    """The keyframe of this time, sought; None where it is not found, as between the keyframes of some files."""
    from av import FFmpegError

    try:
        container.seek(key.dts, stream=stream)  # by pts, a transport stream is entered behind the keyframe
        for frame in frames:
            if frame.pts is None or frame.pts >= key.pts:
                return frame if frame.pts == key.pts else None
    except (DataError, FFmpegError):
        pass
    return None
