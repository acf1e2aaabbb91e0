"""UCSD Ped2: the videos, their labels, and what is judged (section 4.2).

Protocols, for frame AUROC over all test videos together ("auroc", micro) and as the mean over the videos that have both
kinds of frames ("auroc_macro"):

- "served": what `memae score` gives, every frame, no normalisation over the video; "served 1" and "served 16" are
  the same at other strides.
- "served min-max": the same scores, each video scaled to [0, 1], which looks into the future.
- "paper": clips of stride 1, one error a clip, given to its frame 8; frames [8:-7] of each video; scores scaled to
  [0, 1] video by video (section 4.2, alignment of the released code). "paper raw" is without the scaling.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch

from experiments.protocols.split import Metrics
from memae import datasets
from memae.engine import Rebuild
from memae.losses import squared_error
from memae.metrics import auroc
from memae.video.clips import Windows, released_frames
from memae.video.evaluate import per_video_min_max
from memae.video.preprocess import VideoPreprocess
from memae.video.source import VideoSource

__all__ = ["RATE", "Scored", "clip_errors", "judge", "labels", "root", "testing", "training", "videos"]

RATE = 10.0  # frames a second
SCALED = {"served": "served min-max", "paper raw": "paper"}  # a protocol, and what it is called with min-max

Scored: TypeAlias = Mapping[str, Mapping[str, np.ndarray]]
"""{protocol: {video: scores (F,) of its frames, NaN where the protocol gives none}}"""


def root() -> Path:
    """The folder of the data set."""
    return datasets.data_root() / "ucsd_ped2"


def videos(part: str) -> list[Path]:
    """The frame folders of "training" or "testing"."""
    return sorted((root() / part).iterdir())


def training(paths: list[Path] | None = None) -> VideoSource:
    """The training videos, or some of them."""
    return VideoSource(paths or videos("training"), folder_rate=RATE)


def testing() -> VideoSource:
    """The test videos."""
    return VideoSource(videos("testing"), folder_rate=RATE)


@lru_cache(maxsize=1)
def labels() -> dict[str, np.ndarray]:
    """{test video: (F,) bool, True = anomalous}, from the authors' frame ranges (1-based, inclusive)."""
    ranges = [r for r in re.findall(r"\[(.*?)\]", (root() / "UCSDped2.m").read_text()) if ":" in r]
    found = {}
    for folder, text in zip(videos("testing"), ranges, strict=True):
        marks = np.zeros(len(list(folder.glob("*.jpg"))), dtype=bool)
        for first, last in re.findall(r"(\d+):(\d+)", text):
            marks[int(first) - 1 : int(last)] = True
        found[folder.name] = marks
    return found


def judge(scored: Scored, truth: Mapping[str, np.ndarray]) -> Metrics:
    """Micro and macro AUROC of every protocol's frames, and micro after min-max (macro is the same with it)."""
    metrics: Metrics = {}
    for protocol, scores in scored.items():
        kept = {video: ~np.isnan(values) for video, values in scores.items()}
        values = {video: scores[video][kept[video]] for video in scores}
        marks = {video: truth[video][kept[video]] for video in scores}
        both = [video for video in values if marks[video].any() and not marks[video].all()]
        metrics[protocol] = {
            "auroc": _micro(marks, values),
            "auroc_macro": float(np.mean([auroc(marks[video], values[video]) for video in both])),
        }
        if protocol in SCALED:
            metrics[SCALED[protocol]] = {"auroc": _micro(marks, per_video_min_max(values))}
    return metrics


@torch.inference_mode()
def clip_errors(rebuild: Rebuild, preprocess: VideoPreprocess, source: VideoSource) -> dict[str, np.ndarray]:
    """Section 4.2 and the released alignment: the mean squared error of a whole clip, given to one frame.

    Returns {video: (F,) errors, NaN for the frames that get none}. `source` has the size of the network.
    """
    length = preprocess.clip_length
    found: dict[str, np.ndarray] = {}
    pixels: dict[str, list[np.ndarray]] = {}
    for chunk in source.chunks(64):
        pixels.setdefault(chunk.keys[0].video, []).append(chunk.pixels)
    for video, parts in pixels.items():
        frames = torch.from_numpy(np.concatenate(parts))
        scores = np.full(len(frames), np.nan)
        clips = torch.from_numpy(Windows(length, 1).training_clips([(0, len(frames))]))
        for place, clip in zip(released_frames(len(frames), length), clips, strict=True):
            x = preprocess.encode_clips(frames[clip][None])
            scores[place] = float(squared_error(x, rebuild(x).x).mean())
        found[video] = scores
    return found


def _micro(marks: Mapping[str, np.ndarray], values: Mapping[str, np.ndarray]) -> float:
    return auroc(np.concatenate(list(marks.values())), np.concatenate([values[video] for video in marks]))
