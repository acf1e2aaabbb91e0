"""Images in MNIST's idx format, gzipped or not."""

from __future__ import annotations

import struct
import zlib
from math import prod
from pathlib import Path

import numpy as np

from memae.errors import DataError
from memae.files.packed import PackedError, gunzipped
from memae.image.arrays import ArraySource, Images

__all__ = ["open_idx", "read_idx"]

MOST_AXES = 4  # of a file


def read_idx(path: Path) -> np.ndarray:
    """The uint8 array of an idx file (LeCun's MNIST format), gzipped or not.

    Raises:
        DataError: not idx, not bytes, or cut short.
    """
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gunzipped(content)
    except PackedError as error:
        raise DataError(f"{path}: {error}") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot read this file ({error}); fetch it again") from None
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise DataError(f"{path}: not an idx file of bytes; MNIST's start with 00 00 08")
    axes = content[3]
    readable = axes <= MOST_AXES and len(content) >= 4 + 4 * axes
    shape = struct.unpack_from(f">{axes}I", content, 4) if readable else ()
    data = np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * axes) if shape else np.empty(0, np.uint8)
    if not shape or data.size != prod(shape):
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
    label_file = path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1"))
    labels = read_idx(label_file) if label_file != path and label_file.exists() else None
    if labels is not None and len(labels) != len(pixels):
        raise DataError(f"{label_file}: holds {len(labels)} labels for the {len(pixels)} images of {path}")
    return ArraySource(Images(pixels[:, None], range(len(pixels)), str(path)), labels)
