"""The files that a pass over videos writes: their names, checks before the work, and what a full disk does to them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from memae.errors import ConfigError, WriteError
from memae.files.atomic import check_writable, no_room
from memae.video.encode import OUTPUT_SUFFIXES
from memae.video.paths import VIDEO_SUFFIXES
from memae.video.source import VideoSource

__all__ = ["Output", "Outputs", "check_outputs", "overlay_files"]

T = TypeVar("T")

_EVENT_FILE = re.compile(r"event-\d{4,}\.(png|mp4)")


@dataclass(frozen=True)
class Outputs:
    """What is wanted of a pass over videos; None leaves it out."""

    frames: Path | None = None
    """.csv, .parquet or .jsonl: a row a frame, which the caller writes."""
    events: Path | None = None
    """.jsonl: a line an event; a folder of the same name without suffix takes the stills and clips."""
    overlay: Path | None = None
    """.mp4 or .mkv of one video, or a folder for one of each."""
    before_s: float = 3.0
    """Seconds in the clip of an event before its first frame."""
    after_s: float = 3.0
    """Seconds after its last one."""
    rows_to_stdout: bool = False
    """Rows as CSV on stdout, if `frames` is None."""

    @property
    def media(self) -> Path | None:
        """The folder of the stills and clips."""
        return self.events.with_suffix("") if self.events else None


class Output(ExitStack):
    """The open files of one output. Where there is no room for them they are dropped, and the work goes on.

    Args:
        wanted: False attempts nothing.
    """

    def __init__(self, *, wanted: bool) -> None:
        super().__init__()
        self.wanted = wanted
        self.failed: WriteError | None = None
        """Why it was dropped."""

    def attempt(self, work: Callable[..., T], *args: Any) -> T | None:
        """What `work` gives; None if the output is not wanted or dropped, as by a full disk in this call."""
        if not self.wanted or self.failed:
            return None
        try:
            return work(*args)
        except Exception as error:
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


def check_outputs(outputs: Outputs, overlays: Iterable[Path], source: VideoSource) -> None:
    """Fails before the work if an output would take the place of a video or of another output.

    Raises:
        ConfigError: it would, or the folder of stills and clips, which is replaced whole, holds anything else.
        WriteError: one cannot be written.
    """
    taken = {path.resolve(): f"{path} is a video to be scored" for path in source.paths.values()}
    for path in filter(None, (outputs.frames, outputs.events, *overlays)):
        if reason := taken.get(path.resolve()):
            raise ConfigError(f"{path}: cannot be written, because {reason}; name another file")
        taken[path.resolve()] = "another output has that name"
        check_writable(path)
    if outputs.media and (held := _held(outputs.media, source)):
        raise ConfigError(
            f"{outputs.media}: the stills and clips go to this folder and replace all in it, but {held}; give "
            "`events` another name"
        )


def _held(folder: Path, source: VideoSource) -> str | None:
    """What must not be replaced in a folder of stills and clips."""
    if not folder.is_dir():
        return "it is a file" if folder.exists() else None
    strange = [file.name for file in sorted(folder.iterdir()) if not _EVENT_FILE.fullmatch(file.name)]
    scored = [path for path in source.paths.values() if path.resolve().is_relative_to(folder.resolve())]
    return f"it holds {strange[0]}" if strange else f"{scored[0]} is to be scored" if scored else None


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
