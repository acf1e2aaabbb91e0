"""Both networks of video, scored end to end from an encoded file on the CPU: by OpenVINO, and by torch.

A clip of the paper's network takes 65.4 GFLOP (counted below), so with a measured float32 matrix rate of R a second
no way of computing these sums scores more than 16 R / 65.4e9 frames/s at stride 16; for the network `video` the work is
counted alike. Beside frames a second from the file to the last score stand those of the network alone, and by how much
the reconstructions of the two engines differ at most, of their standard deviation. The networks are trained briefly, so
that what is compared is no noise.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.training import matrix_rate
from experiments.protocols import ped2
from memae import Detector
from memae.engine import Rebuild, Rebuilder, scoring_form
from memae.video.config import CLIP_LAYERS, VideoConfig
from memae.video.scoring import FrameScorer
from memae.video.source import VideoSource

__all__ = ["clip_flop", "trained", "video_benchmark"]

FRAMES = {"video": 240, "video-paper": 64}
TRAINING_FRAMES = 40


def video_benchmark(rounds: int = 5) -> dict[str, Any]:
    """Frames a second of each network by each engine, medians over interleaved rounds, and the limit."""
    with tempfile.TemporaryDirectory() as folder:
        file = _encoded(Path(folder) / "clip.mp4", max(FRAMES.values()))
        found = {preset: _network(preset, file, rounds) for preset in FRAMES}
    return {**found, "threads": torch.get_num_threads()}


def _network(preset: str, file: Path, rounds: int) -> dict[str, Any]:
    fitted = trained(preset)
    by_torch, stride = scoring_form(fitted.model, "torch"), VideoConfig.of(fitted.config).stride
    clips = _clips(fitted, file)
    x = clips[:1]
    engines: dict[str, Rebuild] = {"openvino": scoring_form(by_torch, "openvino"), "torch": by_torch}
    rebuilt = {name: _rebuilt(form, clips) for name, form in engines.items()}
    for form in engines.values():
        _scores(fitted, form, file, FRAMES[preset])  # pays for compiling
        _seconds(form, clips)
    rates: dict[str, list[float]] = {name: [] for engine in engines for name in (engine, f"network_by_{engine}")}
    rates["matrix_rate"] = []
    for _ in range(rounds):  # interleaved, so that a busy minute hits all alike
        rates["matrix_rate"].append(matrix_rate() * torch.get_num_threads())
        for name, form in engines.items():
            started = time.perf_counter()
            _scores(fitted, form, file, FRAMES[preset])
            rates[name].append(FRAMES[preset] / (time.perf_counter() - started))
            rates[f"network_by_{name}"].append(len(clips) * stride / _seconds(form, clips))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    rate, spread = medians.pop("matrix_rate"), {name: [min(values), max(values)] for name, values in rates.items()}
    limit = stride * rate / _flop(by_torch, x)
    apart = (rebuilt["openvino"] - rebuilt["torch"]).abs().max() / rebuilt["torch"].std()
    return {
        **{name: round(median, 1) for name, median in medians.items()},
        "limit": round(limit, 1),
        "share_of_limit": round(medians["network_by_openvino"] / limit, 3),
        "greatest_difference_of_reconstructions": float(f"{apart:.1e}"),
        "spread": {name: [float(f"{low:.4g}"), float(f"{high:.4g}")] for name, (low, high) in spread.items()},
        "matrix_rate_gflops": round(rate / 1e9, 1),
        "gflop_per_clip": round(_flop(by_torch, x) / 1e9, 2),
        "stride": stride,
    }


@torch.inference_mode()
def _rebuilt(form: Rebuild, clips: torch.Tensor) -> torch.Tensor:
    return Rebuilder(form)(clips.shape)(clips).x


def _clips(fitted: Detector, file: Path) -> torch.Tensor:
    """(2, 1, T, H, W) the first clips of a file, as the network sees them."""
    source = VideoSource([file], size=(fitted.preprocess.height, fitted.preprocess.width))
    frames = next(iter(source.chunks(2 * fitted.preprocess.clip_length)))
    pixels = torch.from_numpy(frames.pixels).unflatten(0, (2, fitted.preprocess.clip_length))
    clips: torch.Tensor = fitted.preprocess.encode_clips(pixels)
    return clips


@torch.inference_mode()
def _seconds(form: Rebuild, x: torch.Tensor) -> float:
    rebuild = Rebuilder(form)(x.shape)
    started = time.perf_counter()
    for _ in range(3):
        rebuild(x)
    return (time.perf_counter() - started) / 3


@torch.inference_mode()
def _flop(model: torch.nn.Module, x: torch.Tensor) -> float:
    with FlopCounterMode(display=False) as counter:
        model(x)
    return float(counter.get_total_flops())


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


def trained(preset: str) -> Detector:
    """A model of one training video of Ped2, hardly trained."""
    source = VideoSource(ped2.videos("training")[:1], folder_rate=ped2.RATE)
    settings = {
        "train": {"epochs": 1, "validation_share": 0.0},
        "threshold": {"calibration_share": 0.0},
        "memory": {"warmup_epochs": 0, "initialisation": "data"},
        "video": {"training_stride": TRAINING_FRAMES},
    }
    return Detector(preset, settings=settings).fit(source)


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


def _scores(fitted: Detector, form: Rebuild, file: Path, frames: int) -> np.ndarray:
    """From opening the file to the last score."""
    source = VideoSource([file], size=(fitted.preprocess.height, fitted.preprocess.width))
    scorer = FrameScorer(form, fitted.preprocess, VideoConfig.of(fitted.config))
    return np.array([frame.score for frame in islice(scorer.scored(source.chunks(64)), frames)])
