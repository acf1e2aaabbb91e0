"""UCSD Ped2: the footage, the protocols, the trivial scores, and made-up anomalies to choose settings on.

Nothing here is chosen on test labels: epochs are fixed and the last weights are kept. Settings are chosen on
`pseudo_anomalies`, which are made of training footage alone.

Protocols, for frame AUROC over all test videos together (micro):
- "served": what `memae score` gives, every frame, no normalisation over the video; "served 1" and "served 16" are
  the same at other strides.
- "served min-max": the same scores, each video scaled to [0, 1], which looks into the future.
- "paper": clips of stride 1, one error a clip, given to its frame 8; frames [8:-7] of each video; scores scaled to
  [0, 1] video by video (section 4.2 of the paper, alignment of the released code). "paper raw" is without the scaling.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter, uniform_filter

from memae import Detector
from memae.data import known
from memae.data.samples import FrameKey
from memae.data.video import VideoSource
from memae.data.windows import Windows, released_frames
from memae.evaluate import auroc
from memae.evaluate_video import per_video_min_max
from memae.frame_scoring import FrameScorer
from memae.losses import squared_error
from memae.models.autoencoder import Reconstruction
from memae.models.inference import inference_form

__all__ = [
    "METHODS",
    "STRIDES",
    "Scored",
    "judge",
    "labels",
    "pseudo_anomalies",
    "run_method",
    "training",
    "videos",
]

RATE = 10.0  # frames a second
STRIDES = (1, 8, 16)
TRIVIAL_SIZE = (120, 180)  # height and width, px, of the trivial scores
CHOOSE_TRAINING = 12  # of the 16 training videos; the others carry the made-up anomalies

Scored = Mapping[str, Mapping[str, np.ndarray]]
"""{protocol: {video: scores of its frames, NaN where the protocol gives none}}"""

_NO_HOLD_OUT = {"train": {"validation_share": 0.0}, "threshold": {"calibration_share": 0.0}}


def root() -> Path:
    """The folder of the data set."""
    return known.data_root() / "ucsd_ped2"


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


def judge(scored: Scored, truth: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """{protocol: {metric: value}}: micro and macro AUROC of frames, and micro with min-max where that is not done."""
    metrics = {}
    for protocol, scores in scored.items():
        kept = {video: ~np.isnan(values) for video, values in scores.items()}
        values = {video: scores[video][kept[video]] for video in scores}
        marks = {video: truth[video][kept[video]] for video in scores}
        both = [video for video in values if marks[video].any() and not marks[video].all()]
        metrics[protocol] = {
            "auroc": _micro(marks, values),
            "auroc_macro": float(np.mean([auroc(marks[video], values[video]) for video in both])),
        }
        if protocol in ("served", "paper raw"):
            scaled = _micro(marks, per_video_min_max(values))
            metrics["served min-max" if protocol == "served" else "paper"] = {"auroc": scaled}
    return metrics


def _micro(marks: Mapping[str, np.ndarray], values: Mapping[str, np.ndarray]) -> float:
    return auroc(np.concatenate(list(marks.values())), np.concatenate([values[video] for video in marks]))


def detector(preset: str, **settings: Mapping[str, Any]) -> Callable[[int], Detector]:
    """A detector of a preset with `settings`, without hold-out: the protocols judge a ranking."""

    def make(seed: int) -> Detector:
        merged = {
            name: {**_NO_HOLD_OUT.get(name, {}), **settings.get(name, {})} for name in {*_NO_HOLD_OUT, *settings}
        }
        return Detector(preset, seed=seed, settings=merged)

    return make


def score_test(fitted: Detector, source: VideoSource | None = None) -> dict[str, dict[str, np.ndarray]]:
    """The scores of the test videos (or of a source) under every protocol."""
    source = (source or testing()).resized(fitted.preprocess.height, fitted.preprocess.width)
    form = inference_form(fitted.model)
    scored: dict[str, dict[str, np.ndarray]] = {}
    for stride in STRIDES:
        video = fitted.config.video.model_copy(update={"stride": stride})
        scorer = FrameScorer(form, fitted.preprocess, video)
        name = "served" if stride == 8 else f"served {stride}"
        scored[name] = _by_video((f.key, f.score) for f in scorer.scored(source.chunks(64)))
    scored["paper raw"] = _clip_errors(fitted, source)
    return scored


def _by_video(frames: Iterator[tuple[FrameKey, float]]) -> dict[str, np.ndarray]:
    found: dict[str, list[float]] = {}
    for key, score in frames:
        found.setdefault(key.video, []).append(score)
    return {video: np.array(scores) for video, scores in found.items()}


@torch.inference_mode()
def _clip_errors(fitted: Detector, source: VideoSource) -> dict[str, np.ndarray]:
    """The released alignment: the mean squared error of a whole clip, given to one frame; NaN for the others."""
    length = fitted.preprocess.clip_length
    found: dict[str, np.ndarray] = {}
    model = inference_form(fitted.model)
    pixels: dict[str, list[np.ndarray]] = {}
    for chunk in source.chunks(64):
        pixels.setdefault(chunk.keys[0].video, []).append(chunk.pixels)
    for video, parts in pixels.items():
        frames = torch.from_numpy(np.concatenate(parts))
        scores = np.full(len(frames), np.nan)
        clips = torch.from_numpy(Windows(length, 1).training_clips([(0, len(frames))]))
        for place, clip in zip(released_frames(len(frames), length), clips, strict=True):
            x = fitted.preprocess.encode_clips(frames[clip][None])
            scores[place] = float(squared_error(x, model(x).x).mean())
        found[video] = scores
    return found


def trained(make: Callable[[int], Detector]) -> Callable[[int], tuple[dict[str, Any], dict[str, Any]]]:
    """Fit on the training videos, score the test videos; the scores and facts for the record."""

    def run(seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
        fitted = make(seed).fit(training())
        # where the data lies on a machine is nobody else's business
        return score_test(fitted), {"config": fitted.config.model_dump(), **fitted.facts, "origin": "training"}

    return run


def no_network(seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The served score of preset `video` with a network that rebuilds nothing: the frame differences themselves."""
    fitted = Detector("video", settings={**_NO_HOLD_OUT, "train": {"epochs": 0, "validation_share": 0.0}})
    fitted.fit(training())
    source = testing().resized(fitted.preprocess.height, fitted.preprocess.width)
    scorer = FrameScorer(_Nothing(), fitted.preprocess, fitted.config.video)
    return {"served": _by_video((f.key, f.score) for f in scorer.scored(source.chunks(64)))}, {}


class _Nothing:
    def __call__(self, x: torch.Tensor) -> Reconstruction:
        return Reconstruction(torch.zeros_like(x), None)


def background_difference(seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Mean |frame - median training frame|."""
    every = np.concatenate([c.pixels for c in training().resized(*TRIVIAL_SIZE).chunks(4096)])
    background = np.median(every, axis=0)
    return _trivial(lambda frames: np.abs(frames - background).mean(axis=(1, 2)))


def block_difference(seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The strongest 10 x 10 block of |frame - frame before|; the first frame takes the score of the second."""

    def score(frames: np.ndarray) -> np.ndarray:
        moved = np.abs(np.diff(frames, axis=0))
        blocks = uniform_filter(moved, (0, 10, 10))[:, 5:-5, 5:-5].max(axis=(1, 2))
        return np.concatenate([blocks[:1], blocks])

    return _trivial(score)


def _trivial(score: Callable[[np.ndarray], np.ndarray]) -> tuple[dict[str, Any], dict[str, Any]]:
    found: dict[str, list[np.ndarray]] = {}
    for chunk in testing().resized(*TRIVIAL_SIZE).chunks(4096):
        found.setdefault(chunk.keys[0].video, []).append(chunk.pixels.astype(np.float32))
    return {"served": {video: score(np.concatenate(parts)) for video, parts in found.items()}}, {}


_PLAIN = {"memory": {"enabled": False}}
METHODS: dict[str, Callable[[int], tuple[dict[str, Any], dict[str, Any]]]] = {
    "memae": trained(detector("video")),
    "memae-nonspar": trained(detector("video", memory={"shrinkage": 0.0})),
    "autoencoder": trained(detector("video", **_PLAIN)),
    "untrained": trained(detector("video", train={"epochs": 0})),
    "no network": no_network,
    "background difference": background_difference,
    "block difference": block_difference,
    "memae-paper": trained(detector("video-paper")),
    "autoencoder-paper": trained(detector("video-paper", **_PLAIN)),
    "memae-nonspar-paper": trained(detector("video-paper", memory={"shrinkage": 0.0})),
}
GPU_METHODS = ("memae-paper", "autoencoder-paper", "memae-nonspar-paper")  # days on two cores


def run_method(method: str, seed: int) -> tuple[dict[str, dict[str, float]], dict[str, Any]]:
    """Metrics by protocol, and facts, of one method and seed."""
    scored, facts = METHODS[method](seed)
    metrics = judge(scored, labels())
    return {p: {name: round(value, 6) for name, value in m.items()} for p, m in metrics.items()}, facts


def choose_score(settings: Mapping[str, Mapping[str, Any]], seed: int) -> dict[str, float]:
    """AUROC on made-up anomalies after training on other videos, as served and with per-video min-max."""
    fitted = detector("video", **settings)(seed).fit(training(videos("training")[:CHOOSE_TRAINING]))
    with tempfile.TemporaryDirectory() as folder:
        truth = pseudo_anomalies(Path(folder))
        source = VideoSource([Path(folder)], folder_rate=RATE)
        scores = fitted.score(source)
        values = _by_video(zip(scores.keys, scores.values.tolist(), strict=True))
    metrics = judge({"served": values}, truth)
    return {
        "served": metrics["served"]["auroc"],
        "min-max": metrics["served min-max"]["auroc"],
        "seconds": fitted.facts["seconds"],
    }


def pseudo_anomalies(folder: Path, each: int = 3, seed: int = 0) -> dict[str, np.ndarray]:
    """Writes training videos 13 to 16 with made-up anomalies as frame folders; returns the labels of their frames.

    Two kinds, for 25 to 50 frames each: a part of the picture is played two to four times as fast, and a CIFAR-10
    image with the contrast of a walker moves through the scene. Both lie where people walk: anywhere else it is enough
    to know the place. (The idea of pseudo anomalies: Astrid et al.,
    "Learning not to reconstruct anomalies", BMVC 2021.)
    """
    generator = np.random.default_rng(seed)
    held_out = [
        np.stack([np.asarray(Image.open(file)) for file in sorted(video.glob("*.jpg"))])
        for video in videos("training")[CHOOSE_TRAINING:]
    ]
    things, walked = _things(), _walked(held_out)
    truth = {}
    for number, frames in enumerate(held_out):
        for copy in range(each):
            name = f"{number}-{copy}"
            changed, marks = frames.astype(np.float32), np.zeros(len(frames), dtype=bool)
            for change in (_played_fast, _thing_passing):
                length = int(generator.integers(25, 50))
                start = int(generator.integers(8, len(frames) - length - 8))
                if not marks[start : start + length].any():
                    change(changed, marks, slice(start, start + length), held_out, things, walked, generator)
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
    things: list[np.ndarray],
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


def _thing_passing(
    frames: np.ndarray,
    marks: np.ndarray,
    span: slice,
    donors: list[np.ndarray],
    things: list[np.ndarray],
    walked: np.ndarray,
    generator: np.random.Generator,
) -> None:
    """A picture of something, sized by perspective, with the contrast of a walker, at up to six px a frame."""
    _, height, width = frames.shape
    y, middle = divmod(int(generator.choice(height * width, p=walked.ravel())), width)
    tall = int((15 + 26 * y / height) * generator.uniform(0.8, 1.6))
    wide = max(8, int(tall * generator.uniform(0.6, 1.4)))
    thing = np.asarray(Image.fromarray(things[generator.integers(len(things))]).resize((wide, tall))).astype(
        np.float32
    )
    ground = frames[span.start, max(0, int(y) - 11) : int(y) + 11].mean()
    contrast = (thing - thing.mean()) / (thing.std() + 1) * generator.uniform(8, 24)
    thing = ground + generator.uniform(-28, 4) + contrast
    soft = gaussian_filter(np.pad(np.ones((tall - 4, wide - 4), dtype=np.float32), 2), 2)
    across, down = generator.choice([-1, 1]) * generator.uniform(0, 5.6), generator.uniform(-0.6, 0.6)
    x = middle - across * (span.stop - span.start) / 2  # it passes the drawn place half way
    for step, number in enumerate(range(span.start, span.stop)):
        top, left = round(y + down * step - tall / 2), round(x + across * step - wide / 2)
        rows, columns = slice(max(top, 0), min(top + tall, height)), slice(max(left, 0), min(left + wide, width))
        if rows.stop - rows.start < tall // 2 or columns.stop - columns.start < wide // 2:
            continue
        part = (
            slice(rows.start - top, rows.stop - top),
            slice(columns.start - left, columns.stop - left),
        )
        frames[number, rows, columns] = frames[number, rows, columns] * (1 - soft[part]) + thing[part] * soft[part]
        marks[number] = True


def _walked(videos: list[np.ndarray]) -> np.ndarray:
    """(H, W) how much moves at each place, the quarter where most does; adds up to 1."""
    motion = np.mean([np.abs(np.diff(video.astype(np.float32), axis=0)).mean(axis=0) for video in videos], axis=0)
    motion = gaussian_filter(motion, 4)
    motion[motion < np.quantile(motion, 0.75)] = 0
    return motion / motion.sum()


def _things() -> list[np.ndarray]:
    """1,000 grey CIFAR-10 training images."""
    sheet = np.asarray(Image.open(known.data_root() / "cifar10" / "train_00.webp").convert("L"))
    return [sheet[32 * r : 32 * r + 32, 32 * c : 32 * c + 32] for r in range(25) for c in range(40)]
