"""Rows, images and video scored without pause: 8 threads on one detector, then 4 processes side by side.

Every pass scores the same samples, so each must give the scores of the first, bit for bit, and memory must not grow.
The samples are those of scikit-learn's breast cancer and digits, and a made-up video of a square that moves.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
from sklearn.datasets import load_breast_cancer, load_digits

from memae import Detector

__all__ = ["load_benchmark"]

THREADS, PROCESSES = 8, 4
SETTLED = 0.25  # of the time, in which libraries are loaded and buffers made; memory counts from then on
LOOKS = 200  # at memory
SETTINGS: dict[str, dict[str, Any]] = {
    "rows": {"train": {"epochs": 3}},
    "images": {"train": {"epochs": 3}},
    "video": {
        "video": {"height": 32, "width": 48, "crop_px": 16, "place_px": 8, "training_stride": 8},
        "train": {"epochs": 1},
        "memory": {"warmup_epochs": 0},
    },
}


def load_benchmark(seconds: float, kinds: tuple[str, ...] = ("rows", "images", "video")) -> dict[str, Any]:
    """For each kind and way: passes, those whose scores differed, the greatest difference, and memory over time.

    Args:
        seconds: of scoring for each kind, half of it by threads and half by processes.
        kinds: which of the three.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found: dict[str, Any] = {"seconds_of_each_kind": seconds, "threads": THREADS, "processes": PROCESSES}
        for kind in kinds:
            x, model = _samples(kind, folder), folder / kind
            Detector(settings=SETTINGS[kind], device="cpu").fit(x).save(model)
            first = Detector.load(model, device="cpu").score(x).values
            found[kind] = {
                "samples": len(first),
                "by_threads": _by_threads(model, x, first, seconds / 2),
                "by_processes": _by_processes(model, x, first, seconds / 2),
            }
    return found


def _by_threads(model: Path, x: Any, first: np.ndarray, seconds: float) -> dict[str, Any]:
    detector, end = Detector.load(model, device="cpu"), time.monotonic() + seconds
    found: list[tuple[int, int, float]] = []
    errors: list[BaseException] = []

    def score() -> None:
        try:
            found.append(_passes(detector, x, first, end))
        except BaseException as error:  # a thread would end without a word
            errors.append(error)

    threads = [threading.Thread(target=score) for _ in range(THREADS)]
    with _memory(seconds) as memory:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]
    return _summary(found) | memory


def _by_processes(model: Path, x: Any, first: np.ndarray, seconds: float) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")  # a fork would inherit torch's threads, and hang
    with context.Pool(PROCESSES) as pool:
        parts = pool.starmap(_one_process, [(model, x, first, seconds)] * PROCESSES, chunksize=1)
    memory = [part[1] for part in parts]
    worst = max(memory, key=lambda part: part["resident_mb_an_hour"])
    return _summary([part[0] for part in parts]) | worst


def _one_process(
    model: Path, x: Any, first: np.ndarray, seconds: float
) -> tuple[tuple[int, int, float], dict[str, float]]:
    detector = Detector.load(model, device="cpu")
    with _memory(seconds) as memory:
        passes = _passes(detector, x, first, time.monotonic() + seconds)
    return passes, memory


def _passes(detector: Detector, x: Any, first: np.ndarray, end: float) -> tuple[int, int, float]:
    """Passes until the end, those of them that gave other scores, and the greatest difference."""
    passes, different, greatest = 0, 0, 0.0
    while passes == 0 or time.monotonic() < end:
        scores = detector.score(x).values
        passes += 1
        if not np.array_equal(scores, first):
            different += 1
            greatest = max(greatest, float(np.abs(scores - first).max()))
    return passes, different, greatest


def _summary(found: list[tuple[int, int, float]]) -> dict[str, Any]:
    passes, different, greatest = zip(*found, strict=True)
    return {"passes": sum(passes), "different": sum(different), "greatest_difference": max(greatest)}


@contextmanager
def _memory(seconds: float) -> Iterator[dict[str, float]]:
    """Resident memory of this process while the block runs: MB settled, MB at the end, and the slope of a line."""
    seen: list[tuple[float, float]] = []
    found: dict[str, float] = {}
    over, process, started = threading.Event(), psutil.Process(), time.monotonic()

    def look() -> None:
        while not over.wait(max(0.05, seconds / LOOKS)):
            seen.append((time.monotonic() - started, process.memory_info().rss / 1e6))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()
    at, mb = np.array([(at, mb) for at, mb in seen if at >= SETTLED * seconds] or seen[-2:]).T
    slope = float(np.polyfit(at, mb, 1)[0]) if len(at) > 2 else 0.0
    found |= {
        "resident_mb_settled": round(float(mb[0]), 1),
        "resident_mb_end": round(float(mb[-1]), 1),
        "resident_mb_an_hour": round(slope * 3600, 1),
    }


def _samples(kind: str, folder: Path) -> Any:
    if kind == "rows":
        return load_breast_cancer().data
    if kind == "images":
        return np.round(load_digits().images[:500] * 255 / 16).astype(np.uint8)
    path = folder / "square.mp4"
    with av.open(str(path), "w") as file:
        stream: Any = file.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for number in range(200):
            pixels = np.full((32, 48, 3), 90, dtype=np.uint8)
            left = number % 40
            pixels[12:20, left : left + 8] = 220
            file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        file.mux(stream.encode(None))
    return path
