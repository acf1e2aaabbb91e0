from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from memae import Detector
from memae.export import export_model
from tests.small_detectors import MALIGNANT, ONES, ROWS, fit
from tests.small_footage import BRIEF, write_footage


def mixed(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with a heavy tail, a number that may be missing, a category, a truth value and a constant."""
    area = rows["mean area"]
    rows = rows.assign(
        size=np.where(area > 500, "large", "small"), round=rows["mean concavity"] < 0.05, tail=area**4, one=3.0
    )
    rows.loc[rows.index[::9], "mean texture"] = np.nan
    return rows


@pytest.fixture(scope="session")
def table() -> Detector:
    return fit(mixed(ROWS))


@pytest.fixture(scope="session")
def odd_rows() -> pd.DataFrame:
    """Rows of another kind than those of `table`, one with an unknown category."""
    rows = mixed(MALIGNANT).reset_index(drop=True)
    rows.loc[3, "size"] = "enormous"
    return rows


@pytest.fixture(scope="session")
def image() -> Detector:
    return fit(ONES * 15)


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Detector:
    footage = write_footage(tmp_path_factory.mktemp("footage"))
    settings: dict[str, dict[str, object]] = {}
    for word in BRIEF:
        section, key, value = word.replace("=", ".", 1).split(".", 2)
        settings.setdefault(section, {})[key] = int(value)
    return Detector("video", settings=settings).fit(footage / "normal")


@pytest.fixture(scope="session")
def table_onnx(table: Detector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_model(table.artifact, tmp_path_factory.mktemp("table") / "onnx", "onnx").folder


@pytest.fixture(scope="session")
def image_onnx(image: Detector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_model(image.artifact, tmp_path_factory.mktemp("image") / "onnx", "onnx").folder


@pytest.fixture(scope="session")
def video_onnx(video: Detector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_model(video.artifact, tmp_path_factory.mktemp("video") / "onnx", "onnx").folder
