"""How time and memory of fit and score grow with rows, columns, items, pixels and the length of a video.

Each point is fitted in one process and scored in another, on one thread: processor time of the call alone, and the most
memory of the process less what it took before. A slope is the power of growth between the two largest sizes, as all
constant costs weigh least there: 1 is in proportion. The samples are random, seeded; what they hold does not matter.
"""

from __future__ import annotations

import math
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.tables import peak_bytes
from memae import Detector

__all__ = ["AXES", "EXPECTED_SLOPE", "MEASURES", "growth_benchmark"]

EXPECTED_SLOPE = 1.0
MEASURES = ("fit_s", "score_s", "fit_mb", "score_mb")
ROWS, COLUMNS, ITEMS, IMAGES = 16_384, 16, 200, 32
FEW_ROWS = 256  # of many columns
FRAME = (64, 96)
RATE_HZ = 10
BRIEF: dict[str, Any] = {"train": {"epochs": 1}, "memory": {"warmup_epochs": 1}}


@dataclass(frozen=True)
class Axis:
    """What grows: its unit, its sizes from small to large, and a maker of the samples of a size."""

    unit: str
    sizes: tuple[int, ...]
    preset: str
    settings: Callable[[int], dict[str, Any]]
    """Of a size, beside `BRIEF`."""
    samples: Callable[[int, Path], Any]
    """Of a size; may write into the folder."""


def _table(rows: int, columns: int) -> np.ndarray:
    generator = np.random.default_rng(0)
    return generator.normal(size=(rows, 4)) @ generator.normal(size=(4, columns)) + generator.normal(
        size=(rows, columns)
    )


def _pictures(side: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (IMAGES, side, side, 3), dtype=np.uint8)


def _video(frames: int, folder: Path) -> Path:
    from memae.video.encode import encoded_video

    generator = np.random.default_rng(0)
    ground = generator.integers(60, 120, (*FRAME, 3), dtype=np.uint8)
    path = folder / "normal.mp4"
    with encoded_video(path) as video:
        for number in range(frames):
            picture = ground.copy()
            left = 2 * number % (FRAME[1] - 12)
            picture[30:46, left : left + 12] = 200
            video.write(number / RATE_HZ, picture)
    return path


AXES: Mapping[str, Axis] = {
    "rows": Axis(
        "rows of 16 columns", (16_384, 65_536, 262_144, 1_048_576), "table",
        lambda _: {"memory": {"num_items": ITEMS}}, lambda size, _: _table(size, COLUMNS),
    ),
    "columns": Axis(
        "columns of 256 rows", (64, 256, 1024, 4096, 16_384), "table",
        lambda _: {"memory": {"num_items": 50}}, lambda size, _: _table(FEW_ROWS, size),
    ),
    "items": Axis(
        "items for 16,384 rows of 16 columns", (128, 512, 2048, 8192), "table",
        lambda size: {"memory": {"num_items": size}}, lambda _, __: _table(ROWS, COLUMNS),
    ),
    "pixels": Axis(
        "pixels of each of 32 images", (64**2, 128**2, 256**2, 512**2), "image",
        lambda size: {"image": {"size_px": math.isqrt(size)}},
        lambda size, _: _pictures(math.isqrt(size)),
    ),
    "frames": Axis(
        "frames of one video of 64 x 96 pixels", (256, 1024, 4096, 16_384), "video",
        lambda _: {
            "video": {"height": FRAME[0], "width": FRAME[1], "crop_px": 32, "place_px": 8, "training_stride": 32}
        },
        _video,
    ),
}  # fmt: skip


def growth_benchmark(axes: tuple[str, ...] = tuple(AXES), largest: int | None = None) -> dict[str, Any]:
    """For each axis its sizes, seconds and MB of fit and score at each, and the slopes at its end.

    Args:
        axes: which of `AXES`.
        largest: leaves out greater sizes.
    """
    found: dict[str, Any] = {}
    for name in axes:
        sizes = [size for size in AXES[name].sizes if largest is None or size <= largest]
        points = [_point(name, size) for size in sizes]
        measures = {measure: [point[measure] for point in points] for measure in MEASURES}
        slopes = {measure: _slope(sizes, values) for measure, values in measures.items()}
        found[name] = {"unit": AXES[name].unit, "sizes": sizes, **measures, "slopes": slopes}
    return {"axes": found, "expected_slope": EXPECTED_SLOPE, "threads": 1}


def _slope(sizes: list[int], values: list[float]) -> float:
    """The power of growth between the two largest sizes; nothing measured counts as the least that can be told."""
    before, after = (max(value, 1e-3) for value in values[-2:])
    return round(math.log(after / before) / math.log(sizes[-1] / sizes[-2]), 2)


def _point(axis: str, size: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fit_s, fit_mb = _fresh(_fit, axis, size, folder)
        score_s, score_mb = _fresh(_score, axis, size, folder)
    return {"fit_s": fit_s, "score_s": score_s, "fit_mb": fit_mb, "score_mb": score_mb}


def _fresh(run: Callable[[str, int, Path], tuple[float, float]], *given: Any) -> tuple[float, float]:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
        return fresh.submit(run, *given).result()


def _fit(axis: str, size: int, folder: Path) -> tuple[float, float]:
    wanted = AXES[axis]
    settings = {section: {**BRIEF.get(section, {}), **values} for section, values in wanted.settings(size).items()}
    detector = Detector(wanted.preset, settings={**BRIEF, **settings}, device="cpu")
    x = wanted.samples(size, folder)
    spent = _spent(lambda: detector.fit(x))
    detector.save(folder / "model")
    return spent


def _score(axis: str, size: int, folder: Path) -> tuple[float, float]:
    detector = Detector.load(folder / "model", device="cpu")
    x = AXES[axis].samples(size, folder)
    return _spent(lambda: detector.score(x))


def _spent(run: Callable[[], object]) -> tuple[float, float]:
    """Processor seconds of a call, and MB by which the most memory of the process grew in it."""
    torch.set_num_threads(1)
    before, started = peak_bytes(), time.process_time()
    run()
    return round(time.process_time() - started, 3), round((peak_bytes() - before) / 1e6, 1)
