import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memae.errors import DataError
from memae.image.arrays import ArraySource, Images
from memae.modality import open_source
from memae.modality.sources import _read_numpy as open_npy
from memae.types import EVERYTHING


def source(*shape: int, dtype: str = "float32") -> tuple[np.ndarray, ArraySource]:
    values = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    return values, ArraySource.of(values, "the array")


def everything(source: ArraySource) -> Images:
    (images,) = source.chunks(EVERYTHING)
    return images


def test_grey_images_get_a_channel_axis() -> None:
    values, images = source(5, 6, 7)
    assert everything(images).pixels.shape == (5, 1, 6, 7)
    assert np.array_equal(everything(images).pixels[:, 0], values)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_channels_may_stand_first(channels: int) -> None:
    values, images = source(5, channels, 6, 7)
    assert np.array_equal(everything(images).pixels, values)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_channels_may_stand_last(channels: int) -> None:
    values, images = source(5, 6, 7, channels)
    assert everything(images).pixels.shape == (5, channels, 6, 7)
    assert everything(images).pixels[4, channels - 1, 2, 3] == values[4, 2, 3, channels - 1]


@pytest.mark.parametrize("shape", [(5, 3, 6, 3), (5, 1, 6, 4), (5, 6, 7, 8), (5, 2, 6, 7)])
def test_a_colour_axis_that_cannot_be_told_is_refused(shape: tuple[int, int, int, int]) -> None:
    with pytest.raises(
        DataError, match=f"the array: of shape {' x '.join(map(str, shape))}.*pass \\(S, C, H, W\\)"
    ):
        source(*shape)


@pytest.mark.parametrize("shape", [(), (5,), (2, 2, 2, 2, 2)])
def test_a_shape_without_a_meaning_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"the array: of shape .*pass \(S, D\) for a table"):
        open_source(np.zeros(shape))


def test_bytes_stay_bytes_and_all_else_becomes_float32() -> None:
    assert everything(source(2, 4, 4, dtype="uint8")[1]).pixels.dtype == np.uint8
    for dtype in ("int64", "float64", "float16", ">f8", "bool"):
        assert everything(source(2, 4, 4, dtype=dtype)[1]).pixels.dtype == np.float32


def test_chunks_are_the_whole_in_order_with_running_keys() -> None:
    values, images = source(7, 4, 4)
    parts = list(images.chunks(3))
    assert [len(part) for part in parts] == [3, 3, 1]
    assert [key for part in parts for key in part.keys] == list(range(7))
    assert np.array_equal(np.concatenate([part.pixels[:, 0] for part in parts]), values)


def test_images_have_no_labels_and_no_columns() -> None:
    _, images = source(7, 4, 4)
    with pytest.raises(DataError, match="the array: comes without labels, so there is no 'y'"):
        images.labels("y")
    with pytest.raises(DataError, match="the array: images have no column 'a' to leave out"):
        images.without(["a"])
    assert images.without([]) is images


def test_an_npy_file_gives_its_array(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((4, 3))
    np.save(tmp_path / "x.npy", values)
    found, beside = open_npy(tmp_path / "x.npy")
    assert np.array_equal(found, values)
    assert beside is None


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("name", ["X", "x"])
def test_an_npz_file_gives_x_and_what_lies_beside_it(tmp_path: Path, save: Callable[..., None], name: str) -> None:
    values, labels = np.random.default_rng(0).random((4, 3)), np.array([0, 1, 0, 1])
    save(tmp_path / "d.npz", **{name: values, "y": labels})
    found, beside = open_npy(tmp_path / "d.npz")
    assert np.array_equal(found, values)
    assert beside is not None
    assert list(beside) == ["y"]
    assert np.array_equal(beside["y"], labels)


def test_the_only_array_of_an_npz_file_may_have_any_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", measurements=np.ones((4, 3)))
    assert open_npy(tmp_path / "d.npz")[0].shape == (4, 3)


def test_several_arrays_and_no_x_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", first=np.ones(4), second=np.ones(4))
    with pytest.raises(DataError, match=r"d\.npz: holds the arrays first, second; name the samples X"):
        open_npy(tmp_path / "d.npz")


class Payload:
    """Unpickling it would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return open, (str(self.path), "x")


def test_pickled_objects_are_refused_and_never_run(tmp_path: Path) -> None:
    marker = tmp_path / "was-run"
    harmful = np.array([Payload(marker)], dtype=object)
    np.save(tmp_path / "o.npy", harmful, allow_pickle=True)
    np.savez(tmp_path / "o.npz", X=harmful)
    (tmp_path / "p.npy").write_bytes(pickle.dumps(Payload(marker)))
    for name in ("o.npy", "o.npz", "p.npy"):
        with pytest.raises(DataError, match=rf"{name}: not a readable numpy file .*never unpickles; save plain"):
            open_npy(tmp_path / name)
    assert not marker.exists()


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((50, 3))
    saved, zipped = io.BytesIO(), io.BytesIO()
    np.save(saved, values)
    np.savez_compressed(zipped, X=values)
    whole, packed = saved.getvalue(), zipped.getvalue()
    flipped = bytearray(packed)
    flipped[300:340] = bytes(40)
    damaged = {
        "rows.npy": whole[:-20],
        "header.npy": whole[:30],
        "index.npz": packed[:-20],
        "flipped.npz": bytes(flipped),
    }
    for name, content in damaged.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=rf"{name}: not a readable numpy file \(.*\); write it again"):
            open_npy(tmp_path / name)


def test_a_header_that_promises_terabytes_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f8", "fortran_order": False, "shape": (10**12, 100)})
    (tmp_path / "giant.npy").write_bytes(buffer.getvalue())
    with pytest.raises(DataError, match=r"giant\.npy: not a readable numpy file .*write it again"):
        open_npy(tmp_path / "giant.npy")


def test_an_npz_file_without_arrays_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "none.npz", "w"):
        pass
    with pytest.raises(DataError, match=r"none\.npz: holds the arrays \(none\); name the samples X"):
        open_npy(tmp_path / "none.npz")
