"""Small stand-ins, in the real file formats, for the data sets that MEMAE_DATA holds."""

import gzip
import struct
from pathlib import Path

import numpy as np
from PIL import Image

from memae.datasets import KDD_CATEGORIES, KDD_COLUMNS


def write_idx(array: np.ndarray, path: Path) -> None:
    """Writes uint8 as an idx file, gzipped if the name says so."""
    content = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_mnist(root: Path, train: int = 1000, test: int = 100) -> None:
    """Images of 28 x 28 px on which a label n is a bright square in the n-th of ten places; labels in turn."""
    rng = np.random.default_rng(0)
    for prefix, count in (("train", train), ("t10k", test)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        images = rng.integers(0, 40, (count, 28, 28), dtype=np.uint8)
        for image, label in zip(images, labels, strict=True):
            row, column = divmod(int(label), 4)
            image[row * 9 : row * 9 + 7, column * 7 : column * 7 + 7] = 220
        write_idx(images, root / "mnist" / f"{prefix}-images-idx3-ubyte.gz")
        write_idx(labels, root / "mnist" / f"{prefix}-labels-idx1-ubyte.gz")


def write_cifar10(root: Path, train: int = 400, test: int = 80) -> None:
    """Sheets of 40 colour images of 32 x 32 px side by side, five rows of them each at most, as `known.cifar10` reads.

    A label n is a bright square in the n-th of ten places in the colour n % 3; labels in turn.
    """
    rng = np.random.default_rng(0)
    folder = root / "cifar10"
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in (("train", train), ("test", test)):
        labels = np.arange(count) % 10
        images = rng.integers(0, 40, (count, 32, 32, 3), dtype=np.uint8)
        for image, label in zip(images, labels, strict=True):
            row, column = divmod(int(label), 4)
            image[row * 10 : row * 10 + 8, column * 8 : column * 8 + 8, label % 3] = 220
        for number, part in enumerate(np.split(images, range(200, count, 200))):
            rows = [np.concatenate(list(row), axis=1) for row in part.reshape(-1, 40, 32, 32, 3)]
            sheet = Image.fromarray(np.concatenate(rows))
            sheet.save(folder / f"{split}_{number:02}.webp", lossless=True)
        lines = [f"{index},{label},name{label},1" for index, label in enumerate(labels)]
        (folder / f"{split}_labels.csv").write_text("\n".join(["index,label,name,pixel_exact", *lines, ""]))


def write_ped2(root: Path, frames: int = 24) -> None:
    """Two training and two test videos of 48 x 72 px as JPEG frames; each test video flashes in frames 9 to 16."""
    rng = np.random.default_rng(0)
    folder = root / "ucsd_ped2"
    for part in ("training", "testing"):
        for video in ("01", "02"):
            (folder / part / video).mkdir(parents=True)
            for number in range(frames):
                grey = rng.integers(90, 110, (48, 72), dtype=np.uint8)
                grey[20:28, 2 * number : 2 * number + 8] = 40
                if part == "testing" and 8 <= number < 16:
                    grey[4:16, 20:40] = 255 if number % 2 else 0
                Image.fromarray(grey).save(folder / part / video / f"{number + 1:03}.jpg", quality=95)
    (folder / "UCSDped2.m").write_text("TestVideoFile = {};\n" + "TestVideoFile{end+1}.gt_frame = [9:16];\n" * 2)


def write_kddcup99(root: Path, rows: int = 300) -> None:
    """Rows in the format of kddcup.data_10_percent.gz with its 86 category values; four in five are attacks.

    An attack has 100 in its first number columns, a normal row 0; the rest is noise.
    """
    rng = np.random.default_rng(0)
    values = {"protocol_type": 3, "service": 66, "flag": 11, "land": 2, "logged_in": 2, "is_host_login": 1}
    lines = []
    for row in range(rows):
        attack = row % 5 != 0
        cells = []
        for name in KDD_COLUMNS:
            if name in KDD_CATEGORIES:
                cells.append(f"{name}{row % values.get(name, 2)}")
            elif name in ("duration", "src_bytes", "dst_bytes"):
                cells.append(f"{100 * attack + rng.integers(3)}")
            else:
                cells.append(f"{rng.random():.2f}")
        lines.append(",".join([*cells, "smurf." if attack else "normal."]))
    path = root / "kddcup99" / "kddcup.data_10_percent.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress("\n".join([*lines, ""]).encode()))
