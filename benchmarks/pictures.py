"""A folder of JPEGs to scores: decoding alone, the model alone, and end to end.

The model is the preset `image` at 256 x 256 px, hardly trained, as its weights change no time, or the preset `features`
at 224 x 224 px. It scores by OpenVINO
and by torch; beside them the network alone, which rebuilds the images and finds no score, by both. Rounds are
interleaved, so that what else the machine does falls on all alike. End to end takes about as long as decoding and the
model together, as each of them has work for all cores.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from benchmarks.training import forward_flop, matrix_rate
from memae import Detector
from memae.autoencoder import Autoencoder
from memae.engine import Rebuilder
from memae.image.arrays import Images

__all__ = ["pictures_benchmark"]

PICTURES = 300
# side of the pictures, px, and settings of the fit
PRESETS: dict[str, tuple[int, dict[str, Any]]] = {
    "image": (256, {"train": {"epochs": 1}, "memory": {"warmup_epochs": 1}}),
    "features": (224, {}),
}
TRAINED_ON = 32
CHUNK = 256  # decoded at a time
AT_ONCE = 10  # images of a batch by torch, as many as the model takes


def pictures_benchmark(rounds: int = 5, preset: str = "image") -> dict[str, Any]:
    """Images a second of each part, medians over interleaved rounds, and which of them is the limit.

    Args:
        rounds: of all ways.
        preset: one of `PRESETS`.
    """
    side, settings = PRESETS[preset]
    with tempfile.TemporaryDirectory() as name:
        folder, model = Path(name) / "pictures", Path(name) / "model"
        folder.mkdir()
        write_pictures(folder, PICTURES, side)
        some = [str(path) for path in sorted(folder.iterdir())[:TRAINED_ON]]
        Detector(preset, settings=settings, device="cpu").fit(some).save(model)
        detector, by_torch = (Detector.load(model, engine=engine) for engine in ("openvino", "torch"))
        decoded = np.concatenate(
            [part.pixels for part in detector.open(folder).chunks(CHUNK) if isinstance(part, Images)]
        )
        encoded = torch.from_numpy(decoded).float() / 255
        ways: dict[str, Callable[[], int]] = {
            "decode": lambda: sum(len(part) for part in detector.open(folder).chunks(CHUNK)),
            "model": lambda: len(detector.score(decoded).values),
            "model_by_torch": lambda: len(by_torch.score(decoded).values),
            "network": lambda: _rebuilt(detector.model, encoded),
            "network_by_torch": lambda: _rebuilt(by_torch.model, encoded),
            "end_to_end": lambda: sum(len(part) for part in detector.stream(folder)),
            "end_to_end_by_torch": lambda: sum(len(part) for part in by_torch.stream(folder)),
        }
        rates: dict[str, list[float]] = {what: [] for what in ways}
        rate = matrix_rate()
        for way in ways.values():
            way()  # the first time pays for more than itself
        for _ in range(rounds):
            for what, way in ways.items():
                started = time.perf_counter()
                images = way()
                rates[what].append(images / (time.perf_counter() - started))
        size = sum(path.stat().st_size for path in folder.iterdir()) / PICTURES
    medians = {what: statistics.median(values) for what, values in rates.items()}
    flop, _ = forward_flop(detector.model, encoded.shape[1:])
    slower = min(("decode", "model"), key=medians.__getitem__)
    return {
        **{what: round(rate, 1) for what, rate in medians.items()},
        "spread": {what: [round(min(values), 1), round(max(values), 1)] for what, values in rates.items()},
        "unit": "images a second",
        "limit": slower,
        "decode_share_of_time": round((1 / medians["decode"]) / (1 / medians["decode"] + 1 / medians["model"]), 3),
        "mflop_per_image": round(flop / 1e6, 1),
        "bytes_per_image": {"jpeg": round(size), "pixels": decoded[0].nbytes},
        "matrix_rate_gflops": round(rate / 1e9, 1),
        "model_share_of_matrix_rate": round(medians["model"] * flop / (rate * torch.get_num_threads()), 3),
        "pictures": f"{PICTURES} JPEGs of {side} x {side} px, {size / 1000:.0f} kB each",
        "device": str(next(detector.model.parameters()).device),
        "threads": torch.get_num_threads(),
    }


@torch.inference_mode()
def _rebuilt(model: Autoencoder, encoded: torch.Tensor) -> int:
    rebuild = Rebuilder(model)(encoded.shape)
    for batch in encoded.split(AT_ONCE):
        rebuild(batch)
    return len(encoded)


def write_pictures(folder: Path, count: int, side: int, seed: int = 0) -> None:
    """JPEGs of quality 90: squares of the two photographs that come with scikit-learn, half of them mirrored."""
    generator = np.random.default_rng(seed)
    photographs = load_sample_images().images
    for place in range(count):
        photograph = photographs[place % len(photographs)]
        top, left = (generator.integers(0, size - side + 1) for size in photograph.shape[:2])
        square = photograph[top : top + side, left : left + side][:, :: generator.choice([-1, 1])]
        Image.fromarray(square).save(folder / f"{place:04}.jpg", quality=90)
