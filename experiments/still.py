"""What stands still or drives by on made-up footage: found, and light, shaking and noise not; by one part and by both.

For each scene of `still_footage` and each of the two there is one file. A detector is fitted on two minutes of normal
footage; clips that no training saw are scored frame by frame.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image

from experiments.markdown import markdown
from experiments.records import RESULTS, provenance, write_result
from experiments.still_footage import CHANGE_S, KINDS, RATE, SCENES, Street
from memae import Detector
from memae.metrics import auroc
from memae.video.source import VideoSource

__all__ = ["PARTS", "STILL", "measure_still", "still_table"]

STILL = RESULTS / "still"
PARTS = {"both": True, "motion": False}
NORMAL_S, NORMAL_VIDEOS = 40.0, 3
CLIPS = 2  # of each kind
DELAY_S = 2.0  # half of the persistence: before that nothing can be found
SETTINGS: dict[str, dict[str, Any]] = {
    "train": {"epochs": 6},
    "memory": {"warmup_epochs": 2},
    "video": {"training_stride": 4},
}


def measure_still(part: str, root: Path = STILL, scenes: int = len(SCENES)) -> Iterator[dict[str, Any]]:
    """Computes the scenes that have no file yet, on one thread; gives each result as it is done.

    Args:
        part: one of `PARTS`.
        root: folder of the results.
        scenes: so many of `SCENES`.
    """
    for number in range(scenes):
        path = root / part / f"scene-{number}.json"
        if path.exists():
            continue
        threads, started = torch.get_num_threads(), time.process_time()
        torch.set_num_threads(1)
        try:
            found = _scene(Street(SCENES[number], number), PARTS[part], number)
        finally:
            torch.set_num_threads(threads)
        result = {
            "scene": number,
            "command": f"python -m experiments still --part {part}",
            **provenance(number),
            "settings": SETTINGS,
            "appearance": PARTS[part],
            **found,
            "core_seconds": round(time.process_time() - started, 1),
        }
        write_result(path, result)
        yield result


def _scene(street: Street, appearance: bool, seed: int) -> dict[str, Any]:
    settings = {**SETTINGS, "video": {**SETTINGS["video"], "appearance": appearance}}
    detector = Detector("video", seed=seed, settings=settings, device="cpu", engine="torch")
    with _folders({str(n): street.normal(NORMAL_S, n) for n in range(NORMAL_VIDEOS)}) as source:
        detector.fit(source)
    kinds = {kind: [_clip(detector, street, kind, seed) for seed in range(CLIPS)] for kind in KINDS}
    return {
        "wanted": detector.threshold.false_alarm_rate,
        "threshold": detector.threshold.value,
        "kinds": {kind: _means(clips) for kind, clips in kinds.items()},
    }


def _clip(detector: Detector, street: Street, kind: str, seed: int) -> dict[str, float]:
    """Figures of one clip: see `still_table`."""
    frames, labels = street.clip(kind, seed)
    with _folders({"clip": frames}) as source:
        scores = detector.score(source).values
    flags = scores > detector.threshold.value
    found = {"flagged": float(flags.mean()), "longest_s": _longest(flags) / RATE}
    if labels.any():
        late = np.arange(len(flags)) >= (CHANGE_S + DELAY_S) * RATE
        found |= {
            "auroc": auroc(labels, scores),
            "recall": float(flags[late].mean()),
            "before": float(flags[~labels].mean()),
        }
    return found


def _means(clips: Sequence[dict[str, float]]) -> dict[str, float]:
    means = {name: round(float(np.mean([clip[name] for clip in clips])), 4) for name in clips[0]}
    return {**means, "longest_s": max(clip["longest_s"] for clip in clips)}


def _longest(flags: np.ndarray) -> int:
    """The length of the longest run of true values."""
    return max((len(list(run)) for flag, run in groupby(flags) if flag), default=0)


@contextmanager
def _folders(videos: Mapping[str, np.ndarray]) -> Iterator[VideoSource]:
    """A source of videos (F, H, W) uint8, written as folders of frames while the block lasts."""
    with TemporaryDirectory() as folder:
        for name, frames in videos.items():
            video = Path(folder) / name
            video.mkdir()
            for number, frame in enumerate(frames):
                Image.fromarray(frame).save(video / f"{number:05}.bmp")
        yield VideoSource([Path(folder)], folder_rate=RATE)


def still_table(root: Path = STILL) -> str:
    """The committed results: means over scenes of the two forms, kind by kind.

    Flagged: share of the frames above the threshold. Longest: seconds of the longest run of such frames. Recall:
    flagged share from `DELAY_S` after the change on. Before: of the frames before it.
    """
    found = {
        part: [json.loads(p.read_text(encoding="utf-8")) for p in sorted((root / part).glob("*.json"))]
        for part in PARTS
    }
    rows = []
    for kind in KINDS:
        for part, results in found.items():
            figures = [result["kinds"][kind] for result in results if kind in result["kinds"]]
            if not figures:
                continue
            means = {name: float(np.mean([one[name] for one in figures])) for name in figures[0]}
            worst = max(one["longest_s"] for one in figures)
            rows.append(
                [kind, {"both": "motion and appearance", "motion": "motion alone"}[part]]
                + [
                    f"{means[name]:.3f}" if name in means else ""
                    for name in ("auroc", "recall", "before", "flagged")
                ]
                + [f"{means['longest_s']:.1f}", f"{worst:.1f}", str(len(figures))]
            )
    titles = [
        "clip",
        "score",
        "AUROC",
        "recall",
        "flagged before",
        "flagged",
        "longest run, s",
        "of the worst scene",
        "scenes",
    ]
    return markdown(titles, rows) if rows else "No committed runs."
