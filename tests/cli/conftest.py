import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.datasets import load_breast_cancer, load_digits

from memae import Detector
from memae.cli import main

PIXELS, DIGITS = load_digits(return_X_y=True)
CANCER = load_breast_cancer(as_frame=True)


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, without colours and data sets."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("MEMAE_DATA", raising=False)
    return tmp_path


@pytest.fixture
def memae(folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Runs the command line in this process: its exit code, stdout and stderr."""

    def run(*words: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["memae", *map(str, words)])
        capfd.readouterr()
        code: Any = 0
        try:
            main()
        except SystemExit as exit:
            code = exit.code
        captured = capfd.readouterr()
        return Done(code or 0, captured.out, captured.err)

    return run


@pytest.fixture
def real_memae(folder: Path) -> Callable[..., Done]:
    """Runs the command line as a process of its own, by its installed script."""

    def run(*words: object, **env: str) -> Done:
        script = Path(sys.executable).with_name("memae")
        command = [str(script), *map(str, words)]
        done = subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, check=False)
        return Done(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def tree(folder: Path) -> Callable[[], dict[str, bytes]]:
    """All files of the working directory with their content, and all directories."""

    def read() -> dict[str, bytes]:
        paths = sorted(folder.rglob("*"))
        return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else b"a directory" for p in paths}

    return read


@pytest.fixture(scope="session")
def rows() -> pd.DataFrame:
    """569 rows of four numbers and a category, with their label."""
    frame = CANCER.frame
    return frame.iloc[:, :4].assign(
        shape=np.where(frame["mean concavity"] > 0.1, "hollow", "plain"),
        label=np.where(CANCER.target == 1, "benign", "malignant"),
    )


@pytest.fixture(scope="session")
def benign(rows: pd.DataFrame) -> pd.DataFrame:
    """The 357 normal rows, without the label."""
    return rows[rows.label == "benign"].drop(columns="label")


@pytest.fixture(scope="session")
def digits() -> Callable[[int], np.ndarray]:
    """The images (S, 8, 8) uint8 of one digit."""
    return lambda digit: np.round(PIXELS[digit == DIGITS].reshape(-1, 8, 8) * 255 / 16).astype(np.uint8)


@pytest.fixture(scope="session")
def write_pngs() -> Callable[[np.ndarray, Path], None]:
    """Writes images (S, 8, 8) into a folder as 000.png and so on."""

    def write(images: np.ndarray, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        for place, image in enumerate(images):
            Image.fromarray(image).save(path / f"{place:03}.png")

    return write


BRIEF = {"train": {"epochs": 8}, "memory": {"num_items": 12}}


@pytest.fixture(scope="session")
def models(
    tmp_path_factory: pytest.TempPathFactory, benign: pd.DataFrame, digits: Callable[[int], np.ndarray]
) -> Path:
    """A folder with three models: table, image, and plain (an image model without a memory)."""
    path = tmp_path_factory.mktemp("models")
    Detector(settings=BRIEF, device="cpu").fit(benign).save(path / "table")
    images = digits(0)
    Detector(settings=BRIEF, device="cpu").fit(images).save(path / "image")
    plain = {**BRIEF, "memory": {"enabled": False}}
    Detector(settings=plain, device="cpu").fit(images).save(path / "plain")
    return path


@pytest.fixture
def model(models: Path, folder: Path) -> Callable[..., Path]:
    """Puts one of the models into the working directory, as `model`, or under a name."""

    def put(kind: str, name: str = "model") -> Path:
        shutil.copytree(models / kind, folder / name)
        return Path(name)

    return put


@pytest.fixture
def camera(footage: Path, folder: Path) -> Path:
    """The working directory with a copy of the footage and its model."""
    shutil.copytree(footage, folder, dirs_exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def enter(footage: Path) -> tuple[str, str]:
    """The option for a score of events well above all that a walker does, and well below the intruder."""
    usual = Detector.load(footage / "camera.model", device="cpu").event_threshold(1.0).on_threshold
    return "--on-threshold", f"{2 * usual:.6g}"
