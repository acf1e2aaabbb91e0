import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from PIL import Image

from memae.errors import DataError
from memae.image.arrays import Images
from memae.image.preprocess import ImagePreprocess
from memae.modality import collect, modality_named, open_source
from memae.table.schema import TablePreprocess
from memae.table.source import Table
from tests.small_tables import fit_table

ROWS = np.random.default_rng(0).random((6, 3))


def fit(x: np.ndarray | pd.DataFrame) -> ImagePreprocess | TablePreprocess:
    found = collect(open_source(x))
    return fit_table(found, "standard") if isinstance(found, Table) else ImagePreprocess.fit(found, "none")


@pytest.mark.parametrize(
    "rows",
    [
        ROWS,
        ROWS.astype(np.float32),
        ROWS.astype(">f8"),
        ROWS.astype(np.longdouble),
        ROWS.astype(np.float16),
        np.asfortranarray(ROWS),
        np.repeat(ROWS, 2, axis=1)[:, ::2],
        ROWS.tolist(),
        torch.from_numpy(ROWS),
        torch.from_numpy(ROWS).requires_grad_(),
        torch.from_numpy(ROWS).bfloat16(),
    ],
    ids=[
        "float64",
        "float32",
        "big endian",
        "long double",
        "float16",
        "Fortran order",
        "strided",
        "list",
        "tensor",
        "tensor with gradient",
        "bfloat16 tensor",
    ],
)
def test_two_axes_are_a_table_of_numbers(rows: np.ndarray | torch.Tensor | list[list[float]]) -> None:
    source = open_source(rows)
    table = collect(source)
    assert source.modality == "table"
    assert table.columns.column_names == ["x0", "x1", "x2"]
    assert list(table.keys) == list(range(6))
    assert np.allclose(np.array([table.columns[name] for name in table.columns.column_names]).T, ROWS, atol=4e-3)


@pytest.mark.parametrize("dtype", ["int8", "uint64", "int32", ">i4"])
def test_whole_numbers_are_numbers(dtype: str) -> None:
    assert [column.kind for column in fit(np.arange(6).reshape(3, 2).astype(dtype)).columns] == ["number"] * 2


def test_three_and_four_axes_are_images() -> None:
    for shape in ((6, 5, 7), (6, 1, 5, 7), (6, 5, 7, 1)):
        source = open_source(torch.rand(shape))
        assert source.modality == "image"
        assert collect(source).pixels.shape == (6, 1, 5, 7)


def test_samples_and_frames_are_sources_too() -> None:
    images = Images(np.zeros((2, 1, 4, 4), np.uint8), ["a", "b"], "the camera")
    found = collect(open_source(images))
    assert np.array_equal(found.pixels, images.pixels)
    assert (found.keys, found.origin) == (["a", "b"], "the camera")
    table = Table(pa.table({"a": [1, 2]}), ["u", "v"], "the sensor")
    assert collect(open_source(table)).keys == ["u", "v"]
    for frame in (pa.table({"a": [1, 2]}), pl.DataFrame({"a": [1, 2]}), pd.DataFrame({"a": [1, 2]})):
        found = collect(open_source(frame))
        assert found.columns.to_pydict() == {"a": [1, 2]}
        assert list(found.keys) == [0, 1]


def test_paths_are_opened_by_their_ending(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]})
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_csv(tmp_path / "t.CSV", index=False)
    frame.to_csv(tmp_path / "t.csv.gz", index=False)
    frame.to_parquet(tmp_path / "t.parquet")
    for name in ("t.csv", "t.CSV", "t.csv.gz", "t.parquet"):
        for path in (tmp_path / name, str(tmp_path / name)):
            assert collect(open_source(path)).columns.to_pylist() == frame.to_dict("records")
    pictures = np.arange(32, dtype=np.uint8).reshape(2, 4, 4)
    np.save(tmp_path / "x.npy", pictures)
    np.savez(tmp_path / "x.npz", X=pictures)
    (tmp_path / "images").mkdir()
    for place, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / "images" / f"{place}.png")
    idx = b"\x00\x00\x08\x03\x00\x00\x00\x02\x00\x00\x00\x04\x00\x00\x00\x04" + pictures.tobytes()
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx)
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx))
    for name in ("x.npy", "x.npz", "images", "t10k-images-idx3-ubyte", "t10k-images-idx3-ubyte.gz"):
        assert np.array_equal(collect(open_source(tmp_path / name)).pixels[:, 0], pictures)
    assert collect(open_source(tmp_path / "images" / "1.png")).keys == ["1.png"]


def test_arrays_beside_x_are_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", X=ROWS, y=np.array([0, 1, 0, 1, 1, 0]), kind=np.array(list("aabbab")))
    source = open_source(tmp_path / "d.npz")
    assert source.modality == "table"
    assert source.labels("y").tolist() == ["0", "1", "0", "1", "1", "0"]
    assert source.labels("kind").tolist() == list("aabbab")
    with pytest.raises(DataError, match=r"d\.npz: holds no array 'z'; it has y, kind beside X"):
        source.labels("z")
    left = source.without(["y", "x1"])
    assert collect(left).columns.column_names == ["x0", "x2"]
    assert left.labels("y").tolist() == source.labels("y").tolist()
    assert [len(part) for part in left.chunks(4)] == [4, 2]


def test_big_endian_files_are_read(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", ROWS.astype(">f4"))
    assert np.allclose(collect(open_source(tmp_path / "x.npy")).columns["x1"].to_numpy(), ROWS[:, 1])


@pytest.mark.parametrize(
    ("x", "what"),
    [
        (np.ones((3, 2), complex), "holds complex128, not numbers; pass numbers"),
        (np.array([["a", "b"]]), "holds <U1, not numbers; pass numbers"),
        (None, "holds object, not numbers; pass numbers"),
        ({"a": [1]}, "holds object, not numbers; pass numbers, or a DataFrame"),
        (pl.LazyFrame({"a": [1]}), "holds object, not numbers; pass numbers, or a DataFrame"),
        ([[1, 2], [3]], "rows of different lengths .*give all samples one shape"),
        (7, r"of shape a single number; pass \(S, D\)"),
        (pd.Series([1, 2]), r"of shape 2; pass \(S, D\)"),
    ],
)
def test_what_holds_no_samples_is_refused(x: Any, what: str) -> None:
    with pytest.raises(DataError, match=f"the array: {what}"):
        open_source(x)


def test_paths_to_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.csv: no such file or folder; check the path"):
        open_source(tmp_path / "nowhere.csv")
    (tmp_path / "empty.csv").touch()
    with pytest.raises(DataError, match=r"empty\.csv: the file is empty; check how it was written"):
        open_source(tmp_path / "empty.csv")
    (tmp_path / "t.xlsx").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"t\.xlsx: no reader for this kind of file; known: \.csv, .*folders"):
        open_source(tmp_path / "t.xlsx")


@pytest.mark.parametrize("x", [np.ones((0, 3)), np.ones((3, 0)), np.ones((0, 4, 4)), pd.DataFrame({"a": []})])
def test_no_samples_are_refused(x: np.ndarray | pd.DataFrame) -> None:
    with pytest.raises(DataError, match=r"the (array|DataFrame): holds no samples"):
        collect(open_source(x))


@pytest.mark.parametrize("text", ["a,b\n", "a,b", "\n"])
def test_a_csv_file_of_a_header_only_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=r"t\.csv: holds no samples"):
        collect(open_source(tmp_path / "t.csv"))


def test_a_model_says_how_a_csv_file_is_read(tmp_path: Path) -> None:
    model = fit(pd.DataFrame({"zip": ["01", "02"], "n": [1.5, 2.5], "b": [True, False]}))
    (tmp_path / "t.csv").write_text("zip,n,b\n01,3,true\n")
    read = collect(open_source(tmp_path / "t.csv", modality_named("table"), model))
    assert read.columns.to_pylist() == [{"zip": "01", "n": 3.0, "b": True}]
    (part,) = open_source(tmp_path / "t.csv", modality_named("table"), model).chunks(10)
    assert part.columns.to_pylist() == [{"zip": "01", "n": 3.0, "b": True}]


def test_a_model_says_in_which_channels_a_folder_is_read(tmp_path: Path) -> None:
    colour = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(colour).save(tmp_path / "a.png")
    for channels in (1, 3):
        model = fit(255 * np.random.default_rng(0).random((4, channels, 6, 8)))
        pixels = collect(open_source(tmp_path, modality_named("image"), model)).pixels
        assert pixels.shape == (1, channels, 6, 8)
        assert (
            model.encode(collect(open_source(tmp_path / "a.png", modality_named("image"), model))).shape
            == pixels.shape
        )


def npy(header: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode("latin-1") + bytes(64)


HEADERS = {
    "deep": "(" * 3000 + ")" * 3000,
    "no end": "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 2",
    "a number as type": "{'descr': 5, 'fortran_order': False, 'shape': (2, 2)}",
    "a list as type": "{'descr': [5, {}], 'fortran_order': False, 'shape': (2, 2)}",
    "keys of several types": "{'descr': '<f8', 1: False, 'shape': (2, 2)}",
    "a shape below zero": "{'descr': '<f8', 'fortran_order': False, 'shape': (-2, 2)}",
    "a shape beyond 64 bits": "{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999999999, 2)}",
    "a shape beyond the memory": "{'descr': '<f8', 'fortran_order': False, 'shape': (9999999999999, 2)}",
    "unhashable keys": "{[]: 1}",
    "NUL": "{'descr': '<f8\0', 'fortran_order': False, 'shape': (2, 2)}",
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_broken_header_of_an_npy_file_is_refused(tmp_path: Path, name: str) -> None:
    if name == "a shape below zero" and int(np.__version__.split(".")[0]) < 2:
        pytest.skip("older ones take a number below zero for one that is left open")
    (tmp_path / "x.npy").write_bytes(npy(HEADERS[name]))
    with pytest.raises(DataError, match=r"x\.npy: not a readable numpy file \(.*\); write it again"):
        open_source(tmp_path / "x.npy")


@pytest.mark.parametrize(
    ("place", "value"), [(4, 255), (6, 1), (8, 99)], ids=["of a later version", "encrypted", "of no known packing"]
)
def test_a_zip_that_cannot_be_unpacked_is_refused(tmp_path: Path, place: int, value: int) -> None:
    np.savez(tmp_path / "x.npz", X=ROWS)
    content = bytearray((tmp_path / "x.npz").read_bytes())
    for start, shift in ((content.index(b"PK\x03\x04"), 0), (content.index(b"PK\x01\x02"), 2)):
        content[start + place + shift] = value
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"x\.npz: not a readable numpy file \(.*\); write it again"):
        open_source(tmp_path / "x.npz")
