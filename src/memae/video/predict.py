"""Calibration of a model of video on normal video, and prediction over videos."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from memae.autoencoder import Reconstruction
from memae.categories import HeldOutCategories
from memae.drift import looked_at
from memae.engine.batch_limit import BatchLimit
from memae.engine.scoring import Measured, count_uses, p_value
from memae.engine.scoring import Scorer as ClipScorer
from memae.errors import MemaeError
from memae.losses import squared_error
from memae.memory.item_samples import NearestQueries
from memae.modality import Artifact, Request
from memae.progress import Done, Progress, stage
from memae.threshold import Threshold
from memae.types import Encoded, Explanation, ItemUse, Prediction
from memae.video.appearance import Appearance, AppearanceScorer
from memae.video.background import Background
from memae.video.config import VideoConfig
from memae.video.dataset import Clips
from memae.video.events import ScoreSeries
from memae.video.frames import FrameKey, Frames
from memae.video.item_samples import footage_around
from memae.video.pipeline import Scorer, score_frames
from memae.video.psnr import Scale, fit_scale
from memae.video.scoring import CHUNK_FRAMES, FrameScorer, ScoredFrame, item_shares_of

__all__ = [
    "VideoReference",
    "calibrate",
    "examine",
    "motion_scorer",
    "normal_scores",
    "predict",
    "region_level",
    "scored_frames",
    "scores_in_order",
    "training_scores",
]


@dataclass(frozen=True)
class VideoReference:
    """The scores of normal video that a model of video stores."""

    series: tuple[ScoreSeries, ...] = ()
    """Scores of the segments that the threshold was set from."""
    maxima: np.ndarray = field(default_factory=lambda: np.empty(0))
    """(n,) the maximum of the anomaly map of each of their frames; empty in old models."""
    appearance: Appearance | None = None
    """The appearance part, if the model has one."""
    scale: Scale | None = None
    """Of the two terms of the score "psnr"; None for another score."""
    still: np.ndarray = field(default_factory=lambda: np.empty(0))
    """(n,) the maximum of the appearance map of each of the frames, until the threshold is set; not stored."""
    item_shares: np.ndarray | None = None
    """See `memae.modality.NormalScores`; not stored here."""

    @property
    def scores(self) -> np.ndarray:
        """(n,) of all frames, end to end."""
        return np.concatenate([np.empty(0), *(series.scores for series in self.series)])

    @property
    def frames_per_s(self) -> float | None:
        """The median rate of these videos, which is the one that the network knows; None without any."""
        steps = [np.diff(one.times_s) for one in self.series if len(one.times_s) > 1]
        return float(1 / np.median(np.concatenate(steps))) if steps else None

    def with_appearance(self, appearance: Appearance | None) -> VideoReference:
        """Scores and maxima of motion, raised to those of an appearance part that is brought to their scale."""
        if appearance is None or len(self.still) != len(self.scores):
            return replace(self, still=np.empty(0))
        scaled = appearance.scaled(self.scores, self.maxima, self.still)
        stills = np.split(self.still, np.cumsum([len(one.scores) for one in self.series])[:-1])
        series = tuple(
            ScoreSeries(one.times_s, np.maximum(one.scores, scaled.of_score * still))
            for one, still in zip(self.series, stills, strict=True)
        )
        maxima = np.maximum(self.maxima, scaled.of_map * self.still)
        return VideoReference(series, maxima, scaled, self.scale)

    def capped(self, kept: np.ndarray) -> VideoReference:
        """Itself, with no score and no maximum above those of the scores (k,) that the threshold kept.

        Times stay whole, so that the events of the normal video keep their lengths.
        """
        if len(kept) == len(self.scores):
            return self
        series = tuple(ScoreSeries(one.times_s, np.minimum(one.scores, kept[-1])) for one in self.series)
        return replace(self, series=series, maxima=np.sort(self.maxima)[: len(kept)])

    def tensors(self) -> dict[str, Tensor]:
        """The arrays of the reference, by their names in a model file."""
        found = self.appearance.tensors() if self.appearance else {}
        found |= self.scale.tensors() if self.scale else {}
        if len(self.maxima):
            found["calibration_peaks"] = torch.from_numpy(self.maxima)
        for number, series in enumerate(self.series):
            found[f"normal.{number}.times_s"] = torch.from_numpy(np.asarray(series.times_s, dtype=np.float64))
            found[f"normal.{number}.scores"] = torch.from_numpy(np.asarray(series.scores, dtype=np.float64))
        return found

    @classmethod
    def load(cls, tensors: Mapping[str, Tensor]) -> VideoReference:
        """Reads the reference from the tensors of a model file.

        Raises:
            KeyError: one is missing.
            ValueError: one is not of the shape (n,), or times and scores differ in their number.
        """
        count = sum(name.startswith("normal.") and name.endswith(".scores") for name in tensors)
        series = tuple(
            ScoreSeries(tensors[f"normal.{number}.times_s"].numpy(), tensors[f"normal.{number}.scores"].numpy())
            for number in range(count)
        )
        maxima = tensors["calibration_peaks"].numpy() if "calibration_peaks" in tensors else np.empty(0)
        for one in series:
            if one.times_s.shape != one.scores.shape:
                raise ValueError("'normal' has other numbers of times and scores")
        for numbers in (maxima, *(part for one in series for part in (one.times_s, one.scores))):
            if numbers.ndim != 1 or numbers.dtype.kind != "f":
                of = f"of shape {numbers.shape} and type {numbers.dtype}"
                raise ValueError(f"'normal' or 'calibration_peaks' is {of}")
        return cls(series, maxima, Appearance.load(tensors), Scale.load(tensors))


@dataclass(frozen=True)
class _Read(Measured):
    """How a batch of clips read the memory, without anything else."""

    @property
    def device_scores(self) -> Tensor:
        return torch.zeros(len(self.rebuilt.x))


def examine(artifact: Artifact, training: Encoded, progress: Progress | None) -> Artifact:
    """The artifact with the use counts of its items, and what its score needs: a background memory, a scale."""
    appearance = _appearance(artifact, training, progress)
    scale = fit_scale(artifact, training, progress) if VideoConfig.of(artifact.config).score == "psnr" else None
    artifact = replace(artifact, reference=VideoReference(appearance=appearance, scale=scale))
    model = artifact.model
    if model.memory is None:
        return artifact
    wanted = artifact.config.memory.keep_samples and isinstance(training, Clips)
    limit = BatchLimit("counting the use of items by", progress)
    scorer = ClipScorer(artifact.model, lambda _, rebuilt: _Read(rebuilt), limit)
    nearest, positions = NearestQueries.of(model.memory, wanted=wanted), tuple[int, ...]()

    def see(part: _Read) -> None:
        nonlocal positions
        if nearest and part.read is not None:
            nearest.see(part.read)
            positions = part.rebuilt.positions

    with stage(progress, "counting the use of items", "clips", len(training)) as done:
        artifact = replace(artifact, uses=count_uses(scorer, training, done, see))
    if nearest is None:
        return artifact
    assert isinstance(training, Clips), "only footage is kept"
    return replace(artifact, item_samples=nearest.samples(partial(footage_around, training, positions)))


def _appearance(artifact: Artifact, training: Encoded, progress: Progress | None) -> Appearance | None:
    if not VideoConfig.of(artifact.config).appearance or not isinstance(training, Clips):
        return None
    with stage(progress, "learning the background", "videos", len(training.segments)):
        background = Background.fit(training.segments)
    return Appearance(background) if background else None


@dataclass(frozen=True)
class _WorstPlace(Measured):
    """The mean error of the worst place of each clip or crop of a batch."""

    errors: Tensor
    """(B,)"""

    @property
    def device_scores(self) -> Tensor:
        return self.errors


def training_scores(artifact: Artifact, samples: Encoded, progress: Progress | None) -> np.ndarray:
    """(S,) of clips or crops: the mean error over the time of each, of its worst place."""
    place_px = min(VideoConfig.of(artifact.config).place_px, *samples.shape[3:])

    def worst_place(x: Tensor, rebuilt: Reconstruction) -> _WorstPlace:
        errors = squared_error(rebuilt.against(x), rebuilt.x).mean(dim=(1, 2))
        return _WorstPlace(rebuilt, F.avg_pool2d(errors, place_px, ceil_mode=True).flatten(1).amax(dim=1))

    with stage(progress, "scoring", "clips", len(samples)) as done:
        return ClipScorer(artifact.model, worst_place, BatchLimit("scoring", progress)).scores(samples, done)


def normal_scores(artifact: Artifact, calibration: Sequence[Frames], progress: Progress | None) -> VideoReference:
    """The scores of segments of held-out normal video, and the maxima of their maps."""
    segments = [_alone(segment) for segment in calibration]
    with stage(progress, "setting the threshold", "frames", sum(map(len, segments))) as done:
        found = _score_normal(artifact, segments, done)
    appearance = artifact.reference.appearance
    if appearance is None:
        return found
    return replace(found, still=appearance.maxima(segments, VideoConfig.of(artifact.config).place_px))


def calibrate(
    artifact: Artifact,
    normal: Sequence[VideoReference],
    groups: np.ndarray | None = None,
    categories: HeldOutCategories | None = None,
) -> Artifact:
    """The artifact with the scores of normal video and its threshold."""
    reference = VideoReference(
        series=tuple(one for part in normal for one in part.series),
        maxima=np.concatenate([part.maxima for part in normal]),
        scale=artifact.reference.scale,
        still=np.concatenate([part.still for part in normal]),
    ).with_appearance(artifact.reference.appearance)
    threshold = Threshold.by(artifact.config.threshold, reference.scores, groups, categories)
    return replace(artifact, threshold=threshold, reference=reference.capped(threshold.calibration))


def _alone(segment: Frames) -> Frames:
    """A part of a video as if it were a video of its own."""
    start_s = segment.keys[0].time_s
    keys = [FrameKey(key.video, number, key.time_s - start_s) for number, key in enumerate(segment.keys)]
    return Frames(segment.pixels, keys, segment.origin)


def _score_normal(artifact: Artifact, segments: Sequence[Frames], done: Done) -> VideoReference:
    """Scores segments of normal frames that no training saw by motion."""
    scorer, series, maxima, shares = motion_scorer(artifact), [], list[float](), []
    wanted = set(looked_at(sum(map(len, segments)), len(artifact.uses)).tolist())
    for segment in segments:
        times, scores = [], []
        for frame in scorer.scored([segment]):
            times.append(frame.key.time_s)
            scores.append(frame.score)
            if len(maxima) in wanted and (found := frame.item_shares()) is not None:
                shares.append(found)
            maxima.append(float(frame.anomaly_map.max()))
            done(1)
        series.append(ScoreSeries(np.array(times), np.array(scores)))
    return VideoReference(tuple(series), np.array(maxima), item_shares=np.stack(shares) if shares else None)


def _scorer(artifact: Artifact, watched: np.ndarray | None = None) -> Scorer:
    """Scores by motion, and by appearance where the model has that part."""
    motion, appearance = motion_scorer(artifact, watched), artifact.reference.appearance
    if appearance is None:
        return motion
    return AppearanceScorer(motion, appearance, VideoConfig.of(artifact.config).place_px, watched)


def motion_scorer(artifact: Artifact, watched: np.ndarray | None = None) -> FrameScorer:
    """Scores by motion alone."""
    model, settings = artifact.model.eval(), VideoConfig.of(artifact.config)
    scale = artifact.reference.scale if artifact.reference else None
    return FrameScorer(model, artifact.preprocess, settings, watched, next(model.parameters()).device, scale)


def scored_frames(artifact: Artifact, source: Any, watched: np.ndarray | None = None) -> Iterator[ScoredFrame]:
    """Every frame of videos in order, with its score and its anomaly map.

    Args:
        artifact: of video.
        source: videos, with frames of the size of the network.
        watched: (H, W) bool: False leaves a place out of every score; None watches all.

    Raises:
        DataError: no frames.
        ConfigError: `watched` of another size, or that leaves nothing to score.
    """
    return score_frames(source, _scorer(artifact, watched))


def predict(
    artifact: Artifact, source: Any, request: Request, done: Done, progress: Progress | None
) -> Iterator[Prediction]:
    """Scores and explanations of frames. Bad videos are named in a last part without frames."""
    frames = scored_frames(artifact, source)
    while part := list(islice(frames, CHUNK_FRAMES)):
        keys, scores = [frame.key for frame in part], np.array([frame.score for frame in part])
        rows = request.wanted(keys, scores, artifact.threshold)
        why = tuple(_explanation(artifact, part[row]) for row in rows)
        if request.watch:
            request.watch.look(scores, partial(item_shares_of, part))
        done(len(part), keys[-1])
        yield Prediction(keys, scores, explanations=why)
    if bad := getattr(source, "skipped", ()):
        yield Prediction([], np.empty(0), bad)


def scores_in_order(artifact: Artifact) -> np.ndarray | None:
    """See `memae.modality.Modality.scores_in_order`."""
    return artifact.reference.scores if artifact.reference.series else None


def region_level(artifact: Artifact, score: float) -> float:
    """The maximum of the anomaly map that corresponds to a frame score of `score`.

    The score of a frame is that maximum where it is that of a single place. Else as many held-out normal frames have a
    maximum above the level as have a score above `score`; beyond all of them it grows as the score does.

    Raises:
        MemaeError: the model has no threshold.
    """
    if artifact.threshold is None:
        raise MemaeError("this model has no threshold, so no level of its maps belongs to a score")
    normal, maxima = artifact.threshold.calibration, artifact.reference.maxima
    settings = VideoConfig.of(artifact.config)
    if (settings.score == "place" and settings.worst_share == 0) or len(maxima) != len(normal):
        return score
    normal, maxima = np.sort(normal), np.sort(maxima)
    if score > normal[-1] > 0:
        return float(maxima[-1] * score / normal[-1])
    return float(np.interp(score, normal, maxima))


def _explanation(artifact: Artifact, frame: ScoredFrame) -> Explanation:
    x, rebuilt = (part[frame.index_in_clip][None].cpu().numpy() for part in frame.clip[:2])
    return Explanation(
        key=frame.key,
        score=frame.score,
        p_value=p_value(artifact, frame.score),
        # the items rebuild motion, and say nothing of what stands still
        items=tuple(ItemUse(*use) for use in frame.items()) if frame.part == "motion" else (),
        part=frame.part,
        x=x,
        reconstruction=rebuilt,
        error_map=((x - rebuilt) ** 2)[0],
    )
