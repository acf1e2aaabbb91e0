"""A folder of 256 x 256 JPEGs to scores: decoding alone, the model alone, and end to end.

The model is the network `image` with its defaults, hardly trained, as its weights change no time. Rounds are
interleaved, so that what else the machine does falls on all three alike. On one thread end to end takes about as long
as both parts together; on several decoding runs beside the model.
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

from memae import Detector
from memae.data.samples import Images

__all__ = ["pictures_benchmark"]

PICTURES, SIDE = 300, 256
TRAINED_ON = 32
CHUNK = 256  # decoded at a time


def pictures_benchmark(rounds: int = 5) -> dict[str, Any]:
    """Images a second of each part, medians over interleaved rounds, and which of them is the limit."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pictures(folder, PICTURES)
        settings = {"train": {"epochs": 1}, "memory": {"warmup_epochs": 1}}
        some = [str(path) for path in sorted(folder.iterdir())[:TRAINED_ON]]
        detector = Detector("image", settings=settings, device="auto").fit(some)
        decoded = np.concatenate(
            [part.pixels for part in detector.open(folder).chunks(CHUNK) if isinstance(part, Images)]
        )
        ways: dict[str, Callable[[], int]] = {
            "decode": lambda: sum(len(part) for part in detector.open(folder).chunks(CHUNK)),
            "model": lambda: len(detector.score(decoded).values),
            "end_to_end": lambda: sum(len(part) for part in detector.stream(folder)),
        }
        rates: dict[str, list[float]] = {what: [] for what in ways}
        for way in ways.values():
            way()  # the first time pays for more than itself
        for _ in range(rounds):
            for what, way in ways.items():
                started = time.perf_counter()
                images = way()
                rates[what].append(images / (time.perf_counter() - started))
        size = sum(path.stat().st_size for path in folder.iterdir()) / PICTURES
    medians = {what: statistics.median(values) for what, values in rates.items()}
    slower = min(("decode", "model"), key=medians.__getitem__)
    return {
        **{what: round(rate, 1) for what, rate in medians.items()},
        "spread": {what: [round(min(values), 1), round(max(values), 1)] for what, values in rates.items()},
        "unit": "images a second",
        "limit": slower,
        "share_of_limit": round(medians["end_to_end"] / medians[slower], 3),
        "decode_share_of_time": round((1 / medians["decode"]) / (1 / medians["decode"] + 1 / medians["model"]), 3),
        "pictures": f"{PICTURES} JPEGs of {SIDE} x {SIDE} px, {size / 1000:.0f} kB each",
        "device": str(next(detector.model.parameters()).device),
        "threads": torch.get_num_threads(),
    }


def write_pictures(folder: Path, count: int, seed: int = 0) -> None:
    """JPEGs of quality 90: squares of the two photographs that come with scikit-learn, half of them mirrored."""
    generator = np.random.default_rng(seed)
    photographs = load_sample_images().images
    for place in range(count):
        photograph = photographs[place % len(photographs)]
        top, left = (generator.integers(0, size - SIDE + 1) for size in photograph.shape[:2])
        square = photograph[top : top + SIDE, left : left + SIDE][:, :: generator.choice([-1, 1])]
        Image.fromarray(square).save(folder / f"{place:04}.jpg", quality=90)
