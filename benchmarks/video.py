"""The paper's video network, scored end to end from an encoded file, on the CPU.

A clip takes 65.4 GFLOP (counted below), so with a measured matrix rate of R a second no way of computing these sums
scores more than 16 R / 65.4e9 frames/s at stride 16. The rate is that of the fastest arithmetic in the scored form,
8-bit integers where the CPU has them; parts of the form run in bfloat16 and float32, which makes the limit a generous
one. What bfloat16 alone would allow is stated beside it. The network is trained for a moment first, so that what is
compared is no noise; agreement is measured on whole test videos.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from experiments.protocols import ped2
from memae import Detector
from memae.engine import inference_form
from memae.metrics import auroc
from memae.video.config import CLIP_LAYERS, VideoConfig
from memae.video.quantised import fast_int8
from memae.video.scoring import FrameScorer, Rebuild
from memae.video.source import VideoSource

__all__ = ["clip_flop", "matrix_rate", "video_benchmark"]

MATRIX_SIDE = 4096
TIMED_FRAMES = {"fast": 320, "eager": 64}
AGREEMENT_VIDEOS = ("02", "06", "12")  # test videos that hold both kinds of frame
TRAINING_CLIPS = 48


def video_benchmark(rounds: int = 5) -> dict[str, Any]:
    """Frames a second, the limit, and how far the fast form's scores lie from those of eager float32."""
    fitted = _briefly_trained()
    eager: Rebuild = fitted.model.eval()
    fast = inference_form(fitted.model)
    with tempfile.TemporaryDirectory() as folder:
        clip = _encoded(Path(folder) / "clip.mp4", max(TIMED_FRAMES.values()))
        rates: dict[str, list[float]] = {"fast": [], "eager": []}
        matrix: dict[torch.dtype, list[float]] = {torch.bfloat16: []} | ({torch.int8: []} if fast_int8() else {})
        _frames_per_second(fitted, fast, clip, 64)  # the first pass pays for allocations
        for _ in range(rounds):  # interleaved, so that a busy minute hits all alike
            for dtype, measured in matrix.items():
                measured.append(matrix_rate(dtype))
            for name, form in (("fast", fast), ("eager", eager)):
                rates[name].append(_frames_per_second(fitted, form, clip, TIMED_FRAMES[name]))
    agreement = _agreement(fitted, eager, fast)
    limits = {dtype: [16 * rate / clip_flop() for rate in measured] for dtype, measured in matrix.items()}
    fastest = limits.get(torch.int8, limits[torch.bfloat16])
    best, limit = statistics.median(rates["fast"]), statistics.median(fastest)
    integer = {"matrix_rate_int8_tops": _tera(matrix[torch.int8])} if torch.int8 in matrix else {}
    return {
        "frames_per_second": round(best, 1),
        "eager_float32": round(statistics.median(rates["eager"]), 1),
        "limit": round(limit, 1),
        "share_of_limit": round(best / limit, 3),
        "limit_bfloat16": round(statistics.median(limits[torch.bfloat16]), 1),
        **agreement,
        "spread": {name: [round(min(values), 1), round(max(values), 1)] for name, values in rates.items()},
        "limit_spread": [round(min(fastest), 1), round(max(fastest), 1)],
        "matrix_rate_tflops": _tera(matrix[torch.bfloat16]),
        **integer,
        "gflop_per_clip": round(clip_flop() / 1e9, 2),
        "threads": torch.get_num_threads(),
    }


def _tera(rates: list[float]) -> float:
    return round(statistics.median(rates) / 1e12, 3)


def clip_flop(items: int = 2000) -> float:
    """Multiplications and additions of one 16 x 256 x 256 clip: convolutions and the two products of the memory."""
    layers = CLIP_LAYERS["video-paper"]
    shape: tuple[int, ...] = (16, 256, 256)
    total, channels = 0.0, 1
    shapes = [shape]
    for layer in layers:
        shapes.append(layer.shrink(shapes[-1]))
        total += 2 * 27 * channels * layer.channels * np.prod(shapes[-1])
        channels = layer.channels
    outputs = [1, *(layer.channels for layer in layers[:-1])]
    for place in reversed(range(len(layers))):  # each input position of a transposed layer meets each tap once
        total += 2 * 27 * channels * outputs[place] * np.prod(shapes[place + 1])
        channels = outputs[place]
    queries, dim = np.prod(shapes[-1]), layers[-1].channels
    return float(total + 2 * 2 * queries * items * dim)


def matrix_rate(dtype: torch.dtype = torch.bfloat16) -> float:
    """Operations a second of a large matrix product: what the matrix units of this machine give at best.

    Args:
        dtype: bfloat16, or int8 with sums in int32.
    """
    shape = MATRIX_SIDE, MATRIX_SIDE
    if dtype == torch.int8:
        a, b = (torch.randint(-128, 128, shape, dtype=dtype) for _ in range(2))
    else:
        a, b = (torch.randn(shape).to(dtype) for _ in range(2))
    product = torch._int_mm if dtype == torch.int8 else torch.mm
    best = min(_seconds(lambda: product(a, b)) for _ in range(3))
    return 2 * MATRIX_SIDE**3 / best


def _seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _briefly_trained() -> Detector:
    """`video-paper` after one pass over a few clips."""
    source = VideoSource(ped2.videos("training")[:1], folder_rate=ped2.RATE)
    settings = {
        "train": {"epochs": 1, "validation_share": 0.0, "batch_size": 4, "learning_rate": 1e-3},
        "threshold": {"calibration_share": 0.0},
        "video": {"training_stride": max(1, (120 - 16) // TRAINING_CLIPS)},
    }
    return Detector("video-paper", settings=settings).fit(source)


def _encoded(path: Path, frames: int) -> Path:
    """Test frames of Ped2 as an H.264 file."""
    source = VideoSource(ped2.videos("testing"), folder_rate=ped2.RATE)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width = next(iter(source.sizes.values()))
        stream.pix_fmt = "yuv420p"
        pictures = (picture for chunk in source.with_pictures().chunks(64) for picture in chunk.pictures)
        for picture in islice(pictures, frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture.rgb(), format="rgb24")))
        container.mux(stream.encode())
    return path


def _frames_per_second(fitted: Detector, form: Rebuild, file: Path, frames: int) -> float:
    """From opening the file to the last score."""
    started = time.perf_counter()
    source = VideoSource([file], size=(fitted.preprocess.height, fitted.preprocess.width))
    scorer = FrameScorer(form, fitted.preprocess, VideoConfig.of(fitted.config))
    done = 0
    with torch.inference_mode():
        for _ in scorer.scored(source.chunks(64)):
            done += 1
            if done == frames:
                break
    return done / (time.perf_counter() - started)


def _agreement(fitted: Detector, eager: Rebuild, fast: Rebuild) -> dict[str, float]:
    """Frame AUROC and correlation of the two forms on whole test videos, no normalisation."""
    folders = [folder for folder in ped2.videos("testing") if folder.name in AGREEMENT_VIDEOS]
    size = (fitted.preprocess.height, fitted.preprocess.width)
    truth = np.concatenate([ped2.labels()[folder.name] for folder in folders])
    scores = []
    for form in (eager, fast):
        scorer = FrameScorer(form, fitted.preprocess, VideoConfig.of(fitted.config))
        source = VideoSource(folders, size=size, folder_rate=ped2.RATE)
        scores.append(np.array([frame.score for frame in scorer.scored(source.chunks(64))]))
    areas = [auroc(truth, values) for values in scores]
    return {
        "auroc_difference": round(abs(areas[0] - areas[1]), 5),
        "auroc_eager_float32": round(areas[0], 4),
        "score_correlation": round(float(np.corrcoef(*scores)[0, 1]), 6),
    }
