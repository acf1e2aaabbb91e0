"""Which frames of videos are anomalous, and which pixels of them, from a CSV file or a folder of masks."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, TypeAlias

import numpy as np

from memae.errors import DataError, first_line
from memae.files.atomic import folders_below
from memae.files.image import UnreadableError, read_values
from memae.video.paths import images_in

__all__ = ["Masks", "VideoTruth", "listed_videos", "read_truth"]

MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")
FRAME_COLUMNS, SEGMENT_COLUMNS = ("video", "frame", "label"), ("video", "start", "end")
MOST_VALUES = 64  # positive values in one mask: more are shades of grey, and not track ids
LABELS = {"0": False, "false": False, "normal": False, "1": True, "true": True, "anomaly": True}

Lengths: TypeAlias = Mapping[str, int]
"""How many frames each video has."""
_Row: TypeAlias = tuple[str, str, int, str]


class Masks(Protocol):
    """The masks of one video, read from the disk one at a time."""

    def __len__(self) -> int: ...

    def read(self, frame: int) -> np.ndarray:
        """(H, W) whole numbers: 0 where normal."""
        ...


@dataclass(frozen=True)
class VideoTruth:
    """The anomalous frames, and with masks the anomalous pixels. Masks stay on disk until they are read."""

    origin: str
    """The file or folder that it came from, for messages."""
    labels: Mapping[str, np.ndarray]
    """(F,) bool of each video, True = anomalous, in the order of the videos."""
    masks: Mapping[str, Masks]
    """Of the videos that have pixel masks."""
    has_track_ids: bool = False
    """Whether the values of the masks tell one anomaly from another: some video has several positive ones."""

    @property
    def videos(self) -> tuple[str, ...]:
        """The videos, in the order that `read_truth` was given them."""
        return tuple(self.labels)

    def mask_values(self, video: str, frame: int) -> np.ndarray | None:
        """(H, W) whole numbers read from the mask: 0 = normal, track ids if `has_track_ids`; None without masks."""
        masks = self.masks.get(video)
        return None if masks is None else masks.read(frame)


def read_truth(path: Path | str, frames: Lengths) -> VideoTruth:
    """The labels of videos from a CSV file or from a folder of masks.

    A CSV file has the columns `video,frame,label`, with one row for every frame of every video and labels 0 or 1,
    false or true, normal or anomaly; or the columns `video,start,end`, with one row for every anomalous segment.
    Frames count from 0, and `end` is the last frame of the segment. Further columns are ignored.

    A folder has, for each video, a sub-folder named as the video, with one PNG, BMP or TIFF mask a frame in
    natural order (2 before 10), or `<video>_gt` as in UCSD (where such folders exist, the others beside them are
    taken for the frames), or a file `<video>.npy` of shape (frames, height, width), or (frames,) for labels alone.
    Values other than 0 are anomalous; if any video has several positive values, the values of all are ids of
    tracks. A colour is a value of its own, an entry of a palette counts by its number, and alpha is ignored.

    A video `clip.mp4` may be called `clip` in both.

    Args:
        path: of the CSV file or the folder.
        frames: how many frames each video has, by its name as in `FrameKey.video`.

    Raises:
        DataError: nothing there, a video too few or too many, another number of labels or masks than of frames,
            masks of several sizes in one video, an unreadable mask or value.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path, frames)
    if path.suffix.lower() == ".csv" and path.is_file():
        return VideoTruth(str(path), _read_csv(path, frames), {})
    raise DataError(f"{path}: not there, or neither a .csv file of labels nor a folder of masks; check the path")


def listed_videos(videos: Iterable[str]) -> str:
    """The first ten names, for a message."""
    names = [repr(video) for video in videos]
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")


def _names(frames: Lengths) -> dict[str, str]:
    """The video for each name that labels may use: its own name, with or without the suffix of the file."""
    if not frames:
        raise DataError("no video to read labels for; give at least one")
    short: dict[str, list[str]] = {}
    for video in frames:
        path = PurePosixPath(video)
        short.setdefault(str(path.parent / path.stem), []).append(video)
    unambiguous = {name: videos[0] for name, videos in short.items() if len(videos) == 1}
    return unambiguous | {video: video for video in frames}


def _check_count(where: str, found: int, frames: int, what: str) -> None:
    if found != frames:
        raise DataError(f"{where} has {frames} frames and {found} {what}; give one a frame")


# CSV files


def _read_csv(path: Path, frames: Lengths) -> dict[str, np.ndarray]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            rows.fieldnames = columns = [name.strip().lower() for name in rows.fieldnames or ()]
            for wanted, read in ((FRAME_COLUMNS, _frame_labels), (SEGMENT_COLUMNS, _segment_labels)):
                if set(wanted) <= set(columns):
                    return read(path, frames, _rows(path, frames, rows, wanted))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot read this file as CSV in UTF-8 ({error}); write it anew") from None
    found = f"has the columns {', '.join(columns)}" if any(columns) else "the file is empty, or its first line is"
    raise DataError(
        f"{path}: {found}; give video,frame,label (one row a frame) or video,start,end (one row an anomalous "
        "segment) in the first line"
    )


def _rows(path: Path, frames: Lengths, rows: csv.DictReader[str], wanted: Sequence[str]) -> Iterator[_Row]:
    """Of each row of a CSV file: its place, for messages; its video; the number in the second column; the third."""
    names = _names(frames)
    for row in rows:
        where = f"{path}: line {rows.line_num}"
        values = [row[column] for column in wanted]
        if None in values:
            given = sum(value is not None for value in row.values())
            raise DataError(f"{where}: has {given} values, fewer than the header has columns; complete it")
        name, number, text = (value.strip() for value in values)
        if name not in names:
            raise DataError(f"{where}: unknown video {name!r}; the videos are {listed_videos(frames)}")
        yield where, names[name], _frame_number(number, where), text


def _frame_number(text: str, where: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise DataError(f"{where}: {text!r} is no frame number; give whole numbers, counted from 0")
    return int(text)


def _frame_labels(path: Path, frames: Lengths, rows: Iterator[_Row]) -> dict[str, np.ndarray]:
    given: dict[str, dict[int, bool]] = {video: {} for video in frames}
    for where, video, frame, label in rows:
        if frame in given[video]:
            raise DataError(f"{where}: frame {frame} of video {video!r} has a label already; give each frame one")
        if label.lower() not in LABELS:
            raise DataError(f"{where}: {label!r} is no label; give 0 or 1, false or true, normal or anomaly")
        given[video][frame] = LABELS[label.lower()]
    for video, of_video in given.items():
        _check_count(f"{path}: video {video!r}", len(of_video), frames[video], "labels")
        if (last := max(of_video, default=0)) >= frames[video]:
            raise DataError(
                f"{path}: frame {last} of video {video!r}, whose {frames[video]} frames are 0 to "
                f"{frames[video] - 1}; count from 0"
            )
    return {
        video: np.array([labels[i] for i in range(len(labels))], dtype=bool) for video, labels in given.items()
    }


def _segment_labels(path: Path, frames: Lengths, rows: Iterator[_Row]) -> dict[str, np.ndarray]:
    labels = {video: np.zeros(count, dtype=bool) for video, count in frames.items()}
    for where, video, start, text in rows:
        end = _frame_number(text, where)
        if not start <= end < frames[video]:
            raise DataError(
                f"{where}: the segment from {start} to {end} of video {video!r}, whose {frames[video]} frames are "
                f"0 to {frames[video] - 1}; give first and last frame, counted from 0"
            )
        labels[video][start : end + 1] = True
    return labels


# Folders of masks


def _read_folder(path: Path, frames: Lengths) -> VideoTruth:
    labels: dict[str, np.ndarray] = {}
    masks: dict[str, Masks] = {}
    has_track_ids = False
    for video, place in _mask_places(path, frames).items():
        opened = _Masks(place)
        _check_count(f"{place}: video {video!r}", len(opened), frames[video], "masks")
        labels[video], several = _survey(opened)
        if opened.has_pixels:
            masks[video] = opened
            has_track_ids |= several
    return VideoTruth(str(path), {video: labels[video] for video in frames}, masks, has_track_ids)


def _mask_places(path: Path, frames: Lengths) -> dict[str, Path]:
    """Where the masks of each video lie."""
    names = _names(frames)
    places: dict[str, Path] = {}
    for name, place in _all_mask_places(path):
        if name not in names:
            raise DataError(
                f"{place}: masks of an unknown video {name!r}; the videos are {listed_videos(frames)}; name the "
                "masks as their video, or take them away"
            )
        if names[name] in places:
            raise DataError(
                f"{place}: video {names[name]!r} has its masks in {places[names[name]]} too; leave one of the two"
            )
        places[names[name]] = place
    if missing := [video for video in frames if video not in places]:
        only_gt = any(place.name.endswith("_gt") for place in places.values())
        raise DataError(
            f"{path}: no masks of video {missing[0]!r}; put one PNG, BMP or TIFF a frame in a sub-folder of that "
            "name, or an array in a .npy file of that name"
            + ("; as some folders end in _gt, only these count as masks" if only_gt else "")
        )
    return places


def _all_mask_places(path: Path) -> list[tuple[str, Path]]:
    """Every folder of masks and every array below a folder, and the name of its video."""
    folders: list[tuple[str, Path]] = []
    arrays: list[tuple[str, Path]] = []
    for folder, files in folders_below(path):
        if any(file.suffix.lower() in MASK_SUFFIXES for file in files):
            if folder == path:
                raise DataError(
                    f"{path}: masks lie in it directly; put those of each video in a folder named as it"
                )
            folders.append((folder.relative_to(path).as_posix(), folder))
        for file in sorted(files):
            if file.suffix == ".npy":
                arrays.append((file.relative_to(path).with_suffix("").as_posix(), file))
    if in_ucsd_layout := [(name.removesuffix("_gt"), place) for name, place in folders if name.endswith("_gt")]:
        folders = in_ucsd_layout  # the others hold the frames: Test001 beside Test001_gt
    return folders + arrays


class _Masks:
    """The masks of one video: a folder with one image a frame, in natural order, or an array of all frames."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._files = images_in(place.iterdir(), MASK_SUFFIXES) if place.is_dir() else None
        shape = (len(self._files), 1, 1) if self._files is not None else self._array().shape
        self._frames = shape[0] if shape else 0
        self.has_pixels = len(shape) == 3
        if self._files is None and (len(shape) not in (1, 3) or 0 in shape):
            raise DataError(
                f"{place}: has the shape {shape}; give (frames, height, width), or (frames,) for labels"
            )

    def __len__(self) -> int:
        return self._frames

    def name(self, frame: int) -> str:
        return str(self._files[frame]) if self._files is not None else f"{self.place}: frame {frame}"

    def read(self, frame: int) -> np.ndarray:
        try:
            values = read_values(self._files[frame]) if self._files is not None else self._array()[frame]
        except UnreadableError as error:
            raise DataError(f"{self.name(frame)}: not a readable image ({error}); mend or remove it") from None
        return _checked_values(np.array(values), self.name(frame))

    def _array(self) -> np.ndarray:
        """All frames; on the disk, so that a read takes one."""
        try:
            loaded: Any = np.load(self.place, mmap_mode="r", allow_pickle=False)
        except Exception as error:  # numpy raises of any kind on a header that was tampered with
            reason = first_line(error)
            raise DataError(f"{self.place}: not a readable array ({reason}); save it with numpy.save") from None
        if not isinstance(loaded, np.ndarray):
            raise DataError(f"{self.place}: holds several arrays; save the one of masks with numpy.save")
        return loaded


def _survey(masks: _Masks) -> tuple[np.ndarray, bool]:
    """Labels (F,) of frames derived from masks, and whether the masks have several positive values."""
    labels = np.zeros(len(masks), dtype=bool)
    seen: set[int] = set()
    size: tuple[int, ...] | None = None
    for frame in range(len(masks)):
        values = masks.read(frame)
        size = size or values.shape
        if values.shape != size:
            raise DataError(
                f"{masks.name(frame)}: has {values.shape[1]} x {values.shape[0]} px, and the first of {masks.place} "
                f"has {size[1]} x {size[0]} (width x height); bring them to the size of the video"
            )
        positive = np.unique(values[values != 0])
        if len(positive) > MOST_VALUES:
            raise DataError(
                f"{masks.name(frame)}: holds {len(positive)} positive values, too many for the tracks of a "
                "frame; is it a picture, or saved with loss? Write 0 and 1, or 0 and one value a track"
            )
        labels[frame] = len(positive) > 0
        seen.update(positive.tolist())
    return labels, len(seen) > 1


def _checked_values(values: np.ndarray, where: str) -> np.ndarray:
    if values.dtype.kind not in "buif":
        raise DataError(f"{where}: holds values of type {values.dtype}; give whole numbers, 0 = normal")
    if values.dtype.kind in "if" and not (values >= 0).all():
        raise DataError(f"{where}: holds negative values or NaN; give whole numbers, 0 = normal")
    if values.dtype.kind == "f" and not (np.isfinite(values).all() and (values == np.floor(values)).all()):
        raise DataError(f"{where}: holds fractions or infinite values; give whole numbers, 0 = normal")
    return values.astype(np.int64) if values.dtype.kind == "f" else values
