"""Scoring on a real Ray cluster of several processes, held against one process row for row."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
from PIL import Image

from memae import Detector
from memae.errors import DataError, WriteError
from memae.progress import Advance
from tests.small_detectors import MALIGNANT, ONES, OTHERS, ROWS, fit

ray = pytest.importorskip("ray", reason="needs the extra ray")

from memae.ray import score_on_ray  # noqa: E402  it imports ray

pytestmark = pytest.mark.filterwarnings("ignore")  # of Ray and its packages

FILES, ROWS_EACH = 4, 6000


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv(
            "PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
        )
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        yield
        ray.shutdown()


@pytest.fixture(scope="module")
def rows_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ray") / "rows.model"
    fit(ROWS).save(path)
    return path


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four Parquet files of several row groups, and one without a row."""
    folder, rng = tmp_path_factory.mktemp("tables"), np.random.default_rng(0)
    every = pd.concat([ROWS, MALIGNANT], ignore_index=True)
    for number in range(FILES):
        rows = every.iloc[rng.integers(len(every), size=ROWS_EACH)].reset_index(drop=True)
        pq.write_table(pa.Table.from_pandas(rows), folder / f"{number}.parquet", row_group_size=500)
    pq.write_table(pa.Table.from_pandas(rows[:0]), folder / "empty.parquet")
    return folder


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many parts of a small source, as of a large one."""
    monkeypatch.setattr("memae.table.files.PART_ROWS", 500)
    monkeypatch.setattr("memae.image.source.PART_IMAGES", 20)


def written(folder: Path) -> pd.DataFrame:
    files = sorted(folder.glob("*.parquet"))
    return pads.dataset(files).to_table().to_pandas()


def assert_as_one_process(found: pd.DataFrame, detector: Detector, source: Any) -> None:
    expected = detector.detect(source)
    keys = found["key"] if "key" in found else found["file"] + " " + found["row"].astype(str)
    assert keys.is_unique
    assert keys.tolist() == [
        " ".join(map(str, key)) if isinstance(key, tuple) else str(key) for key in expected.keys
    ]
    np.testing.assert_allclose(found["score"], expected.scores, rtol=1e-5)
    np.testing.assert_array_equal(found["is_anomaly"].astype(bool), expected.is_anomaly)


@pytest.mark.slow
def test_rows_of_many_files_are_those_of_one_process(
    cluster: None, rows_model: Path, tables: Path, tmp_path: Path, small_parts: None
) -> None:
    told = score_on_ray(rows_model, tables, tmp_path / "out", engine="torch")
    assert (told.facts["samples"], told.facts["parts"]) == (FILES * ROWS_EACH, FILES * ROWS_EACH // 500)
    detector = Detector.load(rows_model, device="cpu", engine="torch")
    found = written(tmp_path / "out")
    assert_as_one_process(found, detector, tables)
    assert told.facts["anomalies"] == found["is_anomaly"].sum()


@pytest.mark.slow
def test_images_are_those_of_one_process(cluster: None, tmp_path: Path, small_parts: None) -> None:
    (tmp_path / "images").mkdir()
    for number, pixels in enumerate(np.concatenate([ONES[:30], OTHERS[:70]])):
        Image.fromarray(pixels * 15).save(tmp_path / "images" / f"{number:03}.png")
    fit(ONES * 15).save(tmp_path / "model")
    told = score_on_ray(tmp_path / "model", tmp_path / "images", tmp_path / "out", engine="torch")
    assert (told.facts["samples"], told.facts["parts"]) == (100, 5)
    detector = Detector.load(tmp_path / "model", device="cpu", engine="torch")
    assert_as_one_process(written(tmp_path / "out"), detector, tmp_path / "images")


@pytest.mark.slow
def test_a_worker_that_is_killed_loses_no_row_and_doubles_none(
    cluster: None, rows_model: Path, tables: Path, tmp_path: Path, small_parts: None
) -> None:
    killed = list[int]()

    def kill_one(event: Any) -> None:
        if isinstance(event, Advance) and not killed:
            workers = [
                one.pid
                for one in psutil.Process().children(recursive=True)
                if "MapWorker" in " ".join(one.cmdline()) or "MapWorker" in one.name()
            ]
            assert workers, "no actor is at work"
            os.kill(workers[0], signal.SIGKILL)
            killed.append(workers[0])

    told = score_on_ray(rows_model, tables, tmp_path / "out", engine="torch", progress=kill_one)
    assert killed and not psutil.pid_exists(killed[0])
    assert told.facts["samples"] == FILES * ROWS_EACH
    assert_as_one_process(
        written(tmp_path / "out"), Detector.load(rows_model, device="cpu", engine="torch"), tables
    )


@pytest.mark.slow
def test_a_bad_row_is_named_or_left_out(cluster: None, rows_model: Path, tables: Path, tmp_path: Path) -> None:
    bad = pq.read_table(tables / "0.parquet").to_pandas()
    bad.iloc[77, 2] = np.inf
    (tmp_path / "bad").mkdir()
    pq.write_table(pa.Table.from_pandas(bad), tmp_path / "bad" / "0.parquet")
    with pytest.raises(DataError, match="77"):
        score_on_ray(rows_model, tmp_path / "bad", tmp_path / "out", engine="torch")
    assert not (tmp_path / "out").exists()
    told = score_on_ray(rows_model, tmp_path / "bad", tmp_path / "out", engine="torch", skip_bad=True)
    assert (told.facts["samples"], told.facts["skipped"]) == (ROWS_EACH, 1)
    assert written(tmp_path / "out")["score"].isna().sum() == 1


def test_what_cannot_be_divided_and_a_folder_that_is_there_are_refused_before_a_cluster_starts(
    rows_model: Path, tables: Path, tmp_path: Path
) -> None:
    started = time.perf_counter()
    (tmp_path / "there").mkdir()
    with pytest.raises(WriteError, match="is there already"):
        score_on_ray(rows_model, tables, tmp_path / "there")
    with pytest.raises(DataError, match="only files of rows and images"):
        score_on_ray(rows_model, ROWS, tmp_path / "out")
    assert time.perf_counter() - started < 5
