"""Synthetic anomalies in training videos of Ped2, to tune settings on: no test frame is opened."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from experiments.protocols import ped2
from experiments.video_methods import by_video, detector
from memae import datasets
from memae.video.frames import FrameKey
from memae.video.source import VideoSource

__all__ = ["figures_on_pseudo_anomalies", "pseudo_anomalies"]

TRAINING_VIDEOS = 12  # of the 16 training videos; the others carry the synthetic anomalies


def figures_on_pseudo_anomalies(settings: Mapping[str, Mapping[str, Any]], seed: int) -> dict[str, float]:
    """AUROC on synthetic anomalies after training on other videos, as served and with per-video min-max; and the cost.

    The cost is in seconds of one core, which other work on the machine lengthens less than those of the clock.
    """
    started = time.process_time()
    fitted = detector("video", **settings)(seed).fit(ped2.training(ped2.videos("training")[:TRAINING_VIDEOS]))
    fit_s = time.process_time() - started
    with tempfile.TemporaryDirectory() as folder:
        truth = pseudo_anomalies(Path(folder))
        source = VideoSource([Path(folder)], folder_rate=ped2.RATE)
        started = time.process_time()
        scores = fitted.score(source)
        score_s = time.process_time() - started
        keys = [key for key in scores.keys if isinstance(key, FrameKey)]
        values = by_video(zip(keys, scores.values.tolist(), strict=True))
    metrics = ped2.judge({"served": values}, truth)
    return {
        "served": metrics["served"]["auroc"],
        "min-max": metrics["served min-max"]["auroc"],
        "seconds": fitted.facts["seconds"],
        "fit_core_s": fit_s,
        "frames_per_core_s": sum(map(len, truth.values())) / score_s,
    }


def pseudo_anomalies(folder: Path, each: int = 3, seed: int = 0) -> dict[str, np.ndarray]:
    """Writes training videos 13 to 16 with synthetic anomalies as frame folders; returns the labels of their frames.

    Two kinds, for 25 to 50 frames each: a part of the frame is played two to four times as fast, and a CIFAR-10
    image with the contrast of a walker moves through the scene. Both lie where people walk: anywhere else it is enough
    to know the place. (The idea of pseudo anomalies: Astrid et al.,
    "Learning not to reconstruct anomalies", BMVC 2021.)
    """
    generator = np.random.default_rng(seed)
    validation = [
        np.stack([np.asarray(Image.open(file, formats=("JPEG",))) for file in sorted(video.glob("*.jpg"))])
        for video in ped2.videos("training")[TRAINING_VIDEOS:]
    ]
    objects, walked = _objects(), _walked(validation)
    truth = {}
    for number, frames in enumerate(validation):
        for copy in range(each):
            name = f"{number}-{copy}"
            changed, marks = frames.astype(np.float32), np.zeros(len(frames), dtype=bool)
            for change in (_played_fast, _object_passing):
                length = int(generator.integers(25, 50))
                start = int(generator.integers(8, len(frames) - length - 8))
                if not marks[start : start + length].any():
                    change(changed, marks, slice(start, start + length), validation, objects, walked, generator)
            (folder / name).mkdir()
            for place, picture in enumerate(changed.round().clip(0, 255).astype(np.uint8)):
                Image.fromarray(picture).save(folder / name / f"{place:03}.png", compress_level=1)
            truth[name] = marks
    return truth


def _played_fast(
    frames: np.ndarray,
    marks: np.ndarray,
    span: slice,
    donors: list[np.ndarray],
    objects: list[np.ndarray],
    walked: np.ndarray,
    generator: np.random.Generator,
) -> None:
    """In a rectangle, what a training video shows there, at two to four times the speed; the liveliest of 30 draws."""
    _, height, width = frames.shape
    best: tuple[float, np.ndarray, tuple[int, int, int, int]] | None = None
    for _ in range(30):
        speed, donor = int(generator.integers(2, 5)), donors[generator.integers(len(donors))]
        count = min(span.stop - span.start, (len(donor) - 1) // speed)
        first = int(generator.integers(0, len(donor) - speed * count))
        h, w = int(generator.integers(45, 82)), int(generator.integers(56, 112))
        top, left = int(generator.integers(38, height - h)), int(generator.integers(0, width - w))
        piece = donor[first : first + speed * count : speed]
        motion = float(np.abs(np.diff(piece[:, top : top + h, left : left + w].astype(np.float32), axis=0)).mean())
        if best is None or motion > best[0]:
            best = motion, piece, (top, left, h, w)
    assert best is not None
    _, piece, (top, left, h, w) = best
    soft = np.zeros((height, width), dtype=np.float32)
    soft[top : top + h, left : left + w] = 1
    soft = gaussian_filter(soft, 4)
    here = slice(span.start, span.start + len(piece))
    frames[here] = frames[here] * (1 - soft) + piece * soft
    marks[here] = True


def _object_passing(
    frames: np.ndarray,
    marks: np.ndarray,
    span: slice,
    donors: list[np.ndarray],
    objects: list[np.ndarray],
    walked: np.ndarray,
    generator: np.random.Generator,
) -> None:
    """An image of an object, sized by perspective, with the contrast of a walker, at up to six px a frame."""
    _, height, width = frames.shape
    y, middle = divmod(int(generator.choice(height * width, p=walked.ravel())), width)
    height_px = int((15 + 26 * y / height) * generator.uniform(0.8, 1.6))
    width_px = max(8, int(height_px * generator.uniform(0.6, 1.4)))
    moving = np.asarray(
        Image.fromarray(objects[generator.integers(len(objects))]).resize((width_px, height_px))
    ).astype(np.float32)
    ground = frames[span.start, max(0, int(y) - 11) : int(y) + 11].mean()
    contrast = (moving - moving.mean()) / (moving.std() + 1) * generator.uniform(8, 24)
    moving = ground + generator.uniform(-28, 4) + contrast
    soft = gaussian_filter(np.pad(np.ones((height_px - 4, width_px - 4), dtype=np.float32), 2), 2)
    across, down = generator.choice([-1, 1]) * generator.uniform(0, 5.6), generator.uniform(-0.6, 0.6)
    x = middle - across * (span.stop - span.start) / 2  # it passes the drawn place half way
    for step, number in enumerate(range(span.start, span.stop)):
        top, left = round(y + down * step - height_px / 2), round(x + across * step - width_px / 2)
        rows, columns = (
            slice(max(top, 0), min(top + height_px, height)),
            slice(max(left, 0), min(left + width_px, width)),
        )
        if rows.stop - rows.start < height_px // 2 or columns.stop - columns.start < width_px // 2:
            continue
        part = (
            slice(rows.start - top, rows.stop - top),
            slice(columns.start - left, columns.stop - left),
        )
        frames[number, rows, columns] = (
            frames[number, rows, columns] * (1 - soft[part]) + moving[part] * soft[part]
        )
        marks[number] = True


def _walked(videos: list[np.ndarray]) -> np.ndarray:
    """(H, W) how much moves at each place, the quarter where most does; adds up to 1."""
    motion = np.mean([np.abs(np.diff(video.astype(np.float32), axis=0)).mean(axis=0) for video in videos], axis=0)
    motion = gaussian_filter(motion, 4)
    motion[motion < np.quantile(motion, 0.75)] = 0
    share: np.ndarray = motion / motion.sum()
    return share


def _objects() -> list[np.ndarray]:
    """1,000 grey CIFAR-10 training images."""
    sheet = np.asarray(
        Image.open(datasets.data_root() / "cifar10" / "train_00.webp", formats=("WEBP",)).convert("L")
    )
    return [sheet[32 * r : 32 * r + 32, 32 * c : 32 * c + 32] for r in range(25) for c in range(40)]
