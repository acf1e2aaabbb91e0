"""One door to everything that samples come from: `open_source`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
import torch

from memae.counts import count, unit_of
from memae.errors import DataError
from memae.image.arrays import ArraySource, open_npy
from memae.image.mvtec import find_mvtec
from memae.image.paths import IMAGE_SUFFIXES, LIST_SUFFIX, is_pattern
from memae.image.preprocess import ImagePreprocess, TablePreprocess
from memae.image.source import ImageSource, open_idx
from memae.stages import Advance, Watcher, stage
from memae.table.csv import CsvSource
from memae.table.schema import ColumnKind
from memae.table.source import TABLE_SUFFIXES, ArrowSource, ParquetSource, TableSource, from_frame
from memae.types import EVERYTHING, Images, Key, Modality, Samples, Table
from memae.video.paths import VIDEO_SUFFIXES, holds_videos
from memae.video.preprocess import VideoPreprocess
from memae.video.source import VideoSource

READ_IMAGES = 1024  # between two words on how far the reading is

__all__ = ["Expected", "Source", "collect", "expected_by", "open_source"]


@runtime_checkable
class Source(Protocol):
    """Samples in chunks, so that memory does not grow with the length of the input."""

    origin: str

    @property
    def modality(self) -> Modality:
        """What kind of samples these are."""
        ...

    def chunks(self, size: int) -> Iterator[Samples]:
        """At most `size` samples at a time, in order, each time from the start."""
        ...

    def labels(self, name: str) -> np.ndarray:
        """(S,) labels as text, from a column, array, folder or file of that name; only `evaluate` asks."""
        ...

    def without(self, names: Sequence[str]) -> Source:
        """The same samples without these columns."""
        ...


@dataclass(frozen=True)
class Expected:
    """What a model says about the input it wants, so that a file is read as it was in training."""

    modality: Modality
    kinds: Mapping[str, ColumnKind] = field(default_factory=dict)
    """Of the columns of a table."""
    channels: int = 0
    """Of images."""
    size: tuple[int, int] | None = None
    """(height, width) px that images in files are brought to."""
    own_size: bool = False
    """Images keep their own sizes, as they are cut into tiles."""


def expected_by(preprocess: ImagePreprocess | TablePreprocess | VideoPreprocess) -> Expected:
    """How a source must be read for a model with this preprocessing."""
    if isinstance(preprocess, VideoPreprocess):
        return Expected("video")
    if isinstance(preprocess, ImagePreprocess) and preprocess.overlap is not None:
        return Expected("image", channels=preprocess.channels, own_size=True)
    if isinstance(preprocess, ImagePreprocess):
        return Expected("image", channels=preprocess.channels, size=(preprocess.height, preprocess.width))
    return Expected("table", kinds={column.name: column.kind for column in preprocess.columns})


def open_source(x: Any, expected: Expected | None = None, *, skip_bad: bool = False) -> Source:
    """The source behind an array, a tensor, a DataFrame, a path to a file or a folder of images, or several paths.

    Arrays: (S, D) is a table of D number columns; (S, H, W), (S, C, H, W) and (S, H, W, C) are images with C of
    1, 3 or 4. Files: .npy, .npz, .csv and .tsv (.gz too), .parquet, .arrow, .feather, MNIST idx (.gz too).
    Images: a folder, a file, a pattern with wildcards, a list file, or several of these; see `memae.image.paths`.
    Video: a file, a folder that holds such files or has the UCSD layout, or a list of them; see `memae.video.source`.

    Args:
        x: the data; a source is given back as it is.
        expected: what a trained model wants; None when training. Where it is video, folders of images are videos.
        skip_bad: samples that cannot be read are named in the chunks, where a source knows how, and videos in
            `VideoSource.skipped`; they are an error else.

    Raises:
        DataError: nothing there, a type or shape with no meaning here, or a file that cannot be read.
    """
    source = _open(x, expected, skip_bad)
    return source.skipping() if skip_bad and isinstance(source, _CanSkip) else source


@runtime_checkable
class _CanSkip(Protocol):
    def skipping(self) -> Source: ...


def _open(x: Any, expected: Expected | None, skip_bad: bool) -> Source:
    if isinstance(x, Source):
        return x
    if isinstance(x, str | Path):
        return _open_path(Path(x), expected, skip_bad)
    if isinstance(x, list | tuple) and x and all(isinstance(path, str | Path) for path in x):
        paths = [Path(path) for path in x]
        if _means_images(paths, expected):
            return _images(paths, expected)
        return VideoSource(paths, skip_bad=skip_bad)
    if isinstance(x, Images | Table):
        return ArraySource(x) if isinstance(x, Images) else TableSource(x.columns, x.keys, x.origin)
    if isinstance(x, pa.Table):
        return TableSource(x, range(x.num_rows), "the Arrow table")
    frame = from_frame(x)
    if frame is not None:
        return frame
    if isinstance(x, torch.Tensor):
        x = x.detach().cpu()
        x = (x.float() if x.dtype == torch.bfloat16 else x).numpy()  # numpy has no bfloat16
    try:
        array = np.asarray(x)
    except ValueError as error:
        raise DataError(f"the array: rows of different lengths ({error}); give all samples one shape") from None
    return _from_array(array, "the array")


def collect(source: Source, watcher: Watcher | None = None) -> Samples:
    """All samples of a source at once; `watcher` is told of images as they are read.

    Raises:
        DataError: there are none.
    """
    known = count(source)
    with stage(watcher, "reading", unit_of(source.modality), known) as done:
        if source.modality == "image" and known is not None and known.exact:
            return _collected_images(source, known.samples, done)
        parts = list(source.chunks(EVERYTHING))
        done(sum(len(part) for part in parts))
    if not parts or sum(len(part) for part in parts) == 0:
        raise DataError(f"{source.origin}: holds no samples")
    if len(parts) > 1:
        raise AssertionError("a chunk of unlimited size is everything")
    return parts[0]


def _collected_images(source: Source, samples: int, done: Advance) -> Images:
    """The images of all chunks, each copied once to where it stays."""
    pixels, keys, origin = np.empty(0, np.uint8), list[Key](), source.origin
    unreadable: dict[int, str] = {}
    for part in source.chunks(READ_IMAGES):
        assert isinstance(part, Images)
        if len(part) == samples:
            done(samples)
            return part
        if not keys:
            pixels = np.empty((samples, *part.pixels.shape[1:]), part.pixels.dtype)
        pixels[len(keys) : len(keys) + len(part)] = part.pixels
        unreadable |= {len(keys) + row: why for row, why in part.unreadable.items()}
        keys += part.keys
        done(len(part))
    if not keys:
        raise DataError(f"{origin}: holds no samples")
    return Images(pixels[: len(keys)], keys, origin, unreadable)


def _from_array(array: np.ndarray, origin: str) -> Source:
    if array.dtype == object or array.dtype.kind not in "buif":
        raise DataError(
            f"{origin}: holds {array.dtype}, not numbers; pass numbers, or a DataFrame for a mixed table"
        )
    if array.ndim == 2:
        if array.dtype.kind == "f" and array.dtype != np.float32:
            array = array.astype(np.float64)  # Arrow has no long double
        array = array.astype(array.dtype.newbyteorder("="), copy=False)  # nor another byte order
        names = [f"x{place}" for place in range(array.shape[1])]
        columns = pa.table({name: np.ascontiguousarray(array[:, i]) for i, name in enumerate(names)})
        return TableSource(columns, range(len(array)), origin)
    return ArraySource.of(array, origin)


def _means_images(paths: Sequence[Path], expected: Expected | None) -> bool:
    """Whether several paths are images; folders of frames are, too, unless a model of video asks."""
    if expected is not None and expected.modality == "video":
        return False
    suffixes = (*IMAGE_SUFFIXES, LIST_SUFFIX)
    return all(
        path.name.lower().endswith(suffixes) or is_pattern(path) or (path.is_dir() and not holds_videos(path))
        for path in paths
    )


def _images(paths: Sequence[Path], expected: Expected | None) -> ImageSource:
    wanted = expected or Expected("image")
    mvtec = find_mvtec(paths[0]) if len(paths) == 1 else None
    if mvtec and expected is None:
        remark = f"{paths[0]} has the layout of MVTec AD: {mvtec.train} is what trains"
        return ImageSource([mvtec.train], remark=remark)
    if mvtec:
        paths = [mvtec.test]
    return ImageSource(paths, channels=wanted.channels, size=wanted.size, own_size=wanted.own_size)


def _open_path(path: Path, expected: Expected | None, skip_bad: bool) -> Source:
    origin = str(path)
    wants_video = expected is not None and expected.modality == "video"
    if holds_videos(path) or "://" in origin or (wants_video and path.is_dir()):
        return VideoSource([path], skip_bad=skip_bad)
    if path.is_dir() or is_pattern(path):
        return _images([path], expected)
    if not path.exists():
        raise DataError(f"{origin}: no such file or folder; check the path")
    name = path.name.lower()
    if path.stat().st_size == 0:
        raise DataError(f"{origin}: the file is empty; check how it was written")
    if name.endswith((".csv", ".csv.gz", ".tsv", ".tsv.gz")):
        return CsvSource(path, expected.kinds if expected else {})
    if name.endswith(".parquet"):
        return ParquetSource(path)
    if name.endswith((".arrow", ".feather")):
        return ArrowSource(path)
    if name.endswith((".npy", ".npz")):
        array, labels = open_npy(path)
        source = _from_array(array, origin)
        return source if labels is None else _Labelled(source, labels)
    if name.endswith((*IMAGE_SUFFIXES, LIST_SUFFIX)):
        return _images([path], expected)
    if "idx3-ubyte" in name:
        return open_idx(path)
    if name.endswith((".zip", ".tar", ".tar.gz", ".tgz", ".7z", ".rar")):
        raise DataError(f"{origin}: is an archive; unpack it, and give the folder")
    raise DataError(
        f"{origin}: no reader for this kind of file; known: {', '.join(TABLE_SUFFIXES)}, .npy, .npz, "
        f"MNIST idx3-ubyte (.gz), {', '.join(IMAGE_SUFFIXES)}, folders and lists (.txt) of images, and video: "
        f"{', '.join(VIDEO_SUFFIXES)}"
    )


class _Labelled:
    """An array source with further arrays of the same npz file beside it, which can be asked for as labels."""

    def __init__(self, source: Source, beside: Mapping[str, np.ndarray]) -> None:
        self._source, self._beside = source, beside
        self.origin = source.origin

    @property
    def modality(self) -> Modality:
        return self._source.modality

    def chunks(self, size: int) -> Iterator[Samples]:
        return self._source.chunks(size)

    def labels(self, name: str) -> np.ndarray:
        if name not in self._beside:
            raise DataError(f"{self.origin}: holds no array {name!r}; it has {', '.join(self._beside)} beside X")
        return self._beside[name].astype(str)

    def without(self, names: Sequence[str]) -> Source:
        return _Labelled(self._source.without([n for n in names if n not in self._beside]), self._beside)
