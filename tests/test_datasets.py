from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from memae import datasets
from memae.errors import DataError
from tests.small_data import write_cifar10


@pytest.fixture
def cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_cifar10(tmp_path)
    monkeypatch.setenv("MEMAE_DATA", str(tmp_path))
    return tmp_path / "cifar10"


def test_sheets_come_apart_row_by_row_into_images_with_their_labels(cifar10: Path) -> None:
    for split, count in (("train", 400), ("test", 80)):
        pixels, labels = datasets.cifar10(split)
        assert pixels.shape == (count, 3, 32, 32)
        assert pixels.dtype == np.uint8
        assert pixels.flags.c_contiguous
        assert labels.dtype == np.int64
        assert np.array_equal(labels, np.arange(count) % 10)
        for image, label in zip(pixels, labels, strict=True):
            row, column = divmod(int(label), 4)
            bright = np.zeros((3, 32, 32), dtype=bool)
            bright[label % 3, row * 10 : row * 10 + 8, column * 8 : column * 8 + 8] = True
            assert np.array_equal(image > 100, bright)


def test_images_are_those_of_the_sheets_to_the_pixel(cifar10: Path) -> None:
    sheet = np.asarray(Image.open(cifar10 / "train_01.webp"))
    pixels, _ = datasets.cifar10("train")
    assert np.array_equal(pixels[200 + 40 * 2 + 7].transpose(1, 2, 0), sheet[64:96, 7 * 32 : 8 * 32])


@pytest.mark.parametrize("name", ["train_labels.csv", "test_labels.csv"])
def test_a_missing_file_is_named(cifar10: Path, name: str) -> None:
    (cifar10 / name).unlink()
    with pytest.raises(DataError, match=rf"{name}: not found; fetch the data set"):
        datasets.cifar10(name.split("_", maxsplit=1)[0])


def test_missing_sheets_are_named(cifar10: Path) -> None:
    for sheet in cifar10.glob("train_*.webp"):
        sheet.unlink()
    with pytest.raises(DataError, match=r"train_00\.webp: not found; fetch the data set"):
        datasets.cifar10("train")


def test_a_sheet_too_few_is_not_half_a_data_set(cifar10: Path) -> None:
    (cifar10 / "train_01.webp").unlink()
    with pytest.raises(DataError, match=r"1 sheets of the train split hold 200 images, and .* 400 labels"):
        datasets.cifar10("train")


@pytest.mark.parametrize(
    ("name", "content"),
    [("train_00.webp", b"no picture"), ("train_labels.csv", b"index,class\n0,6\n"), ("train_labels.csv", b"")],
)
def test_a_damaged_file_is_named(cifar10: Path, name: str, content: bytes) -> None:
    (cifar10 / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}: cannot read this file .*; fetch it again"):
        datasets.cifar10("train")


def test_a_sheet_cut_short_is_named(cifar10: Path) -> None:
    path = cifar10 / "train_00.webp"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"train_00\.webp: cannot read this file"):
        datasets.cifar10("train")


def test_a_sheet_of_another_shape_is_named(cifar10: Path) -> None:
    Image.new("RGB", (640, 320)).save(cifar10 / "train_00.webp", lossless=True)
    with pytest.raises(DataError, match=r"train_00\.webp: is 640 x 320 px, not 40 images of 32 px wide"):
        datasets.cifar10("train")


@pytest.mark.real
def test_the_real_cifar10_has_its_counts_and_channel_means() -> None:
    pixels, labels = datasets.cifar10("train")
    assert pixels.shape == (50_000, 3, 32, 32)
    assert np.bincount(labels).tolist() == [5_000] * 10
    # the means that everybody normalises with
    assert pixels.mean(axis=(0, 2, 3)) / 255 == pytest.approx([0.4914, 0.4822, 0.4465], abs=2e-4)
    pixels, labels = datasets.cifar10("test")
    assert pixels.shape == (10_000, 3, 32, 32)
    assert np.bincount(labels).tolist() == [1_000] * 10
