"""The readers of docs/readers score an exported file without memae, in Python and in JavaScript."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from memae import Detector
from memae.export import export_model
from tests.small_detectors import OTHERS

READERS = Path(__file__).parents[2] / "docs" / "readers"


def python(*words: object) -> str:
    """What read.py prints, in a process that cannot import memae or torch."""
    code = (
        "import runpy, sys\nsys.modules['memae'] = sys.modules['torch'] = None\n"
        "sys.argv = sys.argv[1:]\nrunpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command = [sys.executable, "-c", code, str(READERS / "read.py"), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def verdicts(printed: str) -> tuple[np.ndarray, list[bool]]:
    lines = [line.split(",") for line in printed.splitlines()]
    return np.array([float(score) for score, _ in lines]), [flagged == "true" for _, flagged in lines]


def test_python_scores_the_golden_samples_and_a_csv_file(
    table: Detector, table_onnx: Path, odd_rows: pd.DataFrame, tmp_path: Path
) -> None:
    assert float(python(table_onnx, "golden")) < 1e-4
    odd_rows.head(20).assign(round=odd_rows["round"].map({True: "true", False: "false"})).to_csv(
        tmp_path / "rows.csv", index=False
    )
    scores, flags = verdicts(python(table_onnx, tmp_path / "rows.csv"))
    wanted = table.detect(odd_rows.head(20))
    np.testing.assert_allclose(scores, wanted.scores, rtol=1e-5)
    assert flags == wanted.is_anomaly.tolist()


@pytest.mark.slow
def test_python_scores_image_files(image: Detector, image_onnx: Path, tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.png" for number in range(3)]
    for file, pixels in zip(files, OTHERS[::50], strict=False):
        Image.fromarray(pixels * 15).save(file)
    scores, flags = verdicts(python(image_onnx, *files))
    wanted = image.detect(OTHERS[::50][:3] * 15)
    np.testing.assert_allclose(scores, wanted.scores, rtol=1e-5)
    assert flags == wanted.is_anomaly.tolist()


@pytest.mark.slow
def test_python_scores_with_openvino(video: Detector, tmp_path: Path) -> None:
    folder = export_model(video.artifact, tmp_path / "out", "openvino").folder
    assert float(python(folder, "golden")) < 1e-4


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with read.js and onnxruntime-node."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed")
    folder = tmp_path_factory.mktemp("node")
    shutil.copy(READERS / "read.js", folder)
    # without its script, which would fetch CUDA from elsewhere; the CPU library is in the package
    command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "onnxruntime-node@1.30.0"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, check=False)
    if done.returncode:
        pytest.skip(f"npm cannot install onnxruntime-node here: {done.stderr.strip().splitlines()[-1]}")
    return folder


def javascript(node: Path, *words: object) -> str:
    done = subprocess.run(
        ["node", "read.js", *map(str, words)], cwd=node, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["table", "image", "video"])
def test_javascript_scores_the_golden_samples(kind: str, node: Path, request: pytest.FixtureRequest) -> None:
    assert float(javascript(node, request.getfixturevalue(f"{kind}_onnx"))) < 1e-4


@pytest.mark.slow
def test_javascript_scores_rows(
    table: Detector, table_onnx: Path, odd_rows: pd.DataFrame, node: Path, tmp_path: Path
) -> None:
    rows = odd_rows.head(20).astype(object).where(odd_rows.head(20).notna(), None)
    (tmp_path / "rows.json").write_text(json.dumps(rows.to_dict("records")))
    scores, flags = verdicts(javascript(node, table_onnx, tmp_path / "rows.json"))
    wanted = table.detect(odd_rows.head(20))
    np.testing.assert_allclose(scores, wanted.scores, rtol=1e-5)
    assert flags == wanted.is_anomaly.tolist()


def test_the_javascript_reader_is_short() -> None:
    code = [line for line in (READERS / "read.js").read_text().splitlines() if line and not line.startswith("//")]
    assert len(code) <= 40
