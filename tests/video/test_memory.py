"""The memory of a score does not grow with the length of a video: peaks of whole processes, with events."""

import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from memae import Detector
from tests.moving_squares import squares

SHORT = 1_000  # frames
SETTINGS = {
    "video": {"height": 32, "width": 32, "crop_px": 16, "channels": [8, 8], "place_px": 8, "stride": 16},
    "memory": {"num_items": 8, "warmup_epochs": 0},
    "train": {"epochs": 0},
}
SCORE = """
from pathlib import Path
from memae.cli import main
try:
    main()
finally:
    print(next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line))
"""


def film(path: Path, frames: int) -> Path:
    """A square as ever, and every 500 frames a large and fast one for 20 frames."""
    calm, wild = squares(500, seed=6), squares(20, speed=5, side=11, seed=4)
    pixels = np.repeat(np.concatenate([wild, calm[20:]])[..., None], 3, axis=-1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 32
        stream.pix_fmt, stream.bit_rate = "yuv420p", 400_000
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(pixels[number % len(pixels)], format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def files(video: Path) -> list[str | Path]:
    return ["--out", video.with_suffix(".csv"), "--events", video.with_suffix(".jsonl")]


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize(
    ("long", "most_mib"),
    [
        (4_000, 8),  # 2.7 KiB a frame: less than what the network sees of one, as float32
        pytest.param(12_500, 8, marks=pytest.mark.slow),  # 0.7 KiB a frame: less than the grey pixels of one
    ],
)
def test_a_much_longer_video_takes_no_more_memory(tmp_path: Path, long: int, most_mib: int) -> None:
    videos = [film(tmp_path / f"{frames}.mp4", frames) for frames in (SHORT, long)]
    model = Detector(settings=SETTINGS).fit(videos[0])
    model.save(tmp_path / "m.model")
    on = float(np.quantile(model.score(videos[0]).values, 0.98))
    options = ["--on-threshold", f"{on}", "--before", "0.2", "--after", "0.2"]
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", SCORE, "score", tmp_path / "m.model", video, *options, *files(video)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for video in videos
    ]
    # VmHWM and not ru_maxrss, in which a child begins with the peak of its parent
    peaks = [int(run.communicate()[0].split()[-2]) / 1024 for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    events = [len(video.with_suffix(".jsonl").read_text().splitlines()) for video in videos]
    assert events == [SHORT // 500, long // 500]
    assert len(list((tmp_path / f"{long}").glob("*.mp4"))) == long // 500
    assert peaks[1] - peaks[0] < most_mib, peaks
