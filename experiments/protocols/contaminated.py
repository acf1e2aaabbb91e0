"""Normal data with unlabelled anomalies among it, and a test part that holds none of these; brief settings.

Each part of a data set has its own normal samples, all of which are fitted at every share, and anomalies that come on
top. An anomaly that is fitted is never judged. Caps keep a fit short on one core:

- tables: half of the normal rows are fitted, at most 3,000, and at most 6,000 are judged; half of the anomalies may be
  fitted, which in two small tables is a little less than 5 %.
- kddcup99-attacks: 3,000 rows of normal traffic are fitted; 6,000 others and 6,000 attacks are judged.
- mnist: 600 images of class 1, 3 or 8 are fitted; its official test images and 2,000 of other digits are judged.
- magnetic-tile: the photographs of `train/good` are fitted, at 96 px; `test/good` and half of the defects are judged.
- ped2: the training videos, a clip every 8 frames. The anomalies are stretches of 26 frames of the test videos 08 and
  11, which are anomalous throughout, each a video of its own. The other ten test videos are judged.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa

from experiments.protocols import images, ped2, small_tables
from memae import datasets
from memae.video.source import VideoSource

__all__ = ["PROBLEMS", "Contaminated", "Problem", "anomalies_for"]

MOST_ROWS, TESTED_ROWS = 3000, 6000
DIGITS, OTHER_DIGITS = 600, 2000
DEFECTS = ("blowhole", "break", "crack", "fray", "uneven")
DONORS, STRETCH, SLOT = ("08", "11"), 26, 30  # frames


@dataclass(frozen=True)
class Contaminated:
    """What to fit on at one share of anomalies, and what to judge."""

    fit: Any
    """For `Detector.fit`: the normal samples with the anomalies among them."""
    normal: int
    """Fitted normal samples (of video: frames)."""
    anomalies: int
    """Fitted anomalies."""
    test: Any
    """For `Detector.detect`."""
    labels: np.ndarray
    """(T,) bool of the judged samples, in their order; True = anomaly."""


@dataclass(frozen=True)
class Problem:
    """A data set: its parts, the preset and settings of its fits, and the data of a part at a share of anomalies."""

    preset: str
    data: Callable[[str, float, int], AbstractContextManager[Contaminated]]
    """From part, share and seed."""
    parts: tuple[str, ...] = ("all",)
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def anomalies_for(share: float, normal: int) -> int:
    """How many anomalies make `share` of the data beside so many normal samples."""
    return round(normal * share / (1 - share))


def _mixed(normal: np.ndarray, anomalous: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, int]:
    """All normal samples and so many anomalies as make the share, by number and shuffled; and how many these are."""
    added = anomalous[: anomalies_for(share, len(normal))]
    fitted = np.concatenate([normal, added])
    return np.random.default_rng([seed, 1]).permutation(fitted), len(added)


def _shuffled(chosen: np.ndarray, seed: int) -> np.ndarray:
    return np.random.default_rng([seed, 0]).permutation(np.flatnonzero(chosen))


@contextmanager
def _table(part: str, share: float, seed: int) -> Iterator[Contaminated]:
    rows, anomalous = small_tables.load(small_tables.TABLES[part])
    normal, abnormal = _shuffled(~anomalous, seed), _shuffled(anomalous, seed)
    half, kept = len(normal) // 2, len(abnormal) // 2
    fitted, added = _mixed(normal[:half][:MOST_ROWS], abnormal[:kept], share, seed)
    tested = np.concatenate([normal[half:][:TESTED_ROWS], abnormal[kept:][:TESTED_ROWS]])
    yield Contaminated(rows[fitted], len(fitted) - added, added, rows[tested], anomalous[tested])


@contextmanager
def _kddcup(part: str, share: float, seed: int) -> Iterator[Contaminated]:
    rows, names = datasets.kddcup99()
    anomalous = names != "normal"
    normal, abnormal = _shuffled(~anomalous, seed), _shuffled(anomalous, seed)
    fitted, added = _mixed(normal[:MOST_ROWS], abnormal[:MOST_ROWS], share, seed)
    tested = np.concatenate([side[MOST_ROWS:][:TESTED_ROWS] for side in (normal, abnormal)])
    yield Contaminated(_taken(rows, fitted), len(fitted) - added, added, _taken(rows, tested), anomalous[tested])


def _taken(rows: pa.Table, chosen: np.ndarray) -> pa.Table:
    return rows.take(pa.array(chosen))


@contextmanager
def _digits(part: str, share: float, seed: int) -> Iterator[Contaminated]:
    (pixels, digits), (test, test_digits) = images.official("train"), images.official("test")
    normal, abnormal = _shuffled(digits == int(part), seed), _shuffled(digits != int(part), seed)
    fitted, added = _mixed(normal[:DIGITS], abnormal, share, seed)
    others = _shuffled(test_digits != int(part), seed)[:OTHER_DIGITS]
    tested = np.concatenate([np.flatnonzero(test_digits == int(part)), others])
    yield Contaminated(pixels[fitted], len(fitted) - added, added, test[tested], test_digits[tested] != int(part))


@contextmanager
def _tiles(part: str, share: float, seed: int) -> Iterator[Contaminated]:
    root = datasets.data_root() / "magnetic_tile"
    train, good = (np.array(sorted((root / name / "good").iterdir())) for name in ("train", "test"))
    defects = np.array([path for kind in DEFECTS for path in sorted((root / "test" / kind).iterdir())])
    defects = np.random.default_rng([seed, 0]).permutation(defects)
    kept = len(defects) // 2
    fitted, added = _mixed(train, defects[:kept], share, seed)
    labels = np.repeat([False, True], [len(good), len(defects) - kept])
    yield Contaminated(list(fitted), len(train), added, [*good, *defects[kept:]], labels)


@contextmanager
def _videos(part: str, share: float, seed: int) -> Iterator[Contaminated]:
    training, marks = ped2.videos("training"), ped2.labels()
    normal = sum(len(list(video.glob("*.jpg"))) for video in training)
    frames = [sorted((ped2.root() / "testing" / donor).glob("*.jpg")) for donor in DONORS]
    slots = [video[first : first + STRETCH] for video in frames for first in range(0, len(video) - STRETCH, SLOT)]
    wanted = round(anomalies_for(share, normal) / STRETCH)
    chosen = np.random.default_rng([seed, 0]).permutation(len(slots))[:wanted]
    judged = [video for video in ped2.videos("testing") if video.name not in DONORS]
    with TemporaryDirectory() as folder:
        added = [Path(folder) / f"stretch-{number}" for number in range(len(chosen))]
        for stretch, slot in zip(added, chosen, strict=True):
            stretch.mkdir()
            for frame in slots[slot]:
                shutil.copy(frame, stretch)
        yield Contaminated(
            ped2.training([*training, *added]),
            normal,
            sum(len(slots[slot]) for slot in chosen),
            VideoSource(judged, folder_rate=ped2.RATE),
            np.concatenate([marks[video.name] for video in judged]),
        )


PROBLEMS: dict[str, Problem] = {
    "tables": Problem("table", _table, tuple(small_tables.TABLES)),
    "kddcup99-attacks": Problem("kddcup", _kddcup),
    "mnist": Problem("mnist", _digits, ("1", "3", "8")),
    "magnetic-tile": Problem("image", _tiles, settings={"image": {"size_px": 96}, "train": {"epochs": 30}}),
    "ped2": Problem(
        "video",
        _videos,
        settings={
            "video": {"training_stride": 8, "stride": 16},
            "train": {"epochs": 4},
            "memory": {"warmup_epochs": 2},
        },
    ),
}
