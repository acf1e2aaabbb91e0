"""Video: encoded files and folders of frames, as grey frames in chunks, or as colour pictures of some seconds."""

from __future__ import annotations

import copy
import math
import os
import queue
import re
import threading
from array import array
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from fractions import Fraction
from itertools import chain, pairwise, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import numpy as np
from PIL import Image

from memae.data.samples import EVERYTHING, FrameKey, Frames, Modality
from memae.errors import DataError, MissingExtraError
from memae.stages import Count

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

__all__ = ["FRAME_SUFFIXES", "VIDEO_SUFFIXES", "VideoSource", "holds_videos"]

VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".m4v", ".webm", ".mpg", ".mpeg", ".ts", ".wmv")
FRAME_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
CHUNK_BYTES = 16 << 20  # grey pixels in one chunk
AHEAD_BYTES = 16 << 20  # grey pixels decoded ahead of the reader
SEEK_FROM_S = 10.0  # nearer to the start, decoding is cheaper than finding out which frame a keyframe is

_PLAYLISTS = (".m3u8", ".m3u", ".pls", ".ffconcat", ".concat", ".mpd", ".ism", ".sdp")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")  # two characters at least: C: is a drive
_UCSD_FOLDER = re.compile(r"(Train|Test)\d{3}")

# FFmpeg goes by the content, whatever the suffix says. Its readers of playlists (hls, concat, dash, ...) open the
# files and addresses that stand in there, so only these readers are allowed, and these only to open local files.
_READERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,asf,mpeg,mpegts,mpegvideo,m4v"
_OPTIONS = {"format_whitelist": _READERS, "protocol_whitelist": "file"}
# Of the others FFmpeg makes up a length from what is there.
_STATES_LENGTH = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi"}
# A packet of others may hold no picture to show (VP8) or half of one (interlaced H.264).
_FRAME_IS_PACKET = {"h264", "hevc", "vp9", "av1", "mjpeg", "mpeg4", "mpeg1video", "mpeg2video", "ffv1"}

T = TypeVar("T")


class _Picture(NamedTuple):
    """One frame of one video, decoded."""

    frame: int
    """Counted from 0, in the order of presentation."""
    time_s: float
    pixels: np.ndarray
    """(H, W) or (H, W, 3) uint8."""


class _Video(Protocol):
    """What a video file and a folder of frames have in common."""

    path: Path
    size: tuple[int, int]
    about: int
    """Frames, as far as is known without decoding them; 0 where nothing tells."""

    def pictures(self, size: tuple[int, int], colour: bool, start_s: float) -> Iterator[_Picture]:
        """The frames from `start_s` on, at this (height, width) in px."""
        ...


class VideoSource:
    """Grey frames of video files and frame folders, at one size, decoded by a thread ahead of the reader.

    A folder stands for all videos below it in natural order (2 before 10): files by suffix, and each innermost
    folder of images as one video. Folders of ground truth (`_gt`) and hidden ones are left out.

    Args:
        paths: video files, frame folders, and folders of them; local ones only.
        size: (height, width) in px that frames are given at; None: as the first video is shown.
        folder_rate: frames per second of frame folders, which carry no times.

    Raises:
        DataError: an address or a playlist, nothing there, no video in it, one without a frame to decode, or a
            frame folder with a gap or with images of several sizes.
        MissingExtraError: there are video files, and PyAV is not installed.
    """

    modality: Modality = "video"

    def __init__(
        self, paths: Sequence[Path], size: tuple[int, int] | None = None, folder_rate: float = 25.0
    ) -> None:
        if not paths:
            raise DataError("no video given; name a video file, a folder of frames, or a folder of those")
        self.origin = str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
        found = [(opened, video) for opened in map(_local, paths) for video in _videos_at(opened)]
        self._videos: dict[str, _Video] = {
            name: _FrameFolder(video, folder_rate) if video.is_dir() else _VideoFile(video)
            for name, (_, video) in zip(_unique_names(found), found, strict=True)
        }
        self.videos = tuple(self._videos)
        self.sizes = {name: video.size for name, video in self._videos.items()}
        """(height, width) in px of each video as it is shown, upright."""
        self.size = size or self.sizes[self.videos[0]]
        """(height, width) in px that frames are given at."""

    @property
    def paths(self) -> dict[str, Path]:
        """Where the file or frame folder of each video lies."""
        return {name: video.path for name, video in self._videos.items()}

    def resized(self, height: int, width: int) -> VideoSource:
        """The same videos, with frames given at this size in px; nothing is opened again."""
        other = copy.copy(self)
        other.size = (height, width)
        return other

    def count(self) -> Count | None:
        """About how many frames, by what the files state."""
        about = [video.about for video in self._videos.values()]
        return Count(sum(about), exact=False) if all(about) else None

    def chunks(self, size: int) -> Iterator[Frames]:
        """Consecutive grey frames of one video; at most `size`, and 16 MiB unless `size` is unlimited.

        A chunk never spans two videos, so an unlimited `size` gives one chunk a video. Black is 0 and white 255,
        whatever range of luma the file codes. Close the iterator to stop the thread before the end.

        Raises:
            DataError: a video breaks off or cannot be decoded further; the frames up to there come first.
        """
        frame_bytes = self.size[0] * self.size[1]
        if size < EVERYTHING:
            size = max(1, min(size, CHUNK_BYTES // frame_bytes))
        batch: list[tuple[FrameKey, np.ndarray]] = []
        with closing(_ahead(self._all_frames(), max(2, AHEAD_BYTES // frame_bytes))) as frames:
            try:
                for key, pixels in frames:
                    if batch and (len(batch) == size or batch[0][0].video != key.video):
                        yield self._chunk(batch)
                        batch = []
                    batch.append((key, pixels))
            except DataError:
                if batch:
                    yield self._chunk(batch)
                raise
        if batch:
            yield self._chunk(batch)

    def colour(
        self, video: str, start_s: float = 0.0, stop_s: float = math.inf
    ) -> Generator[tuple[FrameKey, np.ndarray]]:
        """The frames of one video from `start_s` up to, not including, `stop_s`, as (H, W, 3) uint8 RGB.

        They have the size they are shown at, not `size`, and the keys that `chunks` gives them. A start far inside
        a file is reached from the keyframe before it, where the file allows that; the first time, all its packets
        are counted to know which frame that is.

        Raises:
            DataError: no video of that name, or it breaks off.
        """
        if video not in self._videos:
            raise DataError(f"{self.origin}: has no video {video!r}; it has {', '.join(self.videos)}")
        pictures = self._videos[video].pictures(self.sizes[video], True, start_s)
        for picture in takewhile(lambda picture: picture.time_s < stop_s, pictures):
            yield FrameKey(video, picture.frame, picture.time_s), picture.pixels

    def labels(self, name: str) -> np.ndarray:
        """Nothing: videos carry no labels.

        Raises:
            DataError: always.
        """
        raise DataError(
            f"{self.origin}: a video has no column {name!r}; give the labels of its frames with  "
            "memae evaluate --labels"
        )

    def without(self, names: Sequence[str]) -> VideoSource:
        """Itself: videos have no columns.

        Raises:
            DataError: there is a column to leave out.
        """
        if names:
            raise DataError(f"{self.origin}: a video has no column {names[0]!r} to leave out")
        return self

    def _all_frames(self) -> Generator[tuple[FrameKey, np.ndarray]]:
        for name, video in self._videos.items():
            for picture in video.pictures(self.size, False, 0.0):
                yield FrameKey(name, picture.frame, picture.time_s), picture.pixels

    def _chunk(self, batch: list[tuple[FrameKey, np.ndarray]]) -> Frames:
        keys = [key for key, _ in batch]
        return Frames(np.stack([pixels for _, pixels in batch]), keys, str(self._videos[keys[0].video].path))


def holds_videos(path: Path) -> bool:
    """Whether a path means video: a video file by its suffix, a folder with one below, or UCSD's layout.

    A playlist means video too, so that `VideoSource` can say why it does not read it.

    UCSD's folders of frames are known by their names (Train001, Test012); any other folder of images is a set of
    images, unless `VideoSource` is made of it.
    """
    if not path.is_dir():
        return path.suffix.lower() in (*VIDEO_SUFFIXES, *_PLAYLISTS)
    return any(
        _with_suffix(files, VIDEO_SUFFIXES)
        or (_UCSD_FOLDER.fullmatch(folder.name) and _with_suffix(files, FRAME_SUFFIXES))
        for folder, files in _folders(path)
    )


def _local(path: Path) -> Path:
    """The absolute path of a file or folder on this machine, in the user's own words."""
    try:
        there = path.exists()
    except OSError as error:  # no right to look, or a name that is too long
        raise DataError(f"{path}: cannot be reached ({error.strerror}); check the path") from None
    if not there:
        if _SCHEME.match(str(path)):
            raise DataError(f"{path}: is an address, and only local files are read; download it first")
        raise DataError(f"{path}: no such file or folder; check the path")
    return path.resolve() if ".." in path.parts else path.absolute()


def _videos_at(path: Path) -> list[Path]:
    if not path.is_dir():
        return [_checked_file(path)]
    found: list[Path] = []
    for folder, files in _folders(path):
        found += _with_suffix(files, VIDEO_SUFFIXES) or ([folder] if _with_suffix(files, FRAME_SUFFIXES) else [])
    if not found:
        raise DataError(f"{path}: holds no video ({', '.join(VIDEO_SUFFIXES)}) and no frame; check the path")
    branches = {branch for video in found for branch in video.parents}
    for video in found:
        if video in branches:
            raise DataError(
                f"{video}: holds images, and folders of videos or images beside them; a folder of frames holds "
                "nothing else: move the images into a folder of their own, or away"
            )
    return sorted(found, key=lambda video: [_natural(part) for part in video.relative_to(path).parts])


def _checked_file(path: Path) -> Path:
    suffix = path.suffix.lower()
    if suffix in (*_PLAYLISTS, ".txt"):
        raise DataError(f"{path}: is a playlist, which may point anywhere; give the video files it names")
    if suffix not in VIDEO_SUFFIXES:
        raise DataError(f"{path}: no reader for this kind of video; known: {', '.join(VIDEO_SUFFIXES)}")
    return path


def _folders(root: Path) -> Iterator[tuple[Path, list[Path]]]:
    """A folder and all below it, each with its files; links are followed, but no folder is entered twice."""
    seen = set()
    for name, below, files in os.walk(root, followlinks=True, onerror=_refuse):
        folder = Path(name)
        if (real := folder.resolve()) in seen:
            below.clear()
            continue
        seen.add(real)
        below[:] = sorted(sub for sub in below if not sub.startswith(".") and not sub.endswith("_gt"))
        # macOS leaves a hidden ._001.tif beside 001.tif; UCSD's archive is full of them
        yield folder, [folder / file for file in files if not file.startswith(".")]


def _refuse(error: OSError) -> None:
    raise DataError(f"{error.filename}: cannot look into this folder ({error.strerror}); check its permissions")


def _with_suffix(files: list[Path], suffixes: tuple[str, ...]) -> list[Path]:
    return [file for file in files if file.suffix.lower() in suffixes]


def _natural(name: str) -> tuple[list[int | str], str]:
    """A sort key that puts 2 before 10; text and numbers take turns, so that keys compare."""
    parts = re.split(r"(\d+)", name)
    return [int(part) if place % 2 else part.lower() for place, part in enumerate(parts)], name


def _unique_names(found: list[tuple[Path, Path]]) -> list[str]:
    """The path below what was opened; with as many parts before it as tell all videos apart."""
    videos = [video for _, video in found]
    if twice := [video for video, times in Counter(videos).items() if times > 1]:
        raise DataError(f"{twice[0]}: is given twice; name it once")
    lengths = [len(video.relative_to(opened).parts) or 1 for opened, video in found]
    while True:
        names = ["/".join(video.parts[-length:]) for video, length in zip(videos, lengths, strict=True)]
        if len(set(names)) == len(names):
            return names
        lengths = [length + 1 for length in lengths]


class _End(NamedTuple):
    error: BaseException | None


def _ahead(items: Generator[T], depth: int) -> Generator[T]:
    """The same items, made by a thread that is at most `depth` of them ahead; closing it stops the thread."""
    ready: queue.SimpleQueue[T | _End] = queue.SimpleQueue()
    room = threading.Semaphore(depth)
    closed = threading.Event()

    def make() -> None:
        end = _End(None)
        try:
            with closing(items):
                while room.acquire() and not closed.is_set():
                    ready.put(next(items))
        except StopIteration:
            pass
        except BaseException as error:  # the reader raises it
            end = _End(error)
        ready.put(end)

    # a daemon, because an iterator that nobody closed would keep the interpreter from ending
    thread = threading.Thread(target=make, name="memae-video", daemon=True)
    thread.start()
    try:
        while not isinstance(item := ready.get(), _End):
            room.release()
            yield item
    finally:
        closed.set()
        room.release()
        thread.join()
    if item.error is not None:
        raise item.error


class _FrameFolder:
    """The images of a folder, in natural order, as one video of constant rate."""

    def __init__(self, path: Path, rate: float) -> None:
        self.path, self._rate = path, rate
        files = [file for file in path.iterdir() if not file.name.startswith(".")]
        self._files = sorted(_with_suffix(files, FRAME_SUFFIXES), key=lambda file: _natural(file.name))
        self.about = len(self._files)
        _check_numbers(path, [file.name for file in self._files])
        self.size = _image_size(self._files[0])
        for file in self._files:
            if (size := _image_size(file)) != self.size:
                raise DataError(
                    f"{file}: is {size[1]} x {size[0]} px, and {self._files[0].name} is {self.size[1]} x "
                    f"{self.size[0]} (width x height); the frames of a video have one size"
                )

    def pictures(self, size: tuple[int, int], colour: bool, start_s: float) -> Iterator[_Picture]:
        """The images from `start_s` on, each decoded when it is asked for."""
        for frame, file in enumerate(self._files):
            if (time_s := frame / self._rate) >= start_s:
                yield _Picture(frame, time_s, _read_image(file, size, "RGB" if colour else "L"))


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


class _VideoFile:
    """An encoded file; one frame is decoded at once, so that a bad file is noticed before the work starts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.stat().st_size == 0:
            raise DataError(f"{path}: the file is empty; check how it was written")
        with _opened_video(path) as (container, stream):
            with closing(self._decoded(container, stream)) as frames:
                first = next(frames)
            # FFmpeg makes up the times of reordered frames that AVI does not store, and orders them wrongly
            untimed = container.format.name == "avi" and stream.codec_context.has_b_frames
            self._first_pts = None if untimed else first.pts
            self._tick = first.time_base or Fraction(1, 90_000)
            self._rate = stream.average_rate or stream.guessed_rate or Fraction(25)
            self.about = round(_stated_length_s(container, stream) * self._rate)
            self._can_seek = (
                self._first_pts is not None
                and container.format.name != "avi"
                and stream.codec_context.codec.canonical_name in _FRAME_IS_PACKET
                and not first.interlaced_frame
            )
        self._turn = _turn_of(first)
        self.size = self._turn.of_size((first.height, first.width))
        self._keyframes: list[_Keyframe] | None = None

    def pictures(self, size: tuple[int, int], colour: bool, start_s: float) -> Iterator[_Picture]:
        """The frames from `start_s` on, resized and turned upright."""
        from av.video.reformatter import VideoReformatter

        scaler = VideoReformatter()  # one for all frames: it keeps its tables between them
        height, width = self._turn.of_size(size)
        layout = "rgb24" if colour else "gray"
        for frame, time_s, decoded in self._timed(self._from(start_s)):
            if time_s >= start_s:
                # the scaler takes AREA as bilinear where it enlarges
                scaled = scaler.reformat(decoded, width, height, layout, interpolation="AREA")
                yield _Picture(frame, time_s, self._turn(scaled.to_ndarray()))

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
            raise DataError(self._broken(count, reached_s, f"after that: {error.strerror}")) from None
        if not count:
            raise DataError(
                f"{self.path}: no frame can be decoded ({failure.strerror if failure else 'it holds none'}); "
                "record or copy it again"
            )
        stated_s = _stated_length_s(container, stream)
        if stated_s - reached_s > max(1.0, 0.05 * stated_s):
            raise DataError(self._broken(count, reached_s, f"and should last {stated_s:.1f} s"))

    def _broken(self, count: int, reached_s: float, why: str) -> str:
        return (
            f"{self.path}: breaks off {reached_s:.1f} s in, with {count} frames read, {why}; copy the file again, "
            "or make one of what is there:  ffmpeg -i BROKEN -c copy WHOLE.mkv"
        )


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
            f"{path}: is no video inside but something else, such as a playlist; give the video files themselves"
        ) from None
    except av.FFmpegError as error:
        raise DataError(
            f"{path}: not a readable video ({error.strerror}); copy it again (a recording that was cut short "
            "before its index was written is lost)"
        ) from None
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


def _stated_length_s(container: InputContainer, stream: VideoStream) -> float:
    """How long the header says that the file is; 0 where it says nothing."""
    from av import time_base

    if container.format.name not in _STATES_LENGTH:
        return 0.0
    stated_s = (container.duration or 0) / time_base
    if container.format.name == "avi" and stream.average_rate:
        # FFmpeg has corrected the duration by the size of the file, but not the number of frames
        stated_s = max(stated_s, float(stream.frames / stream.average_rate))
    return stated_s


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
