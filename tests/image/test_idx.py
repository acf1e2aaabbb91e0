import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from memae.errors import DataError
from memae.image.arrays import ArraySource, Images
from memae.image.idx import open_idx, read_idx
from memae.types import EVERYTHING

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 6, 8), dtype=np.uint8)


def idx(array: np.ndarray, magic: bytes = b"\x00\x00\x08") -> bytes:
    return magic + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_idx(path: Path, array: np.ndarray) -> Path:
    path.write_bytes(gzip.compress(idx(array)) if path.suffix == ".gz" else idx(array))
    return path


def everything(source: ArraySource) -> Images:
    (images,) = source.chunks(EVERYTHING)
    return images


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_files_give_images_and_the_labels_beside_them(tmp_path: Path, ending: str) -> None:
    labels = np.array([7, 2, 1, 0, 4], dtype=np.uint8)
    path = write_idx(tmp_path / f"t10k-images-idx3-ubyte{ending}", PIXELS)
    write_idx(tmp_path / f"t10k-labels-idx1-ubyte{ending}", labels)
    source = open_idx(path)
    assert np.array_equal(everything(source).pixels[:, 0], PIXELS)
    assert list(everything(source).keys) == [0, 1, 2, 3, 4]
    assert source.labels("label").tolist() == ["7", "2", "1", "0", "4"]


@pytest.mark.parametrize(
    ("axes", "sizes"),
    [(4, (2**16,) * 4), (5, (1, 1, 1, 1, 1)), (255, (1,) * 255), (3, (2**31, 2**31, 4))],
    ids=["that overflow to 0", "too many", "more than numpy knows", "that overflow"],
)
def test_files_of_axes_that_no_array_has_are_refused(tmp_path: Path, axes: int, sizes: tuple[int, ...]) -> None:
    path = tmp_path / "t10k-images-idx3-ubyte"
    path.write_bytes(bytes([0, 0, 8, axes]) + np.array(sizes, ">u4").tobytes())
    with pytest.raises(DataError, match="t10k-images-idx3-ubyte: the file is cut short or too long"):
        read_idx(path)


def test_labels_beside_are_found_in_both_spellings(tmp_path: Path) -> None:
    path = write_idx(tmp_path / "train-images.idx3-ubyte", PIXELS)
    write_idx(tmp_path / "train-labels.idx1-ubyte", np.arange(5, dtype=np.uint8))
    assert open_idx(path).labels("label").tolist() == list("01234")


def test_images_without_labels_say_so_only_when_asked(tmp_path: Path) -> None:
    source = open_idx(write_idx(tmp_path / "train-images-idx3-ubyte", PIXELS))
    with pytest.raises(DataError, match="train-images-idx3-ubyte: comes without labels"):
        source.labels("label")


def test_labels_of_another_length_are_refused(tmp_path: Path) -> None:
    path = write_idx(tmp_path / "train-images-idx3-ubyte", PIXELS)
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.arange(3, dtype=np.uint8))
    with pytest.raises(DataError, match="train-labels-idx1-ubyte: holds 3 labels for the 5 images"):
        open_idx(path)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (idx(PIXELS)[:-1], "cut short or too long for its shape .*fetch it again"),
        (idx(PIXELS) + b"0", "cut short or too long for its shape .*fetch it again"),
        (idx(PIXELS)[:6], "cut short or too long for its shape .*fetch it again"),
        (idx(PIXELS)[:2], "not an idx file of bytes; MNIST's start with 00 00 08"),
        (idx(PIXELS, magic=b"\x00\x00\x0d"), "not an idx file of bytes; MNIST's start with 00 00 08"),
        (b"\x00\x00\x08\x03" + b"\xff" * 12 + PIXELS.tobytes(), "cut short or too long for its shape"),
        (gzip.compress(idx(PIXELS), mtime=0)[:-15], "cannot read this file .*fetch it again"),
        (gzip.compress(idx(PIXELS), mtime=0)[:10] + b"\xff" * 200, "cannot read this file .*fetch it again"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, content: bytes, what: str) -> None:
    (tmp_path / "images-idx3-ubyte").write_bytes(content)
    with pytest.raises(DataError, match=f"images-idx3-ubyte: .*{what}"):
        read_idx(tmp_path / "images-idx3-ubyte")


def test_labels_given_as_images_are_refused(tmp_path: Path) -> None:
    path = write_idx(tmp_path / "labels-idx3-ubyte", np.arange(5, dtype=np.uint8))
    with pytest.raises(DataError, match=r"labels-idx3-ubyte: holds 1 axes; a file of images has 3"):
        open_idx(path)
