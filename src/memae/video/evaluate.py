"""Compares scores, anomaly maps, regions and events of video with labels or masks.

`evaluate_videos` scores videos and holds them against labels; `VideoMeter` counts frame by frame as they come.

Frames of one video are not independent, so every interval here is a bootstrap over whole videos.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np

from memae.errors import DataError
from memae.metrics.ranking import Ranking
from memae.plots.regions import find_regions
from memae.progress import Progress, stage
from memae.threshold import Threshold
from memae.types import count
from memae.video.alarms import VideoAlarms, event_figures, flag_figures, segments_of
from memae.video.evaluation import VideoEvaluation
from memae.video.events import EventFinder, EventRule
from memae.video.figures import TrueRegions, VideoCounts, frame_figures, per_video_min_max, pixel_figures
from memae.video.frames import FrameKey
from memae.video.ground_truth import VideoTruth, listed_videos, read_truth
from memae.video.pipeline import videos_of
from memae.video.source import VideoSource

__all__ = ["VideoEvaluation", "VideoMeter", "evaluate_videos", "judge_videos", "per_video_min_max"]

COUNTED = 512  # frames counted at a time


def evaluate_videos(
    detector: Any,
    x: Any,
    labels: Path,
    rule: EventRule,
    *,
    mask: Path | None = None,
    progress: Progress | None = None,
) -> VideoEvaluation:
    """Scores videos and compares the scores with labels.

    Args:
        detector: a `memae.Detector` with a model of video.
        x: videos, or a source of them.
        labels: a CSV file or a folder of masks.
        rule: when frames make an event.
        mask: as for `memae.video.pipeline.score_videos`.
        progress: told how far the work is.

    Raises:
        DataError: a video, mask or labels that cannot be used.
    """
    return judge_videos(detector, x, labels, rule, mask=mask, progress=progress)[0]


def judge_videos(
    detector: Any,
    x: Any,
    labels: Path,
    rule: EventRule,
    *,
    mask: Path | None = None,
    progress: Progress | None = None,
) -> tuple[VideoEvaluation, Ranking | None]:
    """As `evaluate_videos`, with the frames in one ranking, from which curves are drawn."""
    source, watched = videos_of(detector, x, mask)
    meter = VideoMeter(_labels_of(source, labels, progress), rule=rule, threshold=detector.threshold)
    # the median of held-out normal frames: at a lower level, regions join into one
    level = detector.map_level(float(np.median(detector.threshold.calibration)))
    with stage(progress, "scoring", "frames", count(source)) as done:
        for frame in detector.watch(source, watched=watched):
            found = find_regions(frame.anomaly_map, level, *source.sizes[frame.key.video])
            boxes = [(*region.box, region.peak) for region in found]
            meter.add(frame.key, frame.score, frame.anomaly_map, boxes)
            done(1, frame.key)
    with stage(progress, "figures and intervals", "figures"):
        return meter.result(), meter.ranking()


def _labels_of(source: VideoSource, labels: Path, progress: Progress | None) -> VideoTruth:
    """The labels of videos, with masks in px of the videos; their frames are counted first, which takes time."""
    if not labels.exists():  # said at once, before the frames are counted
        raise DataError(f"{labels}: no such file or folder of labels; check the path")
    lengths = dict.fromkeys(source.videos, 0)
    with stage(progress, "counting frames", "frames", count(source)) as done:
        for chunk in source.resized(8, 8).chunks(COUNTED):  # no container tells for sure
            lengths[chunk.keys[0].video] += len(chunk)
            done(len(chunk), chunk.keys[-1])
    truth = read_truth(labels, lengths)
    for video, masks in truth.masks.items():
        size, own = source.sizes[video], masks.read(0).shape
        if own != size:
            raise DataError(
                f"{labels}: the masks of video {video!r} are {own[1]} x {own[0]} px, and the video is {size[1]} x "
                f"{size[0]} (width x height); bring them to the size of the video"
            )
    return truth


class VideoMeter:
    """Compares frame after frame with the truth; memory grows with frames and regions, never with pixels.

    **Pixel AUROC** is over the pixels of the masks, the UCSD convention: an error map of another size is resized
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

    **Events** are true if they overlap an anomalous segment, a maximal run of anomalous frames; see
    `memae.video.alarms`.

    Args:
        truth: what to compare with.
        rule: finds the events in the scores; None takes those that `add_events` is given.
        threshold: flags single frames; without one there are no figures of flagged frames.
        seed: of the bootstrap over videos.
    """

    def __init__(
        self,
        truth: VideoTruth,
        *,
        rule: EventRule | None = None,
        threshold: Threshold | None = None,
        seed: int = 0,
    ) -> None:
        self._truth, self._rule, self._threshold, self._seed = truth, rule, threshold, seed
        self._finder = EventFinder(rule) if rule else None
        self._videos: dict[str, VideoCounts] = {}
        self._last: VideoCounts | None = None
        self._events: list[tuple[str, int, int]] | None = None

    def add(
        self, key: FrameKey, score: float, error_map: np.ndarray, regions: Sequence[Sequence[float]] = ()
    ) -> None:
        """Adds one frame. The frames of a video come in order and without another video between; videos in any order.

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
        self._check_labelled(key, where)
        if not math.isfinite(score):
            raise DataError(f"{where}: the score is {score}; scores must be finite")
        video = self._opened(key, where)
        values = self._truth.mask_values(key.video, key.frame)
        if values is not None:
            errors, boxes = _checked_map(error_map, where), _checked_boxes(regions, values.shape, where)
            video.add_pixels(errors, values != 0)
            video.add_regions(boxes, values, key.frame)
        video.add_score(key, score)
        if self._finder and (event := self._finder.push(key, score)):
            self.add_events([(event.video, event.first_frame, event.last_frame)])

    def add_events(self, events: Iterable[tuple[str, int, int]]) -> None:
        """Adds events (video, first frame, last frame) if there is no rule; call it even if there are no events.

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
        """The figures of everything added so far.

        Raises:
            DataError: a video of the truth has no scored frame.
        """
        if missing := [video for video in self._truth.videos if video not in self._videos]:
            raise DataError(
                f"{self._truth.origin}: video {missing[0]!r} is labelled and none of its frames was scored; score "
                "it, or leave it out of the labels"
            )
        truth = self._truth
        videos = [self._videos[video] for video in truth.videos]
        scored = list(zip(truth.labels.values(), videos, strict=True))
        labels = [of_video[np.array(video.frames)] for of_video, video in scored]
        masked = np.array([video in truth.masks for video in truth.videos])
        return VideoEvaluation(
            videos=len(videos),
            frames=sum(map(len, labels)),
            anomalous_frames=int(sum(of_video.sum() for of_video in labels)),
            unscored_frames=sum(len(of_video) - len(video.frames) for of_video, video in scored),
            derived_tracks=bool(masked.any()) and not truth.has_track_ids,
            segments=sum(len(segments_of(of_video)) for of_video in truth.labels.values()),
            on_threshold=self._rule.on_threshold if self._rule else None,
            off_threshold=self._rule.ends_below if self._rule else None,
            wanted_false_alarm_rate=self._threshold.false_alarm_rate if self._threshold else None,
            **frame_figures(labels, [np.array(video.scores) for video in videos], self._seed),
            **pixel_figures(videos, masked, self._seed),
            **self._alarm_figures(),
        )

    def ranking(self) -> Ranking | None:
        """All scored frames, in groups by their video; None unless there are normal and anomalous ones."""
        keys, scores, anomalous, groups = [], [], [], []
        for number, (name, video) in enumerate(self._videos.items()):
            keys += [
                FrameKey(name, frame, time_s) for frame, time_s in zip(video.frames, video.times_s, strict=True)
            ]
            scores.append(np.array(video.scores))
            anomalous.append(self._truth.labels[name][np.array(video.frames)].astype(bool))
            groups.append(np.full(len(video.frames), number))
        labels = np.concatenate(anomalous)
        if labels.all() or not labels.any():
            return None
        return Ranking(keys, np.concatenate(scores), labels, np.concatenate(groups))

    def _alarm_figures(self) -> dict[str, Any]:
        events = self._all_events()
        videos = [self._alarms(video, events or []) for video in self._truth.videos]
        flags = flag_figures(videos, self._seed) if self._threshold else {}
        return flags | (event_figures(videos, self._seed) if events is not None else {})

    def _alarms(self, video: str, events: Sequence[tuple[str, int, int]]) -> VideoAlarms:
        labels, counts = self._truth.labels[video], self._videos[video]
        scores = np.array(counts.scores)
        return VideoAlarms(
            labels=labels,
            edges_s=counts.edges_s(len(labels)),
            frames=np.array(counts.frames),
            flags=self._threshold.flags(scores) if self._threshold else np.zeros(len(scores), dtype=bool),
            events=np.array(sorted(span for name, *span in events if name == video), np.int64).reshape(-1, 2),
        )

    def _all_events(self) -> list[tuple[str, int, int]] | None:
        if not self._finder:
            return self._events
        last = copy(self._finder).close()  # of a copy: more frames may come
        return [*(self._events or []), *([(last.video, last.first_frame, last.last_frame)] if last else [])]

    def _check_labelled(self, key: FrameKey, where: str) -> None:
        labels = self._truth.labels
        if key.video not in labels:
            raise DataError(f"{where}: {self._truth.origin} has no such video; it has {listed_videos(labels)}")
        if not 0 <= key.frame < len(labels[key.video]):
            raise DataError(
                f"{where}: {self._truth.origin} labels {len(labels[key.video])} frames of it; give "
                "the labels that belong to this video"
            )

    def _opened(self, key: FrameKey, where: str) -> VideoCounts:
        if key.video not in self._videos:
            if self._last:
                self._last.close()
            self._last = self._videos[key.video] = VideoCounts(
                TrueRegions(has_track_ids=self._truth.has_track_ids)
            )
        video = self._videos[key.video]
        if video is not self._last:
            raise DataError(f"{where}: comes after another video; give the frames of a video in one piece")
        if video.frames and key.frame <= video.frames[-1]:
            raise DataError(f"{where}: comes after frame {video.frames[-1]}; give each frame once and in order")
        return video


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
