"""Encodes a video, fits it, and scores it with an overlay."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np

with av.open("walk.mp4", "w") as file:
    stream: Any = file.add_stream("mpeg4", rate=25)
    stream.width, stream.height, stream.pix_fmt = 72, 48, "yuv420p"
    for number in range(100):
        pixels = np.full((48, 72, 3), 90, np.uint8)
        left = 4 + number % 56
        pixels[28:36, left : left + 8] = 220
        file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
    file.mux(stream.encode(None))
memae = [sys.executable, "-m", "memae"]
brief = ["video.height=32", "video.width=48", "video.crop_px=16", "video.place_px=8", "train.epochs=1"]
brief += ["memory.num_items=12", "memory.warmup_epochs=1"]
settings = [word for setting in brief for word in ("--set", setting)]
subprocess.run([*memae, "fit", "walk.mp4", "--out", "walk.model", "--device", "cpu", *settings], check=True)
subprocess.run(
    [*memae, "score", "walk.model", "walk.mp4", "--out", "frames.csv", "--overlay", "over.mp4"], check=True
)
assert len(Path("frames.csv").read_text(encoding="utf-8").splitlines()) == 101
assert Path("over.mp4").stat().st_size
