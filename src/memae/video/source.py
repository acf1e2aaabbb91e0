"""Video: encoded files and folders of frames, decoded once each and given as grey frames in chunks."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np

from memae.errors import DataError
from memae.progress import Count
from memae.types import EVERYTHING, Skipped
from memae.video.decode import DecodedFrame, Video, VideoFile
from memae.video.frame_folder import FrameFolder
from memae.video.frames import Frames
from memae.video.paths import local, unique_names, usual_rate, videos_at

__all__ = ["VideoSource"]

CHUNK_BYTES = 16 << 20  # pixels in one chunk
AHEAD_BYTES, AHEAD_FRAMES = 16 << 20, 128  # at most, decoded ahead of the reader
ALIKE = 1.25  # times as many frames a second, either way
PICTURE_BYTES = 2  # of a pixel of a picture as most files hold it: 1.5 in H.264, 4 at most

T = TypeVar("T")


class VideoSource:
    """Grey frames of video files and frame folders, at one size, decoded by a thread ahead of the reader.

    A folder stands for all videos below it in natural order (2 before 10): files by suffix, and each innermost
    folder of images as one video. Folders of ground truth (`_gt`) and hidden ones are left out.

    Args:
        paths: video files, frame folders, and folders of them; local ones only.
        size: (height, width) in px that frames are given at; None: as the first video is shown.
        folder_rate: frames per second of frame folders, which carry no times; None: 10 of UCSD's, 25 of others.
        skip_bad: a video that cannot be read is left out, and one that breaks off counts up to there; both are
            named in `skipped`, and are an error else.

    Raises:
        DataError: an address or a playlist, nothing there, no video in it, one without a frame to decode, or a
            frame folder with a gap or with images of several sizes; with `skip_bad`, none that can be read.
        MissingExtraError: there are video files, and PyAV is not installed.
    """

    modality: str = "video"

    def __init__(
        self,
        paths: Sequence[Path],
        size: tuple[int, int] | None = None,
        folder_rate: float | None = None,
        *,
        skip_bad: bool = False,
    ) -> None:
        if not paths:
            raise DataError("no video given; name a video file, a folder of frames, or a folder of those")
        self.origin = str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
        found = [(opened, video) for opened in map(local, paths) for video in videos_at(opened)]
        self._skip = skip_bad
        self._pictures = False
        self._bad: dict[str, str] = {}
        self._videos: dict[str, Video] = {}
        for name, (_, video) in zip(unique_names(found), found, strict=True):
            with self._noting(name, video):
                rate = folder_rate or usual_rate(video)
                self._videos[name] = FrameFolder(video, rate) if video.is_dir() else VideoFile(video)
                self._videos[name].check_whole()
        if not self._videos:
            raise DataError(
                f"{self.origin}: holds no video that can be read; the first, {next(iter(self._bad))}, "
                f"{next(iter(self._bad.values()))}"
            )
        self.videos = tuple(self._videos)
        self.sizes = {name: video.size for name, video in self._videos.items()}
        """(height, width) in px of each video as it is shown, upright."""
        self.rates = {name: video.rate for name, video in self._videos.items()}
        """Frames per second of each video, on average."""
        self.size = size or self.sizes[self.videos[0]]
        """(height, width) in px that frames are given at."""

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """Bad videos, each left out or read up to the damage; complete once `chunks` has ended."""
        return tuple(
            Skipped(name, f"{why}; {'its frames up to there count' if name in self._videos else 'it is left out'}")
            for name, why in self._bad.items()
        )

    @property
    def paths(self) -> dict[str, Path]:
        """Where the file or frame folder of each video lies."""
        return {name: video.path for name, video in self._videos.items()}

    def resized(self, height: int, width: int) -> VideoSource:
        """The same videos, with frames given at this size in px; nothing is opened again."""
        other = copy.copy(self)
        other.size = (height, width)
        return other

    def skipping(self) -> VideoSource:
        """The same videos; a damaged one is read up to the damage."""
        other = copy.copy(self)
        other._skip, other._bad = True, dict(self._bad)
        return other

    def with_pictures(self) -> VideoSource:
        """The same videos; each frame comes with its `Picture`, which can be drawn."""
        other = copy.copy(self)
        other._pictures = True
        return other

    def count(self) -> Count | None:
        """The approximate number of frames, from what the files state."""
        about = [video.about for video in self._videos.values()]
        return Count(sum(about), exact=False) if all(about) else None

    def other_rate(self, known: float) -> str | None:
        """What to tell of videos that are of another rate than the one that a model knows, frames per second."""
        others = [name for name, rate in self.rates.items() if not 1 / ALIKE <= rate / known <= ALIKE]
        if not others:
            return None
        more, rate = f" (and {len(others) - 1} more)" if len(others) > 1 else "", self.rates[others[0]]
        return (
            f"{others[0]}{more}: {rate:.3g} frames/s, and the model was trained at {known:.3g}: motion looks "
            f"{'slower' if rate > known else 'faster'} to it than it is, and the threshold may not hold; convert it "
            f"first:  ffmpeg -i IN -vf fps={known:.3g} OUT.mp4"
        )

    def chunks(self, size: int) -> Iterator[Frames]:
        """Consecutive frames of one video; at most `size`, and 16 MiB of pixels unless `size` is unlimited.

        A chunk never spans two videos, so an unlimited `size` gives one chunk a video. Black is 0 and white 255,
        whatever range of luma the file codes. Close the iterator to stop the thread before the end.

        Raises:
            DataError: a video breaks off or cannot be decoded further; the frames up to there come first. Not with
                `skip_bad`.
        """
        frame_bytes = self._frame_bytes()
        if size < EVERYTHING:
            size = max(1, min(size, CHUNK_BYTES // frame_bytes))
        batch: list[DecodedFrame] = []
        ahead = min(AHEAD_FRAMES, max(2, AHEAD_BYTES // frame_bytes))
        with closing(_ahead(self._all_frames(), ahead)) as frames:
            try:
                for frame in frames:
                    if batch and (len(batch) == size or frame.key.video != batch[0].key.video):
                        yield self._chunk(batch)
                        batch = []
                    batch.append(frame)
            except DataError:
                if batch:
                    yield self._chunk(batch)
                raise
        if batch:
            yield self._chunk(batch)

    def labels(self, name: str) -> np.ndarray:
        """Raises an error: videos carry no labels.

        Raises:
            DataError: always.
        """
        raise DataError(
            f"{self.origin}: a video has no column {name!r}; the labels of its frames lie in a file of "
            "their own, see docs/video.md"
        )

    def without(self, names: Sequence[str]) -> VideoSource:
        """Itself: videos have no columns.

        Raises:
            DataError: there is a column to leave out.
        """
        if names:
            raise DataError(f"{self.origin}: a video has no column {names[0]!r} to leave out")
        return self

    def _frame_bytes(self) -> int:
        pictures = max(height * width for height, width in self.sizes.values()) if self._pictures else 0
        return self.size[0] * self.size[1] + PICTURE_BYTES * pictures

    def _all_frames(self) -> Generator[DecodedFrame]:
        for name, video in self._videos.items():
            with self._noting(name, video.path):
                yield from video.frames(name, self.size, self._pictures)

    @contextmanager
    def _noting(self, name: str, path: Path) -> Iterator[None]:
        """Raises the errors of a video, or records them if bad videos may be skipped."""
        try:
            yield
        except DataError as error:
            if not self._skip:
                raise
            self._bad[name] = str(error).removeprefix(f"{path}: ")

    def _chunk(self, batch: list[DecodedFrame]) -> Frames:
        keys, origin = [frame.key for frame in batch], str(self._videos[batch[0].key.video].path)
        pictures = [frame.picture for frame in batch if frame.picture]
        return Frames(np.stack([frame.grey for frame in batch]), keys, origin, pictures)


def _ahead(items: Generator[T], depth: int) -> Generator[T]:
    """The same items, computed by a thread at most `depth` items ahead; closing the generator stops the thread."""
    pool = ThreadPoolExecutor(1, "memae-video")
    ready = deque(pool.submit(next, items, None) for _ in range(depth))
    try:
        while (item := ready.popleft().result()) is not None:
            ready.append(pool.submit(next, items, None))
            yield item
    finally:
        pool.shutdown(cancel_futures=True)
        items.close()
