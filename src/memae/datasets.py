"""The data sets that the demo and the experiments know: two inside scikit-learn, three that may lie on the disk."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from memae.errors import DataError
from memae.files.image import UnreadableError, open_image
from memae.image.idx import read_idx

__all__ = ["KDD_CATEGORIES", "KDD_COLUMNS", "breast_cancer", "cifar10", "data_root", "digits", "kddcup99", "mnist"]

# the 41 columns of KDD Cup 1999 in file order (kddcup.names); the seven categories first
KDD_CATEGORIES = (
    "protocol_type", "service", "flag", "land", "logged_in", "is_host_login", "is_guest_login",
)  # fmt: skip
KDD_COLUMNS = (
    "duration", "protocol_type", "service", "flag", "src_bytes", "dst_bytes", "land", "wrong_fragment", "urgent",
    "hot", "num_failed_logins", "logged_in", "num_compromised", "root_shell", "su_attempted", "num_root",
    "num_file_creations", "num_shells", "num_access_files", "num_outbound_cmds", "is_host_login",
    "is_guest_login", "count", "srv_count", "serror_rate", "srv_serror_rate", "rerror_rate", "srv_rerror_rate",
    "same_srv_rate", "diff_srv_rate", "srv_diff_host_rate", "dst_host_count", "dst_host_srv_count",
    "dst_host_same_srv_rate", "dst_host_diff_srv_rate", "dst_host_same_src_port_rate",
    "dst_host_srv_diff_host_rate", "dst_host_serror_rate", "dst_host_srv_serror_rate", "dst_host_rerror_rate",
    "dst_host_srv_rerror_rate",
)  # fmt: skip


def data_root() -> Path:
    """The folder of the data sets: MEMAE_DATA, or shared/data beside the working directory.

    Raises:
        DataError: neither is there.
    """
    named = os.environ.get("MEMAE_DATA")
    root = Path(named) if named else Path("..") / "shared" / "data"
    if not root.is_dir():
        raise DataError(
            f"{root}: no such folder of data sets; set MEMAE_DATA to the folder that holds mnist/ and kddcup99/"
        )
    return root


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Scikit-learn's 1,797 handwritten digits: images (S, 8, 8) float32 from 0 to 16, labels (S,) 0 to 9."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return images.reshape(-1, 8, 8).astype(np.float32), labels


def breast_cancer() -> tuple[pa.Table, np.ndarray]:
    """The Wisconsin breast-cancer table in scikit-learn: 569 rows of 30 columns, labels (S,) True = malignant."""
    from sklearn.datasets import load_breast_cancer

    loaded = load_breast_cancer()
    columns = {str(n): c for n, c in zip(loaded.feature_names, loaded.data.T.copy(), strict=True)}
    return pa.table(columns), loaded.target == 0


def mnist(split: str) -> tuple[np.ndarray, np.ndarray]:
    """MNIST's official "train" or "test" split: pixels (S, 1, 28, 28) uint8, labels (S,) 0 to 9.

    Raises:
        DataError: the files are not in the data folder, or damaged.
    """
    folder, prefix = data_root() / "mnist", {"train": "train", "test": "t10k"}[split]
    pixels = read_idx(_found(folder / f"{prefix}-images-idx3-ubyte.gz"))
    return pixels[:, None], read_idx(_found(folder / f"{prefix}-labels-idx1-ubyte.gz")).astype(np.int64)


def cifar10(split: str) -> tuple[np.ndarray, np.ndarray]:
    """CIFAR-10's official "train" or "test" split: pixels (S, 3, 32, 32) uint8, labels (S,) 0 to 9.

    The images lie in lossless WebP sheets, `train_00.webp` and so on, 40 beside each other and row after row, with
    their labels in the same order in `train_labels.csv`.

    Raises:
        DataError: the files are not in the data folder, or damaged, or hold another number of images than labels.
    """
    folder = data_root() / "cifar10"
    path = _found(folder / f"{split}_labels.csv")
    try:
        labels = pacsv.read_csv(pa.BufferReader(path.read_bytes()))["label"].to_numpy().astype(np.int64)
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot read this file ({error}); fetch it again") from None
    sheets = sorted(folder.glob(f"{split}_*.webp")) or [_found(folder / f"{split}_00.webp")]
    pixels = np.concatenate([_sheet(sheet) for sheet in sheets])
    if len(pixels) != len(labels):
        raise DataError(
            f"{folder}: {len(sheets)} sheets of the {split} split hold {len(pixels)} images, and {path.name} "
            f"{len(labels)} labels; fetch the data set again"
        )
    return pixels, labels


def kddcup99() -> tuple[pa.Table, np.ndarray]:
    """KDD Cup 1999, 10 per cent: 494,021 rows of 34 number and 7 category columns, labels (S,) such as "smurf".

    Raises:
        DataError: the file is not in the data folder, or damaged.
    """
    path = _found(data_root() / "kddcup99" / "kddcup.data_10_percent.gz")
    try:
        rows = pacsv.read_csv(
            pa.BufferReader(gzip.decompress(path.read_bytes())),
            read_options=pacsv.ReadOptions(column_names=[*KDD_COLUMNS, "label"]),
            convert_options=pacsv.ConvertOptions(
                column_types={
                    name: pa.string() if name in (*KDD_CATEGORIES, "label") else pa.float64()
                    for name in (*KDD_COLUMNS, "label")
                }
            ),
        )
    except (OSError, EOFError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot read this file ({error}); fetch it again") from None
    labels = np.array([str(label).rstrip(".") for label in rows["label"].to_pylist()])
    return rows.drop_columns(["label"]), labels


def _sheet(path: Path) -> np.ndarray:
    """The images (S, 3, 32, 32) of a sheet that is 40 of them wide."""
    try:
        with open_image(path) as image:
            pixels = np.asarray(image.convert("RGB"))
    except UnreadableError as error:
        raise DataError(f"{path}: cannot read this file ({error}); fetch it again") from None
    height, width, _ = pixels.shape
    if height % 32 or width != 40 * 32:
        raise DataError(f"{path}: is {width} x {height} px, not 40 images of 32 px wide; fetch it again")
    grid = pixels.reshape(height // 32, 32, 40, 32, 3)  # row, y, column, x, colour
    return np.ascontiguousarray(grid.transpose(0, 2, 4, 1, 3).reshape(-1, 3, 32, 32))


def _found(path: Path) -> Path:
    if not path.exists():
        raise DataError(f"{path}: not found; fetch the data set and put it there, or set MEMAE_DATA")
    return path
