"""Many hours of one camera, from a file to scores and events: frames a second, and memory from the start to the end.

The file is UCSD Ped2's training footage at its own 10 frames a second, encoded once and repeated with other times until
the hours are full. It is scored by the command, in a process of its own whose resident memory is read every second. The
network sees frames of 64 x 96 px here: the size sets the rate, and not whether memory grows.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

import av
import numpy as np

from experiments.protocols import ped2
from memae import Detector
from memae.video.source import VideoSource

__all__ = ["footage_benchmark"]

RATE = round(ped2.RATE)
SETTLED_S = 60.0  # after so many seconds all libraries are loaded and all buffers exist
SETTINGS = {
    "video": {"height": 64, "width": 96, "crop_px": 32, "place_px": 8, "training_stride": 8},
    "train": {"epochs": 1},
    "memory": {"warmup_epochs": 1},
}


def footage_benchmark(hours: float) -> dict[str, Any]:
    """Frames a second by the clock, and MB of resident memory: after a minute, at most after that, and at the end."""
    training = ped2.training()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        Detector("video", settings=SETTINGS, device="cpu").fit(training).save(folder / "model")
        frames = _write_long(folder / "long.mp4", training, round(hours * 3600 * RATE))
        words = ["score", "model", "long.mp4", "--out", "frames.parquet", "--events", "events.jsonl", "--quiet"]
        started = time.perf_counter()
        with subprocess.Popen([sys.executable, "-m", "memae", *words], cwd=folder) as process:
            resident = list(_resident_mb(process))
        seconds = time.perf_counter() - started
        if process.returncode:
            raise RuntimeError(f"memae score ended with {process.returncode}")
        scored = _rows(folder / "frames.parquet")
    if scored != frames:
        raise RuntimeError(f"{frames} frames were written, and {scored} scored")
    if seconds < 2 * SETTLED_S:
        raise RuntimeError(f"scored in {seconds:.0f} s, too fast to see memory grow; take more --hours")
    settled = [mb for at, mb in resident if at >= SETTLED_S]
    at, mb = np.array(resident).T
    hourly = np.interp(np.linspace(SETTLED_S, seconds, 11), at, mb).round(1)
    return {
        "hours": hours,
        "frames": frames,
        "frames_per_second": round(frames / seconds, 1),
        "seconds": round(seconds, 1),
        "after_a_minute_mb": settled[0],
        "each_tenth_mb": hourly.tolist(),
        "most_after_that_mb": max(settled),
        "mean_of_the_last_minute_mb": round(float(np.mean([mb for at, mb in resident if at >= seconds - 60])), 1),
    }


def _write_long(path: Path, footage: VideoSource, frames: int) -> int:
    """Encodes the footage once and writes its packets again and again, so many frames in all."""
    once = path.with_name("once.mp4")
    pictures = [picture.rgb() for chunk in footage.with_pictures().chunks(64) for picture in chunk.pictures]
    with av.open(str(once), "w") as target:
        stream = target.add_stream("libx264", rate=RATE, options={"preset": "veryfast", "bf": "0", "g": "50"})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for picture in pictures:
            target.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        target.mux(stream.encode(None))
    with av.open(str(path), "w") as target:
        copy = None
        for start in count(step=len(pictures)):
            if start >= frames:
                break
            with av.open(str(once)) as source:
                copy = copy or target.add_stream_from_template(source.streams.video[0])
                tick = source.streams.video[0].time_base
                assert tick is not None
                later = round(start / RATE / tick)
                packets = (packet for packet in source.demux(video=0) if packet.size)
                for packet in islice(packets, min(len(pictures), frames - start)):
                    assert packet.pts is not None and packet.dts is not None
                    packet.pts, packet.dts, packet.stream = packet.pts + later, packet.dts + later, copy
                    target.mux(packet)
    return frames


def _resident_mb(process: subprocess.Popen[bytes]) -> Iterator[tuple[float, float]]:
    """Seconds since now and MB, each second until the process ends."""
    started = time.perf_counter()
    while process.poll() is None:
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                yield time.perf_counter() - started, round(int(line.split()[1]) / 1024, 1)
        time.sleep(1)


def _rows(path: Path) -> int:
    import pyarrow.parquet as pq

    return int(pq.read_metadata(path).num_rows)
