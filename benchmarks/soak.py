"""Cameras that are watched for long: lag from frame to score, drops, memory, and how many cameras this machine carries.

The cameras send UCSD Ped2's test footage as MJPEG over HTTP, ten frames a second each, from a process of their own. The
watch runs here, as `memae watch` does: events with stills and clips go to a folder and a log, and nothing is overlaid.
The model has the default size; it is trained for one epoch of a part of the footage.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import threading
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.cameras import served
from experiments.protocols import ped2
from memae import Detector
from memae.engine import Engine
from memae.live.address import Address
from memae.live.config import CameraConfig, WatchConfig
from memae.live.message import EventMessage, Message, ScoreMessage, StatusMessage
from memae.live.sinks.config import outboxes
from memae.live.watch import Watch

__all__ = ["soak_benchmark"]

RATE = round(ped2.RATE)
CAMERAS, STEPS = 8, (8, 12, 16, 20, 24, 28, 32)
TRAINED = 4  # videos; how well it knows them sets neither lag nor memory
SETTLED = 0.25  # of the time, in which libraries are loaded and buffers made
CARRIED = 0.97  # of what is sent once it has settled is scored; a camera waits for up to a clip when the time ends
SETTINGS: dict[str, Any] = {
    "train": {"epochs": 1},
    "memory": {"warmup_epochs": 0},
    "video": {"training_stride": 16, "crops_per_clip": 1},
}


@dataclass
class Heard:
    """What a watch tells, with when: it stands where an outbox does.

    Half an hour has 144,000 scores. In arrays they take 2 MB; as objects they would look like a leak.
    """

    scored_at: array[float] = field(default_factory=lambda: array("d"))
    """Unix seconds of each score."""
    lags_s: array[float] = field(default_factory=lambda: array("d"))
    """From the frame to its score."""
    drops: list[tuple[float, str, int]] = field(default_factory=list)
    """(Unix seconds, camera, frames so far)"""
    events: int = 0

    def dropped(self, until: float) -> int:
        """Frames of all cameras before a time, as far as their states told."""
        return sum({source: count for at, source, count in self.drops if at < until}.values())

    def put(self, message: Message) -> None:
        """Takes a message."""
        match message:
            case ScoreMessage():
                now = time.time()
                self.scored_at.append(now)
                self.lags_s.append(now - message.at)
            case StatusMessage():
                self.drops.append((message.at, message.source, message.drops))
            case EventMessage(type="new"):
                self.events += 1


def soak_benchmark(
    minutes: float,
    cameras: int = CAMERAS,
    steps: tuple[int, ...] = STEPS,
    step_s: float = 60.0,
    engine: Engine = "openvino",
    settings: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Lags, drops and memory of a watch over time, and the number of cameras that is carried.

    Args:
        minutes: of the watch of `cameras`.
        cameras: of the long watch.
        steps: numbers of cameras that are tried, each for `step_s`, until one is not carried; none tries none.
        step_s: seconds of one of these.
        engine: that scores.
        settings: of the model; None are those of a usual one.
    """
    with tempfile.TemporaryDirectory() as name, served(ped2.videos("testing"), RATE) as url:
        folder = Path(name)
        context = multiprocessing.get_context("spawn")  # what a training takes would count as the watch's memory
        with context.Pool(1) as pool:
            pool.apply(_train, (folder / "model", settings or SETTINGS))
        detector = Detector.load(folder / "model", device="cpu", engine=engine)
        long = _watch(detector, folder / "long", url, cameras, 60 * minutes)
        carried = []
        for count in steps:
            carried.append(_watch(detector, folder / str(count), url, count, step_s))
            if carried[-1]["scored_share"] < CARRIED:
                break
    enough = [one["cameras"] for one in carried if one["scored_share"] >= CARRIED]
    hidden = ("over_time", "resident_mb_an_hour")
    return {
        "minutes": minutes,
        "step_s": step_s,
        "rate": RATE,
        "engine": engine,
        "cores": psutil.cpu_count(),
        **long,
        "carried": max(enough, default=0),
        "tried": [{key: value for key, value in one.items() if key not in hidden} for one in carried],
    }


def _watch(detector: Detector, folder: Path, url: str, cameras: int, seconds: float) -> dict[str, Any]:
    named = [CameraConfig(f"camera{number}", Address(f"{url}/{number}")) for number in range(cameras)]
    sinks = {"kind": "jsonl", "folder": str(folder)}
    config = WatchConfig(Path("model"), tuple(named), folder, sinks=(sinks,))
    heard, logs, process = Heard(), outboxes(config.sinks), psutil.Process()
    watching = Watch(detector, config, [*logs, heard])
    end = threading.Timer(seconds, watching.stop)
    before = process.cpu_times()
    begun = time.time()
    with _resident_mb(max(0.1, seconds / 400)) as resident:
        end.start()
        try:
            watching.run()
        finally:
            end.cancel()
            for log in logs:
                log.close()
    after, took_s = process.cpu_times(), time.time() - begun
    core_s = after.user + after.system - before.user - before.system
    dropped = sum(camera.drops for camera in watching.cameras())
    return {
        "cameras": cameras,
        **_summary(heard, resident, begun, took_s, cameras),
        "dropped": dropped,
        "core_s_a_frame": round(core_s / max(len(heard.lags_s), 1), 5),
    }


def _summary(
    heard: Heard, resident: list[tuple[float, float]], begun: float, took_s: float, cameras: int
) -> dict[str, Any]:
    at, lags = np.array(heard.scored_at), np.array(heard.lags_s)
    clock, mb = np.array(resident).T
    settled = clock >= begun + SETTLED * took_s
    slope = float(np.polyfit(clock[settled], mb[settled], 1)[0]) if settled.sum() > 2 else 0.0
    tenths = []
    for tenth in range(10):
        since, until = (begun + (tenth + more) * took_s / 10 for more in (0, 1))
        now, then = (at >= since) & (at < until), (clock >= since) & (clock < until)
        tenths.append(
            {
                "minute": round((since - begun) / 60, 2),
                "frames": int(now.sum()),
                "dropped": heard.dropped(until) - heard.dropped(since),
                "lag_p50_s": _quantile(lags[now], 50),
                "lag_p99_s": _quantile(lags[now], 99),
                "resident_mb": round(float(mb[then].mean()), 1) if then.any() else None,
            }
        )
    frames, sent = len(heard.lags_s), cameras * RATE * (1 - SETTLED) * took_s
    return {
        "frames": frames,
        "scored_share": round(float((at >= begun + SETTLED * took_s).sum() / sent), 4),
        "events": heard.events,
        "lag_p50_s": _quantile(lags, 50),
        "lag_p99_s": _quantile(lags, 99),
        "resident_mb_settled": round(float(mb[settled][0]), 1) if settled.any() else None,
        "resident_mb_end": round(float(mb[-1]), 1),
        "resident_mb_an_hour": round(slope * 3600, 1),
        "over_time": tenths,
    }


def _quantile(values: np.ndarray, share: float) -> float | None:
    return round(float(np.percentile(values, share)), 3) if len(values) else None


@contextmanager
def _resident_mb(every_s: float) -> Iterator[list[tuple[float, float]]]:
    """(Unix seconds, MB) of this process while the block runs."""
    process, over = psutil.Process(), threading.Event()
    seen = [(time.time(), process.memory_info().rss / 1e6)]

    def look() -> None:
        while not over.wait(every_s):
            seen.append((time.time(), process.memory_info().rss / 1e6))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def _train(path: Path, settings: dict[str, Any]) -> None:
    footage = ped2.training(ped2.videos("training")[:TRAINED])
    Detector("video", settings=settings, device="cpu").fit(footage).save(path)
