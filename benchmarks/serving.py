"""`memae serve` under clients, beside the same detector called in this process: images, and requests of 256 rows.

The server is a process of its own, and so are its clients, who share the cores with it. Rounds of the server and of
the model alone take turns, so that what else the machine does falls on both alike. The model's own rate is of large
batches, from JPEG files or Arrow tables to decisions.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import pyarrow as pa
from sklearn.datasets import load_breast_cancer

from benchmarks.clients import Load, Request, load
from benchmarks.pictures import write_pictures
from memae import Detector

__all__ = ["serve_benchmark"]

CLIENTS, TIMES = 64, 10
SIDE, PICTURES, ROWS = 256, 64, 256
BATCH_ROWS = 64 * ROWS
IMAGES: dict[str, Any] = {"train": {"epochs": 1}, "memory": {"warmup_epochs": 1}}


class Kind(NamedTuple):
    """One kind of request, and the same work without a server."""

    request: Request
    samples: int
    """Of one request."""
    own: Callable[[], int]
    """Scores samples by the model alone; their number."""


def serve_benchmark(seconds: float = 5.0, rounds: int = 3) -> dict[str, Any]:
    """Samples a second of the server and of the model, their ratio, latencies, and memory at ten times the load.

    Args:
        seconds: of one round of one kind of request.
        rounds: of each.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kinds = _kinds(folder)
        with _server(folder) as (process, port):
            found = {kind: _beside(process, port, one, seconds, rounds) for kind, one in kinds.items()}
            single = _row(1)
            load(port, single, CLIENTS, seconds / 2)
            found["single_rows"] = _latency(load(port, single, CLIENTS, seconds))
            found["ten_times_the_load"] = _overload(process, port, kinds["rows_as_json"].request, seconds)
    return {"clients": CLIENTS, "seconds_of_a_round": seconds, "rounds": rounds, **found}


def _kinds(folder: Path) -> dict[str, Kind]:
    pictures = folder / "pictures"
    pictures.mkdir()
    write_pictures(pictures, PICTURES, SIDE)
    paths = sorted(pictures.iterdir())
    images = Detector("image", settings=IMAGES, device="cpu").fit([str(path) for path in paths[:32]])
    images.save(folder / "images.model")
    rows = Detector(settings={"train": {"epochs": 3}}, device="cpu").fit(_table(357))
    rows.save(folder / "rows.model")
    images, rows = (Detector.load(folder / f"{name}.model", device="cpu") for name in ("images", "rows"))
    large = _table(BATCH_ROWS)
    return {
        "images": Kind(_image(paths[0]), 1, lambda: len(images.detect(paths))),
        "rows_as_tensors": Kind(_tensors(ROWS), ROWS, lambda: len(rows.detect(large))),
        "rows_as_json": Kind(_row(ROWS), ROWS, lambda: len(rows.detect(large))),
    }


def _beside(process: psutil.Process, port: int, kind: Kind, seconds: float, rounds: int) -> dict[str, Any]:
    """The rates of both and their ratio, medians over rounds, and the latencies of all rounds.

    By the clock the ratio tells what clients get. By the time of the processors, which another program on the machine
    does not change, it tells what the server adds to the work of the model.
    """
    kind.own()
    load(port, kind.request, CLIENTS, seconds / 2)
    own, served, loads, done, used_s = list[float](), list[float](), list[Load](), 0, 0.0
    for _ in range(rounds):
        count, start, begun = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() - start < seconds / 2:
            count += kind.own()
        own.append(count / (time.perf_counter() - start))
        done, used_s = done + count, used_s + time.process_time() - begun
        loads.append(load(port, kind.request, CLIENTS, seconds, watched=process))
        served.append(loads[-1].answered * kind.samples / loads[-1].seconds)
    ratios = [one / alone for one, alone in zip(served, own, strict=True)]
    joined = Load.joined(loads)
    of_server_s, of_model_s = joined.processor_s / (joined.answered * kind.samples), used_s / done
    return {
        "model_alone_per_s": round(statistics.median(own), 1),
        "served_per_s": round(statistics.median(served), 1),
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "ratio_by_processor_time": round(of_model_s / of_server_s, 3),
        **_latency(joined),
    }


def _latency(found: Load) -> dict[str, Any]:
    p50, p99 = np.percentile(found.latencies_s, (50, 99)) * 1000
    return {
        "p50_ms": round(float(p50), 1),
        "p99_ms": round(float(p99), 1),
        "requests_per_s": round(found.answered / found.seconds, 1),
        "statuses": {str(status): count for status, count in sorted(found.statuses.items())},
    }


def _overload(process: psutil.Process, port: int, request: Request, seconds: float) -> dict[str, Any]:
    """Resident memory of the server, its peak under the usual load and under ten times of it, and what it answered."""
    peaks = {}
    for name, clients in (("usual", CLIENTS), ("ten_times", TIMES * CLIENTS)):
        found = load(port, request, clients, seconds, watched=process)
        peaks[f"{name}_peak_mb"] = round(found.peak_bytes / 1e6, 1)
    waits = found.retry_after == found.statuses.get(503, 0)
    return {**peaks, "clients": TIMES * CLIENTS, "refusals_say_when_to_retry": waits, **_latency(found)}


@contextmanager
def _server(folder: Path) -> Iterator[tuple[psutil.Process, int]]:
    command = [
        sys.executable,
        "-m",
        "memae",
        "serve",
        "images.model",
        "rows.model",
        "--port",
        "0",
        "--device",
        "cpu",
    ]
    environment = {name: value for name, value in os.environ.items() if name != "MEMAE_TOKEN"}
    with subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        found = re.search(r":(\d+)$", process.stderr.readline().strip())
        assert found, process.stderr.read()
        yield psutil.Process(process.pid), int(found[1])
        process.terminate()
        process.communicate()


def _table(count: int) -> pa.Table:
    """Rows of the breast cancer data with a little noise, so that none is twice there."""
    data = load_breast_cancer(as_frame=True)
    normal = data.data[data.target == 1]
    generator = np.random.default_rng(0)
    rows = normal.to_numpy()[np.arange(count) % len(normal)] * generator.normal(1, 0.01, (count, normal.shape[1]))
    return pa.table({name: rows[:, place] for place, name in enumerate(normal.columns)})


def _row(count: int) -> Request:
    body = json.dumps(_table(count).to_pylist()).encode()
    return Request("/v1/models/rows/score", body, "application/json")


def _tensors(count: int) -> Request:
    table = _table(count)
    columns = [column.to_numpy().tobytes() for column in table.columns]
    inputs = [
        {"name": name, "shape": [count], "datatype": "FP64", "parameters": {"binary_data_size": len(values)}}
        for name, values in zip(table.column_names, columns, strict=True)
    ]
    head = json.dumps({"parameters": {"binary_data_output": True}, "inputs": inputs}).encode()
    named = f"Inference-Header-Content-Length: {len(head)}\r\n"
    return Request("/v2/models/rows/infer", b"".join([head, *columns]), "application/octet-stream", named)


def _image(path: Path) -> Request:
    part = b'--edge\r\nContent-Disposition: form-data; name="images"; filename="a.jpg"\r\n\r\n'
    body = part + path.read_bytes() + b"\r\n--edge--\r\n"
    return Request("/v1/models/images/score", body, "multipart/form-data; boundary=edge")
