"""How good scores, regions and alarm events of video are, frame by frame, where labels or masks exist.

Frames of one video are not independent, so every interval here is a bootstrap over whole videos.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from PIL import Image

from memae.errors import DataError
from memae.metrics import Estimate
from memae.types import FrameKey
from memae.video.bootstrap import Criterion, Figure, Ranking, VideoBootstrap
from memae.video.ground_truth import VideoTruth, listed_videos

__all__ = ["VideoEvaluation", "VideoMeter", "per_video_min_max"]

OVERLAP = 0.1  # beta of Street Scene: least IoU of a detected and a true region
TRACK_SHARE = 0.1  # alpha of Street Scene: least share of a track's regions

PIXEL_BINS = 1 << 17  # by the upper bits of float32: 1 of sign, 8 of exponent, 8 of mantissa
_BIN_SHIFT = 15
_SIGN = np.uint32(1 << 31)


def per_video_min_max(scores: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Each video's scores (F,) stretched to 0 ... 1: (e - min) / (max - min), higher = more anomalous.

    A protocol of the paper, and never a score to serve: the least and the largest error of a video are known only
    when it is over, so it looks into the future, and it gives every video one frame of 1, anomalous or not. The
    paper's regularity (Gong et al., ICCV 2019, section on video) is p_u = 1 - (e_u - min) / (max - min), that is 1
    minus what this gives. A video of equal scores gets zeros.
    """
    return {video: _min_max(np.asarray(values, dtype=np.float64)) for video, values in scores.items()}


def _min_max(scores: np.ndarray) -> np.ndarray:
    if not len(scores) or scores.max() == scores.min():
        return np.zeros_like(scores)
    stretched: np.ndarray = (scores - scores.min()) / (scores.max() - scores.min())
    return stretched


@dataclass(frozen=True)
class VideoEvaluation:
    """Scores, error maps, regions and events of video held against labels; None where nothing can be judged.

    The interval of each estimate is the 95 % percentile bootstrap over videos: 1,000 times as many videos as there
    are are drawn with replacement, and each comes with all its frames. A resample that leaves a figure undefined
    (no anomalous frame, say) does not count for it. RBDC and TBDC take fewer resamples, and at least 200, where
    there are tens of thousands of regions. The ends are NaN where fewer than two videos bear on a figure.
    """

    videos: int
    frames: int
    """That were scored; the figures are about these."""
    anomalous_frames: int
    """Of the scored ones."""
    unscored_frames: int
    """That are labelled and were never given a score."""

    frame_auroc_micro: Estimate | None
    """Of all frames of all videos in one ranking."""
    frame_auroc_micro_min_max: Estimate | None
    """The same after `per_video_min_max`, the paper's protocol."""
    frame_auroc_macro: Estimate | None
    """Mean of the AUROC within each video that has both kinds of frames. The min-max of a video keeps the order of
    its frames, so this figure is the same with it and without it."""
    macro_videos: int
    """That have both kinds of frames."""

    masked_videos: int
    """That have pixel masks; pixel AUROC, RBDC and TBDC are about these."""
    regions: int
    tracks: int
    derived_tracks: bool
    """Whether the tracks were made by linking regions, because the masks hold no ids."""
    pixel_auroc: Estimate | None
    rbdc: Estimate | None
    tbdc: Estimate | None

    stretches: int
    """Maximal runs of anomalous frames."""
    events: int | None
    event_precision: Estimate | None
    """Share of the events that overlap an anomalous stretch."""
    event_recall: Estimate | None
    """Share of the anomalous stretches that some event overlaps."""
    event_f1: Estimate | None
    """Harmonic mean of the two."""
    false_events_per_hour: Estimate | None
    """Events that overlap no anomalous stretch, per hour of video; None where the frames have no times."""


class VideoMeter:
    """Holds frame after frame against the truth; memory grows with frames and regions, never with pixels.

    **Pixel AUROC** is over the pixels of the masks, the UCSD convention: an error map of another size is stretched
    to the mask's (bilinear; with an antialiasing filter where it shrinks). The scores go into 131,072 bins by the
    upper bits of their float32 form, sign, exponent and 8 bits of mantissa: two scores that differ by more than 0.4 %
    never share a bin, and those that share one count as a tie.

    **RBDC and TBDC** are those of Ramachandra and Jones, "Street Scene" (WACV 2020), in the form that Georgescu et
    al. (TPAMI 2021) made common. A true region is a connected component of a mask (pixels that touch at a side or
    a corner) or, where the masks hold track ids, all pixels of one id; it counts by its bounding box. At a
    threshold t, the detected regions are those that score at least t. A true region is found if its IoU with a
    detected region of the same frame is at least beta = 0.1; one detected region may find several. A detected
    region is a false positive if its IoU with every true region of the frame is below beta; a second detection of
    a true region is neither. As t falls from above all scores,

        FPR(t)  = false positive regions / frames            (the scored frames of the masked videos)
        RBDR(t) = true regions found / true regions
        TBDR(t) = tracks with at least alpha = 0.1 of their regions found / tracks

    are the points of two curves; regions of equal score come together as one point, and points are joined by
    straight lines. RBDC and TBDC are the areas below for FPR from 0 to 1: a curve that passes 1 is cut there, and
    one that ends before is prolonged at its last height. The area is a share: 1 is perfect, 0 finds nothing.

    **Tracks** are the ids in the masks. Masks without ids get derived tracks: regions of consecutive frames that
    share a pixel belong to one track, so a track is a connected component in space and time, and two anomalies
    that touch once are one track. A TBDC on derived tracks does not compare with one on tracks drawn by hand.

    **Events** are true if they overlap an anomalous stretch, a maximal run of anomalous frames.

    Args:
        truth: what to hold against.
        seed: of the bootstrap over videos.
    """

    def __init__(self, truth: VideoTruth, *, seed: int = 0) -> None:
        self._truth = truth
        self._seed = seed
        self._counts: dict[str, _VideoCounts] = {}
        self._open: _OpenVideo | None = None
        self._events: list[tuple[str, int, int]] | None = None

    def add(
        self, key: FrameKey, score: float, error_map: np.ndarray, regions: Sequence[Sequence[float]] = ()
    ) -> None:
        """Takes one frame: the frames of a video in order and in one piece, the videos in any order.

        Frames may be left out, as at the ends of a video that is scored by clips; they are counted as unscored.

        Args:
            key: of the frame.
            score: higher = more anomalous.
            error_map: (h, w) of the whole frame, higher = more anomalous; used where the frame has a mask.
            regions: detected boxes (left, top, right, bottom, score) in px of the video; right and bottom are the
                first column and row outside.

        Raises:
            DataError: a frame that the truth does not know, out of order, or with values that are not finite; a
                box that is empty or reaches beyond the mask.
        """
        where = f"frame {key.frame} of video {key.video!r}"
        if key.video not in self._truth.labels:
            raise DataError(
                f"{where}: {self._truth.origin} has no such video; it has {listed_videos(self._truth.labels)}"
            )
        if not 0 <= key.frame < len(self._truth.labels[key.video]):
            raise DataError(
                f"{where}: {self._truth.origin} labels {len(self._truth.labels[key.video])} frames of it; give "
                "the labels that belong to this video"
            )
        if not math.isfinite(score):
            raise DataError(f"{where}: the score is {score}; scores must be finite")
        video = self._opened(key, where)
        values = self._truth.mask_values(key.video, key.frame)
        if values is not None:
            errors, boxes = _checked_map(error_map, where), _checked_boxes(regions, values.shape, where)
            video.judge_pixels(errors, values != 0)
            video.judge_regions(boxes, values, key.frame)
        video.counts.add(key, score)

    def add_events(self, events: Iterable[tuple[str, int, int]]) -> None:
        """Takes alarm events (video, first frame, last frame); call it with none if there was no alarm.

        Raises:
            DataError: an event in an unknown video, or outside its frames.
        """
        self._events = self._events if self._events is not None else []
        for video, start, end in events:
            if video not in self._truth.labels:
                raise DataError(
                    f"event in video {video!r}: {self._truth.origin} has no such video; it has "
                    f"{listed_videos(self._truth.labels)}"
                )
            frames = len(self._truth.labels[video])
            if not 0 <= start <= end < frames:
                raise DataError(
                    f"event in video {video!r}: from frame {start} to {end}, and the video has the frames 0 to "
                    f"{frames - 1}; give first and last frame, counted from 0"
                )
            self._events.append((video, start, end))

    def result(self) -> VideoEvaluation:
        """The figures of what was added so far.

        Raises:
            DataError: a video of the truth has no scored frame.
        """
        self._settle()
        if missing := [video for video in self._truth.videos if video not in self._counts]:
            raise DataError(
                f"{self._truth.origin}: video {missing[0]!r} is labelled and none of its frames was scored; score "
                "it, or leave it out of the labels"
            )
        return _evaluation(self._truth, self._counts, self._events, self._seed)

    def _opened(self, key: FrameKey, where: str) -> _OpenVideo:
        if self._open is None or self._open.video != key.video:
            self._settle()
            if key.video in self._counts:
                raise DataError(f"{where}: comes after another video; give the frames of a video in one piece")
            self._open = _OpenVideo(key.video, has_track_ids=self._truth.has_track_ids)
        frames = self._open.counts.frames
        if frames and key.frame <= frames[-1]:
            raise DataError(f"{where}: comes after frame {frames[-1]}; give each frame once and in order")
        return self._open

    def _settle(self) -> None:
        if self._open is not None:
            self._counts[self._open.video] = self._open.settled()


@dataclass
class _VideoCounts:
    """All that the figures need to know of a video."""

    frames: array[int] = field(default_factory=lambda: array("q"))
    scores: array[float] = field(default_factory=lambda: array("d"))
    first_s: float = math.nan
    last_s: float = math.nan
    bins: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    """(K,) that hold a pixel, ascending."""
    pixels: np.ndarray = field(default_factory=lambda: np.empty((2, 0), np.int64))
    """(2, K) how many normal and anomalous pixels they hold."""
    false_scores: array[float] = field(default_factory=lambda: array("d"))
    """Of detected regions that match no true region."""
    region_scores: array[float] = field(default_factory=lambda: array("d"))
    """Of each true region the best matching detection; -inf where none matches."""
    region_tracks: array[int] = field(default_factory=lambda: array("q"))

    def add(self, key: FrameKey, score: float) -> None:
        if not self.frames:
            self.first_s = key.time_s
        self.last_s = key.time_s
        self.frames.append(key.frame)
        self.scores.append(score)

    def hours(self, frames: int) -> float:
        """Length of the video of so many frames, by the times of those scored; NaN where they tell nothing."""
        passed_s = self.last_s - self.first_s
        if not (math.isfinite(passed_s) and passed_s > 0):
            return math.nan
        return passed_s / (self.frames[-1] - self.frames[0]) * frames / 3600

    def track_scores(self) -> np.ndarray:
        """(T,) score down to which the threshold must fall for each track to count as found."""
        tracks, scores = np.array(self.region_tracks), np.array(self.region_scores)
        return np.array([_track_score(scores[tracks == track]) for track in np.unique(tracks)])


def _track_score(regions: np.ndarray) -> float:
    shares = np.arange(1, len(regions) + 1) / len(regions)
    needed = np.searchsorted(shares, TRACK_SHARE)  # the place of the least count whose share reaches alpha
    return float(np.sort(regions)[::-1][needed])


class _OpenVideo:
    """The video whose frames are coming in."""

    def __init__(self, video: str, *, has_track_ids: bool) -> None:
        self.video = video
        self.counts = _VideoCounts()
        self._pixels = np.zeros(2 * PIXEL_BINS, dtype=np.int64)
        self._tracks = _TracksById() if has_track_ids else _LinkedTracks()

    def judge_pixels(self, errors: np.ndarray, mask: np.ndarray) -> None:
        if errors.shape != mask.shape:
            size = (mask.shape[1], mask.shape[0])
            errors = np.asarray(Image.fromarray(errors).resize(size, Image.Resampling.BILINEAR))
        bins = _pixel_bins(errors) + PIXEL_BINS * mask
        self._pixels += np.bincount(bins.ravel(), minlength=2 * PIXEL_BINS)

    def judge_regions(self, boxes: np.ndarray, values: np.ndarray, frame: int) -> None:
        true, tracks = self._tracks.regions(values, frame) if values.any() else (np.empty((0, 4)), [])
        matches = _overlaps(true, boxes[:, :4]) >= OVERLAP
        scores = np.where(matches, boxes[:, 4], -np.inf).max(axis=1, initial=-np.inf)
        self.counts.region_scores.extend(scores.tolist())
        self.counts.region_tracks.extend(tracks)
        self.counts.false_scores.extend(boxes[~matches.any(axis=0), 4].tolist())

    def settled(self) -> _VideoCounts:
        """The counts up to now."""
        pixels = self._pixels.reshape(2, PIXEL_BINS)
        self.counts.bins = np.flatnonzero(pixels.any(axis=0))
        self.counts.pixels = pixels[:, self.counts.bins]
        self.counts.region_tracks = array("q", map(self._tracks.final, self.counts.region_tracks))
        return self.counts


def _pixel_bins(errors: np.ndarray) -> np.ndarray:
    """(H, W) int64 bin of each error, in the order of the errors.

    From 0 up, the bits of float32 numbers are in the order of their values; below 0 in the opposite one.
    """
    bits: np.ndarray = (errors + np.float32(0)).view(np.uint32)  # -0.0 + 0.0 has no sign bit
    ordered = np.where(bits & _SIGN, ~bits, bits | _SIGN)
    return (ordered >> _BIN_SHIFT).astype(np.int64)


def _checked_map(error_map: np.ndarray, where: str) -> np.ndarray:
    errors = np.ascontiguousarray(error_map, dtype=np.float32)
    if errors.ndim != 2 or not errors.size:
        raise DataError(f"{where}: the error map has the shape {errors.shape}; give (height, width)")
    if not np.isfinite(errors).all():
        raise DataError(f"{where}: the error map holds values that are not finite; give finite numbers")
    return errors


def _checked_boxes(regions: Sequence[Sequence[float]], size: tuple[int, ...], where: str) -> np.ndarray:
    """(D, 5) float64."""
    boxes = np.asarray(regions, dtype=np.float64) if len(regions) else np.empty((0, 5))
    if boxes.ndim != 2 or boxes.shape[1] != 5 or not np.isfinite(boxes).all():
        raise DataError(f"{where}: a region is five finite numbers: left, top, right, bottom, score")
    for left, top, right, bottom, _ in boxes:
        inside = 0 <= left < right <= size[1] and 0 <= top < bottom <= size[0]
        if not inside:
            raise DataError(
                f"{where}: the region ({left:g}, {top:g}, {right:g}, {bottom:g}) is empty or reaches beyond its "
                f"mask of {size[1]} x {size[0]} px (width x height); masks and regions must be in px of the video"
            )
    return boxes


def _overlaps(true: np.ndarray, detected: np.ndarray) -> np.ndarray:
    """(K, D) intersection over union of boxes (K, 4) and (D, 4)."""
    true, detected = true[:, None], detected[None]
    sides = np.minimum(true[..., 2:], detected[..., 2:]) - np.maximum(true[..., :2], detected[..., :2])
    shared = sides.clip(min=0).prod(axis=-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).prod(axis=-1) for boxes in (true, detected)]
    overlaps: np.ndarray = shared / (areas[0] + areas[1] - shared)
    return overlaps


class _Tracks(Protocol):
    def regions(self, values: np.ndarray, frame: int) -> tuple[np.ndarray, list[int]]:
        """The boxes (K, 4) of the true regions of a mask, and the number of the track of each."""
        ...

    def final(self, track: int) -> int:
        """The number that a track goes by once all frames are known."""
        ...


class _TracksById:
    """One region for each positive value of a mask."""

    def regions(self, values: np.ndarray, frame: int) -> tuple[np.ndarray, list[int]]:
        ids, numbered = np.unique(np.append(values.ravel(), 0), return_inverse=True)  # the 0 makes normal pixels 0
        return _boxes(numbered[:-1].reshape(values.shape)), ids[1:].tolist()

    def final(self, track: int) -> int:
        return track


class _LinkedTracks:
    """Connected components, linked to those of the frame before that they share a pixel with."""

    def __init__(self) -> None:
        self._same_as: list[int] = []  # a forest: tracks that turned out to be one share a root
        self._numbered = np.empty((0, 0), np.int64)
        self._first = 0
        self._frame = -2

    def regions(self, values: np.ndarray, frame: int) -> tuple[np.ndarray, list[int]]:
        from scipy.ndimage import label

        numbered, count = label(values != 0, structure=np.ones((3, 3)))
        first = len(self._same_as) - 1  # region 1 of this frame is the track after the last one
        self._same_as.extend(range(len(self._same_as), len(self._same_as) + count))
        if frame == self._frame + 1:
            both = (numbered > 0) & (self._numbered > 0)
            for now, before in {*zip(numbered[both].tolist(), self._numbered[both].tolist(), strict=True)}:
                self._same_as[self.final(first + now)] = self.final(self._first + before)
        self._numbered, self._first, self._frame = numbered, first, frame
        return _boxes(numbered), [first + now for now in range(1, count + 1)]

    def final(self, track: int) -> int:
        while self._same_as[track] != track:
            self._same_as[track] = self._same_as[self._same_as[track]]
            track = self._same_as[track]
        return track


def _boxes(numbered: np.ndarray) -> np.ndarray:
    """(K, 4) left, top, right, bottom of the regions 1 ... K in (H, W)."""
    from scipy.ndimage import find_objects

    return np.array([(x.start, y.start, x.stop, y.stop) for y, x in find_objects(numbered)], dtype=np.float64)


def _evaluation(
    truth: VideoTruth,
    counts: Mapping[str, _VideoCounts],
    events: Sequence[tuple[str, int, int]] | None,
    seed: int,
) -> VideoEvaluation:
    videos = [counts[video] for video in truth.videos]
    labels = [truth.labels[name][np.array(video.frames)] for name, video in zip(truth.videos, videos, strict=True)]
    raw = {name: np.array(video.scores) for name, video in zip(truth.videos, videos, strict=True)}
    plain = _frame_ranking(labels, list(raw.values()))
    stretched = _frame_ranking(labels, list(per_video_min_max(raw).values()))
    masked = np.array([name in truth.masks for name in truth.videos])
    frames = np.array([len(video.frames) for video in videos])
    tracks = [video.track_scores() for video in videos]
    regions = [np.array(video.region_scores) for video in videos]
    false = [np.array(video.false_scores) for video in videos]
    estimate = VideoBootstrap(len(videos), seed).estimate
    everyone = np.ones(len(videos), dtype=bool)
    return VideoEvaluation(
        videos=len(videos),
        frames=int(frames.sum()),
        anomalous_frames=int(sum(of_video.sum() for of_video in labels)),
        unscored_frames=sum(len(of_video) for of_video in truth.labels.values()) - int(frames.sum()),
        frame_auroc_micro=estimate(plain.micro, everyone),
        frame_auroc_micro_min_max=estimate(stretched.micro, everyone),
        frame_auroc_macro=estimate(plain.macro, plain.both_kinds),
        macro_videos=int(plain.both_kinds.sum()),
        masked_videos=int(masked.sum()),
        regions=sum(map(len, regions)),
        tracks=sum(map(len, tracks)),
        derived_tracks=bool(masked.any()) and not truth.has_track_ids,
        pixel_auroc=estimate(_pixel_ranking(videos).micro, masked),
        rbdc=estimate(Criterion(false, regions, frames * masked).area, masked),
        tbdc=estimate(Criterion(false, tracks, frames * masked).area, masked),
        stretches=sum(len(_stretches(of_video)) for of_video in truth.labels.values()),
        events=None if events is None else len(events),
        **_event_estimates(truth, videos, events, estimate),
    )


def _frame_ranking(labels: Sequence[np.ndarray], scores: Sequence[np.ndarray]) -> Ranking:
    video = np.repeat(np.arange(len(labels)), [len(of_video) for of_video in labels])
    place = np.unique(np.concatenate(scores), return_inverse=True)[1]
    anomalous = np.concatenate(labels)
    return Ranking(video, place, anomalous, ~anomalous, len(labels))


def _pixel_ranking(videos: Sequence[_VideoCounts]) -> Ranking:
    video = np.repeat(np.arange(len(videos)), [len(counts.bins) for counts in videos])
    normal, anomalous = np.concatenate([counts.pixels for counts in videos], axis=1)
    place = np.unique(np.concatenate([counts.bins for counts in videos]), return_inverse=True)[1]
    return Ranking(video, place, anomalous, normal, len(videos))


def _stretches(labels: np.ndarray) -> np.ndarray:
    """(K, 2) first and last frame of each maximal run of True."""
    steps = np.flatnonzero(np.diff(labels.astype(np.int8), prepend=0, append=0))
    return steps.reshape(-1, 2) - (0, 1)


def _event_estimates(
    truth: VideoTruth,
    videos: Sequence[_VideoCounts],
    events: Sequence[tuple[str, int, int]] | None,
    estimate: Callable[[Figure, np.ndarray], Estimate | None],
) -> dict[str, Estimate | None]:
    everyone = np.ones(len(videos), dtype=bool)
    names = ("event_precision", "event_recall", "event_f1", "false_events_per_hour")
    if events is None:
        return dict.fromkeys(names)
    given, true, stretches, found = _event_counts(truth, events).T
    hours = np.array(
        [video.hours(len(truth.labels[name])) for name, video in zip(truth.videos, videos, strict=True)]
    )

    def f1(resamples: np.ndarray) -> np.ndarray:
        precision, recall = resamples @ true / (resamples @ given), resamples @ found / (resamples @ stretches)
        mean = np.where(recall > 0, 2 * precision * recall / (precision + recall), 0)  # no event: no precision
        return np.where(resamples @ stretches > 0, mean, np.nan)

    figures: tuple[Figure, ...] = (
        lambda resamples: resamples @ true / (resamples @ given),
        lambda resamples: resamples @ found / (resamples @ stretches),
        f1,
        lambda resamples: resamples @ (given - true) / (resamples @ hours),
    )
    return {name: estimate(figure, everyone) for name, figure in zip(names, figures, strict=True)}


def _event_counts(truth: VideoTruth, events: Sequence[tuple[str, int, int]]) -> np.ndarray:
    """(V, 4) of each video: events, events that meet a stretch, stretches, stretches that an event meets."""
    counts = []
    for video, labels in truth.labels.items():
        spans = np.array([span for name, *span in events if name == video], dtype=np.int64).reshape(-1, 2)
        stretches = _stretches(labels)
        meets = (spans[:, None, 0] <= stretches[:, 1]) & (stretches[:, 0] <= spans[:, None, 1])
        counts.append([len(spans), meets.any(axis=1).sum(), len(stretches), meets.any(axis=0).sum()])
    return np.array(counts)
