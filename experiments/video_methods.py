"""The methods of the video tables: each is fitted on training videos and scores the frames of others.

Epochs are fixed and the last weights are kept; settings are tuned on `pseudo_anomalies`, made from training videos.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import torch
from scipy.ndimage import uniform_filter

from experiments.methods.neural import facts_of, with_weights_of
from experiments.methods.sparse_code import penalised, weight_for
from experiments.protocols.ped2 import Scored, clip_errors
from memae import Detector
from memae.autoencoder import Autoencoder, Reconstruction
from memae.config import Config, override
from memae.engine import scoring_form
from memae.modality import build, prepare, preset_config
from memae.training import train
from memae.video.config import VideoConfig
from memae.video.frames import FrameKey
from memae.video.preprocess import VideoPreprocess
from memae.video.scoring import FrameScorer
from memae.video.source import VideoSource

__all__ = ["METHODS", "FittedVideo", "VideoMethod", "by_video", "detector"]

TRIVIAL_SIZE = (120, 180)  # height and width, px, of the trivial scores
OTHER_STRIDES = (1, 16)  # beside the stride of the preset

_NO_VALIDATION: Mapping[str, Mapping[str, Any]] = {
    "train": {"validation_share": 0.0},
    "threshold": {"calibration_share": 0.0},
}
_PLAIN = {"memory": {"enabled": False}}
_NOT_SPARSE = {"memory": {"shrinkage": 0.0}}
_NO_ENTROPY = {"memory": {"entropy_weight": 0.0}}


def _nothing_more(source: VideoSource) -> Scored:
    return {}


@dataclass(frozen=True)
class FittedVideo:
    """A method that has seen normal videos."""

    score: Callable[[VideoSource], dict[str, np.ndarray]]
    """{video: (F,) scores of all its frames}, higher = more anomalous: protocol "served"."""
    more: Callable[[VideoSource], Scored] = _nothing_more
    """The scores under further protocols, by name."""
    stored: int | None = None
    """Items that are kept for scoring; None where that says nothing of the method."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """All settings of the method, for the record; of JSON types."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What is worth keeping of the fit; of JSON types."""


VideoMethod: TypeAlias = Callable[[VideoSource, int], FittedVideo]
"""From normal videos and a seed."""


def detector(preset: str, **settings: Mapping[str, Any]) -> Callable[[int], Detector]:
    """From a seed, a detector of a preset with `settings`, without hold-out: the protocols judge a ranking."""

    def make(seed: int) -> Detector:
        names = {*_NO_VALIDATION, *settings}
        merged = {name: {**_NO_VALIDATION.get(name, {}), **settings.get(name, {})} for name in names}
        return Detector(preset, seed=seed, settings=merged)

    return make


def by_video(frames: Iterable[tuple[FrameKey, float]]) -> dict[str, np.ndarray]:
    """{video: (F,) scores} of scored frames in their order."""
    found: dict[str, list[float]] = {}
    for key, score in frames:
        found.setdefault(key.video, []).append(score)
    return {video: np.array(scores) for video, scores in found.items()}


def _trained(preset: str, **settings: Mapping[str, Any]) -> VideoMethod:
    make = detector(preset, **settings)

    def run(source: VideoSource, seed: int) -> FittedVideo:
        fitted = make(seed).fit(source)
        return _of_network(
            fitted.model, _preprocess(fitted), fitted.config, fitted.config.model_dump(), fitted.facts
        )

    return run


def _sparse_code(preset: str, share: float = 0.1, **settings: Mapping[str, Any]) -> VideoMethod:
    """`experiments.methods.sparse_code` on videos: the plain autoencoder with an L1 penalty on its code."""

    def run(source: VideoSource, seed: int) -> FittedVideo:
        config = preset_config(preset, "video")
        for changes in (settings, _NO_VALIDATION, _PLAIN):
            config = override(config, changes, "the baseline")
        prepared = prepare(source, config, seed)
        model = with_weights_of(seed, lambda: build(config, prepared.preprocess.shape))
        reduction = config.train.reduction
        weight = weight_for(share, model, prepared.training, reduction)
        history = train(
            model,
            prepared.training,
            None,
            objective=penalised(weight, reduction),
            settings=config.train,
            seed=seed,
        )
        assert isinstance(prepared.preprocess, VideoPreprocess)
        return _of_network(
            model,
            prepared.preprocess,
            config,
            {**config.model_dump(), "share": share},
            {**facts_of(history, model), "weight": weight},
        )

    return run


def _of_network(
    model: Autoencoder,
    preprocess: VideoPreprocess,
    config: Config,
    settings: Mapping[str, Any],
    facts: Mapping[str, Any],
) -> FittedVideo:
    """A trained network under every protocol."""
    form = scoring_form(model)

    def sized(videos: VideoSource) -> VideoSource:
        return videos.resized(preprocess.height, preprocess.width)

    def at_stride(videos: VideoSource, stride: int) -> dict[str, np.ndarray]:
        scorer = FrameScorer(form, preprocess, VideoConfig.of(config).model_copy(update={"stride": stride}))
        return by_video((f.key, f.score) for f in scorer.scored(sized(videos).chunks(64)))

    def more(videos: VideoSource) -> Scored:
        strides = {f"served {stride}": at_stride(videos, stride) for stride in OTHER_STRIDES}
        return {**strides, "paper raw": clip_errors(form, preprocess, sized(videos))}

    return FittedVideo(
        score=lambda videos: at_stride(videos, VideoConfig.of(config).stride),
        more=more,
        stored=None if model.memory is None else model.memory.num_items,
        settings=settings,
        # where the data lies on a machine is nobody else's business
        facts={**facts, "origin": "training"},
    )


def _preprocess(fitted: Detector) -> VideoPreprocess:
    assert isinstance(fitted.preprocess, VideoPreprocess)
    return fitted.preprocess


def _no_network(source: VideoSource, seed: int) -> FittedVideo:
    """The served score of preset `video` with a network that rebuilds nothing: the frame differences themselves."""
    fitted = detector("video", train={"epochs": 0})(seed).fit(source)
    preprocess = _preprocess(fitted)

    def score(videos: VideoSource) -> dict[str, np.ndarray]:
        sized = videos.resized(preprocess.height, preprocess.width)
        scorer = FrameScorer(_Nothing(), preprocess, VideoConfig.of(fitted.config))
        return by_video((f.key, f.score) for f in scorer.scored(sized.chunks(64)))

    return FittedVideo(score, settings={"video": VideoConfig.of(fitted.config).model_dump()})


class _Nothing:
    def __call__(self, x: torch.Tensor) -> Reconstruction:
        return Reconstruction(torch.zeros_like(x), None)


def _background_difference(source: VideoSource, seed: int) -> FittedVideo:
    """Mean |frame - median training frame|."""
    every = np.concatenate([chunk.pixels for chunk in source.resized(*TRIVIAL_SIZE).chunks(4096)])
    background = np.median(every, axis=0)
    return _of_frames(lambda frames: np.abs(frames - background).mean(axis=(1, 2)))


def _block_difference(source: VideoSource, seed: int) -> FittedVideo:
    """The strongest 10 x 10 block of |frame - frame before|; the first frame takes the score of the second."""

    def score(frames: np.ndarray) -> np.ndarray:
        moved = np.abs(np.diff(frames, axis=0))
        blocks = uniform_filter(moved, (0, 10, 10))[:, 5:-5, 5:-5].max(axis=(1, 2))
        return np.concatenate([blocks[:1], blocks])

    return _of_frames(score)


def _of_frames(score: Callable[[np.ndarray], np.ndarray]) -> FittedVideo:
    """A method whose score is a function of one video's frames (F, H, W) float32."""

    def scored(videos: VideoSource) -> dict[str, np.ndarray]:
        found: dict[str, list[np.ndarray]] = {}
        for chunk in videos.resized(*TRIVIAL_SIZE).chunks(4096):
            found.setdefault(chunk.keys[0].video, []).append(chunk.pixels.astype(np.float32))
        return {video: score(np.concatenate(parts)) for video, parts in found.items()}

    return FittedVideo(scored, settings={"size": list(TRIVIAL_SIZE)})


METHODS: dict[str, VideoMethod] = {
    "memae": _trained("video"),
    "memae-nonspar": _trained("video", **_NOT_SPARSE),
    "memae-no-entropy": _trained("video", **_NO_ENTROPY),
    "autoencoder": _trained("video", **_PLAIN),
    "sparse-code": _sparse_code("video"),
    "memae-paper": _trained("video-paper"),
    "memae-nonspar-paper": _trained("video-paper", **_NOT_SPARSE),
    "autoencoder-paper": _trained("video-paper", **_PLAIN),
    "memae-released": _trained("video-released"),
    "untrained": _trained("video", train={"epochs": 0}),
    "no-network": _no_network,
    "block-difference": _block_difference,
    "background-difference": _background_difference,
}
