"""Rows from Parquet to Parquet: how many a second, and what memory it takes.

The model is that of the paper for KDDCUP99 (41 columns, about 120 features), hardly trained, as its weights change no
time. Each measurement is a process of its own, on one thread and by processor time. Peak memory is that of a file and
of one four times as long: where memory does not grow with the length, they are equal.
"""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from memae import Detector
from memae.data.known import kddcup99
from memae.report.rows import write_verdicts

__all__ = ["tables_benchmark"]

TRAINING_ROWS = 20_000
TIMES_LONGER = 4


def tables_benchmark(rounds: int = 5) -> dict[str, Any]:
    """Rows a second end to end and of reading and encoding alone, medians over interleaved rounds; peak memory."""
    rows, _ = kddcup99()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = {"train": {"epochs": 1}}
        training = rows.slice(0, TRAINING_ROWS)
        Detector("kddcup-paper", settings=settings, device="cpu").fit(training).save(folder / "model")
        pq.write_table(rows, folder / "short.parquet")
        pq.write_table(pa.concat_tables([rows] * TIMES_LONGER), folder / "long.parquet")
        rates: dict[str, list[float]] = {"end_to_end": [], "read_and_encode": []}
        for _ in range(rounds):
            for what, measured in rates.items():
                measured.append(_fresh(what, folder, "short")[0])
        peaks = {file: _fresh("end_to_end", folder, file)[1] for file in ("short", "long")}
    return {
        "end_to_end": round(statistics.median(rates["end_to_end"])),
        "read_and_encode": round(statistics.median(rates["read_and_encode"])),
        "spread": {what: [round(min(values)), round(max(values))] for what, values in rates.items()},
        "unit": "rows a second of processor time, on one thread",
        "rows": rows.num_rows,
        "peak_mb": {file: round(peak / 1e6) for file, peak in peaks.items()},
        "times_longer": TIMES_LONGER,
    }


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
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return rows / seconds, peak
