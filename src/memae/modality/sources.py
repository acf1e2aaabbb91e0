"""The one door to everything that samples come from: `open_source`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from memae.errors import ConfigError, DataError, first_line
from memae.files.packed import PackedError, check_unpacked
from memae.files.patterns import is_pattern
from memae.modality.interface import Modality
from memae.modality.items import items_of
from memae.modality.registry import modalities
from memae.progress import Count
from memae.types import EVERYTHING, Source, count

__all__ = ["collect", "open_source"]


def open_source(
    x: Any,
    wanted: Modality | None = None,
    preprocess: Any | None = None,
    *,
    skip_bad: bool = False,
    **options: Any,
) -> Source:
    """The source behind an array, a tensor, a DataFrame, a path to a file or a folder of images, or several paths.

    Arrays: (S, D) is a table of D number columns; (S, H, W), (S, C, H, W) and (S, H, W, C) are images with C of
    1, 3 or 4. Files: .npy, .npz, .csv and .tsv (.gz too), .parquet, .arrow, .feather, MNIST idx (.gz too).
    Several files of a table, a folder of them and a pattern are one table; see `memae.table.several`.
    A file that is open for reading is a CSV file. Any object that gives pictures or rows by their number, such as a
    data set of Hugging Face or of torch, is read as `memae.modality.items` says.
    Images: a folder, a file, a pattern with wildcards, a list file, or several of these; see `memae.image.paths`.
    Video: a file, a folder that holds such files or has the UCSD layout, or a list of them; see `memae.video.source`.

    Args:
        x: the data; a source is given back as it is.
        wanted: the kind of data that a preset or a model is for; for video, folders of images are videos.
        preprocess: of that model, so that the data is read as in training.
        skip_bad: samples that cannot be read are named in the chunks, where a source knows how, and videos in
            `VideoSource.skipped`; they are an error else.
        **options: how to read one kind of data, such as `frame_rate` of folders of frames, which makes them video.

    Raises:
        ConfigError: an option of another kind of data than this one.
        DataError: nothing there, a type or shape with no meaning here, or a file that cannot be read.
    """
    if isinstance(x, Source):
        skipping = getattr(x, "skipping", None)
        return skipping() if skip_bad and skipping else x
    x, origin, labels = _plain(x)
    options = {name: value for name, value in options.items() if value is not None}
    reading = next((kind for kind in modalities() if options and options.keys() <= kind.open_options), wanted)
    kind = next((kind for kind in modalities() if kind.accepts(x, kind in (wanted, reading))), None)
    if kind is None:
        raise DataError(_unknown(x, origin))
    if foreign := sorted(options.keys() - kind.open_options):
        raise ConfigError(f"{origin}: `{foreign[0]}` is not for {kind.plural}; leave it out")
    own = preprocess if kind is wanted else None
    source = kind.open(x, own, origin=origin, skip_bad=skip_bad, **options)
    return source if labels is None else _Labelled(source, labels)


def collect(source: Source) -> Any:
    """All samples of a source at once.

    Raises:
        DataError: there are none.
    """
    (samples,) = list(source.chunks(EVERYTHING)) or [()]
    if not len(samples):
        raise DataError(f"{source.origin}: holds no samples")
    return samples


def _plain(x: Any) -> tuple[Any, str, Mapping[str, np.ndarray] | None]:
    """Paths as `Path`, arrays of any library as numpy arrays, else `x`; what to call it; and arrays beside it."""
    if isinstance(x, str | Path):
        if "://" in str(x):
            raise DataError(f"{x}: is an address, and only local files are read; download it first")
        path = Path(x)
        if path.suffix.lower() in (".npy", ".npz") and path.is_file():
            array, others = _read_numpy(path)
            return _numbers(array, str(path)), str(path), others
        return path, str(path), None
    if isinstance(x, list | tuple) and x and all(isinstance(path, str | Path) for path in x):
        return [Path(path) for path in x], ", ".join(map(str, x)), None
    if isinstance(x, torch.Tensor):
        x = x.detach().cpu()
        x = (x.float() if x.dtype == torch.bfloat16 else x).numpy()  # numpy has no bfloat16
    if not isinstance(x, np.ndarray | list | tuple) and any(kind.accepts(x, False) for kind in modalities()):
        return x, type(x).__name__, None
    if (items := items_of(x)) is not None:
        return items, items.origin, None
    try:
        array = np.asarray(x)
    except ValueError as error:
        raise DataError(f"the array: rows of different lengths ({error}); give all samples one shape") from None
    return _numbers(array, "the array"), "the array", None


def _numbers(array: np.ndarray, origin: str) -> np.ndarray:
    if array.dtype == object or array.dtype.kind not in "buif":
        raise DataError(
            f"{origin}: holds {array.dtype}, not numbers; pass numbers, or a DataFrame for a mixed table"
        )
    return array


def _unknown(x: Any, origin: str) -> str:
    """Why no kind of data takes it."""
    if isinstance(x, np.ndarray):
        shape = " x ".join(map(str, x.shape))
        return (
            f"{origin}: of shape {shape or 'a single number'}; pass (S, D) for a table of numbers, (S, H, W), "
            "(S, C, H, W) or (S, H, W, C) for images"
        )
    paths = x if isinstance(x, list) else [x]
    for path in paths:
        if is_pattern(path) or path.is_dir():
            what = "matches" if is_pattern(path) else "holds"
            if any(kind.accepts(path, False) for kind in modalities()):
                continue
            return f"{path}: {what} no .png, .jpg, .mp4, .csv or other file that is read here; check the path"
        if not path.exists():
            return f"{path}: no such file or folder; check the path"
        if path.is_file() and path.stat().st_size == 0:
            return f"{path}: the file is empty; check how it was written"
        if path.name.lower().endswith((".zip", ".tar", ".tar.gz", ".tgz", ".7z", ".rar")):
            return f"{path}: is an archive; unpack it, and give the folder"
    alone = (path for path in paths if not any(kind.accepts([path], False) for kind in modalities()))
    if len(paths) > 1 and (path := next(alone, None)):
        return f"{path}: is no image, video or table, and several sources are all of one kind; give it alone"
    known = "; ".join(kind.files for kind in modalities()[::-1])
    return f"{origin}: no reader for this kind of file; known: {known}; arrays: .npy, .npz"


def _read_numpy(path: Path) -> tuple[np.ndarray, Mapping[str, np.ndarray] | None]:
    """The array of an npy file, or of an npz file its only array or the one named X or x, and those beside it.

    Raises:
        DataError: a damaged file, pickled objects, or an npz with several arrays and none of that name.
    """
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty; check how it was written")
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return loaded, None
            check_unpacked(path.stat().st_size, sum(member.file_size for member in loaded.zip.infolist()))
            # what is no array comes as bytes
            arrays = {name: array for name in loaded.files if isinstance(array := loaded[name], np.ndarray)}
    except PackedError as error:
        raise DataError(f"{path}: {error}") from None
    except Exception as error:  # numpy and zipfile raise of any kind on a header that was tampered with
        cure = "memae never unpickles; save plain arrays" if "pickle" in str(error).lower() else "write it again"
        raise DataError(f"{path}: not a readable numpy file ({first_line(error)}); {cure}") from None
    name = next((n for n in ("X", "x") if n in arrays), None) or (next(iter(arrays)) if len(arrays) == 1 else None)
    if name is None:
        raise DataError(
            f"{path}: holds the arrays {', '.join(arrays) or '(none)'}; name the samples X so that they are found"
        )
    return arrays.pop(name), arrays


class _Labelled:
    """An array source with further arrays of the same npz file beside it, which can be asked for as labels."""

    def __init__(self, source: Source, others: Mapping[str, np.ndarray]) -> None:
        self._source, self._others = source, others
        self.origin, self.modality = source.origin, source.modality

    def chunks(self, size: int) -> Iterator[Any]:
        return self._source.chunks(size)

    def count(self) -> Count | None:
        return count(self._source)

    def labels(self, name: str) -> np.ndarray:
        if name not in self._others:
            raise DataError(f"{self.origin}: holds no array {name!r}; it has {', '.join(self._others)} beside X")
        return self._others[name].astype(str)

    def without(self, names: Sequence[str]) -> Source:
        return _Labelled(self._source.without([n for n in names if n not in self._others]), self._others)
