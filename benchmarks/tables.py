"""Rows from Parquet to Parquet: how many a second, and what memory it takes.

The model is that of the paper for KDDCUP99 (41 columns, about 120 features), hardly trained, as its weights change no
time. Each measurement is a process of its own, on one thread and by processor time. Peak memory is that of a file and
of one four times as long: where memory does not grow with the length, they are equal.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from memae import Detector
from memae.datasets import kddcup99
from memae.report.rows import write_verdicts

__all__ = ["long_table_benchmark", "peak_bytes", "tables_benchmark"]

TRAINING_ROWS = 20_000
TIMES_LONGER = 4
LONG_COLUMNS = 10  # of the long file, float64
GROUP_ROWS = 1_000_000  # written at a time
CHECKED_ROWS = 1000  # at the beginning, in the middle and at the end


def tables_benchmark(rounds: int = 5) -> dict[str, Any]:
    """Rows a second end to end and of reading and encoding alone, medians over interleaved rounds; peak memory."""
    from benchmarks.training import forward_flop, matrix_rate  # not in the processes that are measured

    rows, _ = kddcup99()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = {"train": {"epochs": 1}}
        training = rows.slice(0, TRAINING_ROWS)
        detector = Detector("kddcup-paper", settings=settings, device="cpu").fit(training)
        detector.save(folder / "model")
        pq.write_table(rows, folder / "short.parquet")
        pq.write_table(pa.concat_tables([rows] * TIMES_LONGER), folder / "long.parquet")
        features = next(detector.model.parameters()).shape[1]
        flop, _ = forward_flop(detector.model, (features,))
        rate = matrix_rate()
        rates: dict[str, list[float]] = {"end_to_end": [], "read_and_encode": []}
        for _ in range(rounds):
            for what, measured in rates.items():
                measured.append(_fresh(what, folder, "short")[0])
        size = (folder / "short.parquet").stat().st_size
        peaks = {file: _fresh("end_to_end", folder, file)[1] for file in ("short", "long")}
    return {
        "end_to_end": round(statistics.median(rates["end_to_end"])),
        "read_and_encode": round(statistics.median(rates["read_and_encode"])),
        "spread": {what: [round(min(values)), round(max(values))] for what, values in rates.items()},
        "unit": "rows a second of processor time, on one thread",
        "rows": rows.num_rows,
        "bytes_per_row": {"parquet": round(size / rows.num_rows, 1), "encoded": 4 * features},
        "mflop_per_row": round(flop / 1e6, 3),
        "matrix_rate_gflops": round(rate / 1e9, 1),
        "share_of_matrix_rate": round(statistics.median(rates["end_to_end"]) * flop / rate, 3),
        "peak_mb": {file: round(peak / 1e6) for file, peak in peaks.items()},
        "times_longer": TIMES_LONGER,
    }


def long_table_benchmark(million_rows: int) -> dict[str, Any]:
    """`memae score` and `memae fit` on a Parquet file that is larger than the memory that they take.

    Raises:
        RuntimeError: a command failed, or its rows are not those of the file in their order.
    """
    rows = million_rows * GROUP_ROWS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_long(folder / "long.parquet", million_rows)
        few = pq.ParquetFile(folder / "long.parquet").read_row_group(0).slice(0, TRAINING_ROWS)
        pq.write_table(few, folder / "few.parquet")
        brief = ["--set", "train.epochs=1", "--device", "cpu", "--quiet"]
        _command(folder, "fit", "few.parquet", "--out", "model", *brief)
        scored, score_peak = _command(
            folder, "score", "model", "long.parquet", "--out", "scores.parquet", "--device", "cpu", "--quiet"
        )
        _check_rows(folder, rows)
        fitted, fit_peak = _command(
            folder, "fit", "long.parquet", "--out", "streamed", *brief, "--set", "train.batch_size=65536",
            "--set", "train.validation_share=0.01", "--set", "threshold.calibration_share=0.01",
        )  # fmt: skip
        size = (folder / "long.parquet").stat().st_size
    return {
        "rows": rows,
        "columns": LONG_COLUMNS,
        "file_mb": round(size / 1e6),
        "rows_mb": round(rows * LONG_COLUMNS * 8 / 1e6),
        "score": {
            "rows_per_second": round(rows / scored),
            "seconds": round(scored),
            "peak_mb": round(score_peak / 1e6),
        },
        "fit_one_epoch": {"seconds": round(fitted), "peak_mb": round(fit_peak / 1e6)},
        "checked": "number and order of the rows, and the scores of some of them against a file of these alone",
    }


def _write_long(path: Path, groups: int) -> None:
    schema = pa.schema([(f"c{column}", pa.float64()) for column in range(LONG_COLUMNS)])
    with pq.ParquetWriter(path, schema) as file:
        for group in range(groups):
            values = np.random.default_rng(group).normal(size=(LONG_COLUMNS, GROUP_ROWS))
            file.write_table(pa.table(list(values), schema=schema), row_group_size=GROUP_ROWS)


def _command(folder: Path, *words: str) -> tuple[float, int]:
    """Runs `memae`; its seconds, and the most memory, bytes, that it ever took."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "memae", *words], cwd=folder)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"memae {' '.join(words)}: exit code {process.returncode}")
    return time.perf_counter() - started, used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _check_rows(folder: Path, rows: int) -> None:
    keys, scores = (pq.read_table(folder / "scores.parquet", columns=[name])[name] for name in ("key", "score"))
    if not np.array_equal(keys.to_numpy(), np.arange(rows)):
        raise RuntimeError("the keys of the scores are not the row numbers in order")
    detector, long = Detector.load(folder / "model", device="cpu"), pq.ParquetFile(folder / "long.parquet")
    for start in (0, rows // 2, rows - CHECKED_ROWS):
        group, place = divmod(start, GROUP_ROWS)
        alone = detector.score(long.read_row_group(group).slice(place, CHECKED_ROWS)).values
        np.testing.assert_allclose(scores.slice(start, CHECKED_ROWS).to_numpy(), alone, rtol=1e-4)


def _fresh(what: str, folder: Path, file: str) -> tuple[float, int]:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
        return fresh.submit(_measured, what, folder, file).result()


def _measured(what: str, folder: Path, file: str) -> tuple[float, int]:
    """Rows a second, and the most memory, bytes, that this process ever took."""
    torch.set_num_threads(1)
    pa.set_cpu_count(1)
    detector = Detector.load(folder / "model", device="cpu")
    source = detector.open(folder / f"{file}.parquet")
    started = time.process_time()
    if what == "end_to_end":
        rows, _ = write_verdicts(detector.stream(source), folder / "scores.parquet")
    else:
        rows = sum(len(detector.preprocess.encode(part)) for part in source.chunks(65_536))
    seconds = time.process_time() - started
    return rows / seconds, peak_bytes()


def peak_bytes() -> int:
    """The most memory, bytes, that this process took; Linux counts what its parent had before it in ru_maxrss."""
    if sys.platform.startswith("linux"):
        status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return 1024 * int(next(line.split()[1] for line in status if line.startswith("VmHWM")))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
