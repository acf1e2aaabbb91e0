"""Images in files: a folder of PNG or JPEG of one size, and MNIST's idx format."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from memae.data.arrays import ArraySource
from memae.data.samples import EVERYTHING, Images, Modality
from memae.errors import DataError
from memae.stages import Count

__all__ = ["IMAGE_SUFFIXES", "FolderSource", "open_idx", "read_idx"]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
CHUNK_BYTES = 64 << 20  # decoded pixels held at a time while scoring

# an 8-bit grey or colour image and what it is read as
_GREY, _COLOUR = ("1", "L", "LA"), ("P", "RGB", "RGBA", "CMYK", "YCbCr", "PA")


class FolderSource:
    """All PNG and JPEG files below a folder, sorted by path, or one such file; the key is the relative path.

    Args:
        path: of the folder or file.
        channels: 1 for grey, 3 for colour; 0 reads colour if any image has it.

    Raises:
        DataError: no image there, one that is unreadable or of 16 bits, or images of several sizes.
    """

    modality: Modality = "image"

    def __init__(self, path: Path, channels: int = 0) -> None:
        self.origin = str(path)
        self._root = path if path.is_dir() else path.parent
        self._files = _image_files(path)
        headers = [_header(file) for file in self._files]
        self._size = headers[0][0]
        for file, (size, _) in zip(self._files, headers, strict=True):
            if size != self._size:
                raise DataError(
                    f"{file}: is {size[0]} x {size[1]} px, and {self._files[0]} is {self._size[0]} x "
                    f"{self._size[1]} (width x height); resize them to one size"
                )
        colour = any(mode in _COLOUR for _, mode in headers)
        self._mode = {0: "RGB" if colour else "L", 1: "L"}.get(channels, "RGB")

    def chunks(self, size: int) -> Iterator[Images]:
        """Decoded images; a chunk of at most `size`, and of 64 MiB unless `size` is unlimited."""
        width, height = self._size
        channels = len(self._mode)
        if size < EVERYTHING:
            size = max(1, min(size, CHUNK_BYTES // (width * height * channels)))
        for start in range(0, len(self._files), min(size, len(self._files))):
            files = self._files[start : start + size]
            pixels = np.empty((len(files), channels, height, width), dtype=np.uint8)
            for place, file in enumerate(files):
                decoded = _decode(file, self._mode)
                pixels[place] = decoded.transpose(2, 0, 1) if decoded.ndim == 3 else decoded[None]
            yield Images(pixels, [self._key(file) for file in files], self.origin)

    def count(self) -> Count:
        """How many images."""
        return Count(len(self._files))

    def labels(self, name: str) -> np.ndarray:
        """The name of the first folder on each image's path, as label "folder".

        Raises:
            DataError: another name, or images that lie in no folder of their own.
        """
        if name != "folder":
            raise DataError(
                f"{self.origin}: images have no column {name!r}; sort them into one folder per label and say "
                "--label-column folder"
            )
        parts = [Path(self._key(file)).parts for file in self._files]
        flat = next((file for file, p in zip(self._files, parts, strict=True) if len(p) < 2), None)
        if flat is not None:
            raise DataError(f"{flat}: lies in no folder below {self.origin}, so it has no label; sort it into one")
        return np.array([p[0] for p in parts])

    def without(self, names: Sequence[str]) -> FolderSource:
        """Itself: images have no columns.

        Raises:
            DataError: there is a column to leave out.
        """
        if other := [name for name in names if name != "folder"]:
            raise DataError(f"{self.origin}: images have no column {other[0]!r} to leave out")
        return self

    def _key(self, file: Path) -> str:
        return file.relative_to(self._root).as_posix()


def read_idx(path: Path) -> np.ndarray:
    """The uint8 array of an idx file (LeCun's MNIST format), gzipped or not.

    Raises:
        DataError: not idx, not bytes, or cut short.
    """
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot read this file ({error}); fetch it again") from None
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise DataError(f"{path}: not an idx file of bytes; MNIST's start with 00 00 08")
    axes = content[3]
    shape = struct.unpack_from(f">{axes}I", content, 4) if len(content) >= 4 + 4 * axes else ()
    data = np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * axes) if shape else np.empty(0, np.uint8)
    if not shape or data.size != np.prod(shape, dtype=np.int64):
        raise DataError(f"{path}: the file is cut short or too long for its shape {shape}; fetch it again")
    return data.reshape(shape)


def open_idx(path: Path) -> ArraySource:
    """The images of an idx3 file, and the labels of the idx1 file beside it where there is one.

    Raises:
        DataError: a damaged file, or labels of another length.
    """
    pixels = read_idx(path)
    if pixels.ndim != 3:
        raise DataError(f"{path}: holds {pixels.ndim} axes; a file of images has 3 (count, height, width)")
    beside = path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1"))
    labels = read_idx(beside) if beside != path and beside.exists() else None
    if labels is not None and len(labels) != len(pixels):
        raise DataError(f"{beside}: holds {len(labels)} labels for the {len(pixels)} images of {path}")
    return ArraySource(Images(pixels[:, None], range(len(pixels)), str(path)), labels)


def _image_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    files = sorted(f for f in path.rglob("*") if f.suffix.lower() in IMAGE_SUFFIXES and f.is_file())
    if not files:
        raise DataError(f"{path}: holds no {', '.join(IMAGE_SUFFIXES)} file; check the path")
    return files


def _header(file: Path) -> tuple[tuple[int, int], str]:
    try:
        with Image.open(file) as image:
            size, mode = image.size, image.mode
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(_unreadable(file, error)) from None
    if mode not in _GREY + _COLOUR:
        raise DataError(f"{file}: of mode {mode} (more than 8 bits a channel); convert it to 8-bit grey or colour")
    return size, mode


def _decode(file: Path, mode: str) -> np.ndarray:
    try:
        with Image.open(file) as image:
            # by way of RGBA Pillow drops the alpha channel without a warning
            opened = image.convert("RGBA") if "transparency" in image.info else image
            return np.asarray(opened.convert(mode))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(_unreadable(file, error)) from None


def _unreadable(file: Path, error: Exception) -> str:
    return f"{file}: not a readable image ({str(error).splitlines()[0]}); mend or remove it"
