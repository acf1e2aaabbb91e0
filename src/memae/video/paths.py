"""Which video files and folders of frames a path stands for, and under which names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from memae.errors import DataError
from memae.files.atomic import folders_below, natural_key

__all__ = [
    "FRAME_SUFFIXES",
    "VIDEO_SUFFIXES",
    "holds_videos",
    "images_in",
    "local",
    "unique_names",
    "usual_rate",
    "videos_at",
]

VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".m4v", ".webm", ".mpg", ".mpeg", ".ts", ".wmv")
FRAME_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")

_PLAYLISTS = (".m3u8", ".m3u", ".pls", ".ffconcat", ".concat", ".mpd", ".ism", ".sdp")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")  # two characters at least: C: is a drive
_UCSD_FOLDER = re.compile(r"(Train|Test)\d{3}")


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
        for folder, files in folders_below(path, _holds_masks)
    )


def usual_rate(folder: Path) -> float:
    """Frames per second of a folder of frames by default: 10 of UCSD's cameras, else 25."""
    return 10.0 if _UCSD_FOLDER.fullmatch(folder.name) else 25.0


def images_in(files: Iterable[Path], suffixes: tuple[str, ...] = FRAME_SUFFIXES) -> list[Path]:
    """The images among files, in natural order (2 before 10), without hidden ones."""
    shown = [file for file in files if not file.name.startswith(".")]
    return sorted(_with_suffix(shown, suffixes), key=lambda file: natural_key(file.name))


def local(path: Path) -> Path:
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


def videos_at(path: Path) -> list[Path]:
    """A video file itself; all videos below a folder, in natural order.

    Raises:
        DataError: a playlist or another kind of file, a folder without videos, or frames beside other videos.
    """
    if not path.is_dir():
        return [_checked_file(path)]
    found: list[Path] = []
    for folder, files in folders_below(path, _holds_masks):
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
    return sorted(found, key=lambda video: [natural_key(part) for part in video.relative_to(path).parts])


def _checked_file(path: Path) -> Path:
    suffix = path.suffix.lower()
    if suffix in (*_PLAYLISTS, ".txt"):
        raise DataError(f"{path}: is a playlist, which may point anywhere; give the video files it names")
    if suffix not in VIDEO_SUFFIXES:
        raise DataError(f"{path}: no reader for this kind of video; known: {', '.join(VIDEO_SUFFIXES)}")
    return path


def _holds_masks(folder: str) -> bool:
    return folder.endswith("_gt")  # as in UCSD


def _with_suffix(files: list[Path], suffixes: tuple[str, ...]) -> list[Path]:
    return [file for file in files if file.suffix.lower() in suffixes]


def unique_names(found: list[tuple[Path, Path]]) -> list[str]:
    """A unique name for each video: its path below what was opened, with more leading parts if needed."""
    videos = [video for _, video in found]
    if twice := [video for video, times in Counter(videos).items() if times > 1]:
        raise DataError(f"{twice[0]}: is given twice; name it once")
    lengths = [len(video.relative_to(opened).parts) or 1 for opened, video in found]
    while True:
        names = ["/".join(video.parts[-length:]) for video, length in zip(videos, lengths, strict=True)]
        if len(set(names)) == len(names):
            return names
        lengths = [length + 1 for length in lengths]
