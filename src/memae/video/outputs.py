"""The files that a pass over videos writes: their names, checks before the work, and what a full disk does to them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath

from memae.errors import ConfigError, WriteError
from memae.files import check_writable, no_room
from memae.video.encode import OUTPUT_SUFFIXES
from memae.video.paths import VIDEO_SUFFIXES
from memae.video.source import VideoSource

__all__ = ["Output", "check_files", "check_media_folder", "overlay_files"]

_EVENT_FILE = re.compile(r"event-\d{4,}\.(png|mp4)")


class Output(ExitStack):
    """The open files of one output. Where there is no room for them they are dropped, and the work goes on."""

    failed: WriteError | None = None
    """Why it was dropped."""

    @contextmanager
    def trying(self) -> Iterator[None]:
        """A block that writes; a full disk in it drops the output."""
        try:
            yield
        except Exception as error:
            if not (isinstance(error, WriteError) or no_room(error)):
                raise
            self.failed = self._dropped(error)

    def _dropped(self, error: Exception) -> WriteError:
        try:
            self.__exit__(type(error), error, error.__traceback__)
        except WriteError as named:  # by the output itself, and not by an unfinished file of it
            return named
        assert isinstance(error, WriteError), "whoever opens a file turns a full disk into a WriteError"
        return error


def check_files(outputs: Iterable[Path], source: VideoSource) -> None:
    """Fails before the work if an output would take the place of a video, or of another output.

    Raises:
        ConfigError: it would.
        WriteError: it cannot be written.
    """
    taken = {path.resolve(): f"{path} is a video to be scored" for path in source.paths.values()}
    for path in outputs:
        if reason := taken.get(path.resolve()):
            raise ConfigError(f"{path}: cannot be written, because {reason}; name another file")
        taken[path.resolve()] = "another output has that name"
        check_writable(path)


def check_media_folder(folder: Path, source: VideoSource) -> None:
    """Fails before the work if the folder of stills and clips, which is replaced whole, holds anything else.

    Raises:
        ConfigError: it does, or is a file.
    """
    if not folder.exists():
        return
    wanted = f"{folder}: the stills and clips go to this folder and replace all in it, but"
    cure = "give `events` another name"
    if not folder.is_dir():
        raise ConfigError(f"{wanted} it is a file; {cure}")
    for file in sorted(folder.iterdir()):
        if not _EVENT_FILE.fullmatch(file.name):
            raise ConfigError(f"{wanted} it holds {file.name}; {cure}")
    for path in source.paths.values():
        if path.resolve().is_relative_to(folder.resolve()):
            raise ConfigError(f"{wanted} {path} is to be scored; {cure}")


def overlay_files(overlay: Path, source: VideoSource) -> dict[str, Path]:
    """Where the overlay of each video goes: a file for a single video, or a folder for one of each.

    Raises:
        ConfigError: a file of another suffix, or one file for several videos.
    """
    if overlay.suffix.lower() in OUTPUT_SUFFIXES and not overlay.is_dir():
        if len(source.videos) > 1:
            raise ConfigError(
                f"{overlay}: one file cannot hold the overlays of {len(source.videos)} videos; name a folder"
            )
        return {source.videos[0]: overlay}
    if overlay.suffix and not overlay.is_dir():
        raise ConfigError(f"{overlay}: give a file that ends in .mp4 or .mkv, or a folder")
    short = {video: _without_suffix(video) for video in source.videos}
    times = Counter(short.values())
    # a.avi beside a.mp4 keeps its suffix, as a.avi.mp4
    names = {video: name if times[name] == 1 else video for video, name in short.items()}
    return {video: overlay / f"{name}.mp4" for video, name in names.items()}


def _without_suffix(video: str) -> str:
    """A frame folder may be called cam.1, which is no suffix."""
    path = PurePosixPath(video)
    return str(path.with_suffix("")) if path.suffix.lower() in VIDEO_SUFFIXES else video
