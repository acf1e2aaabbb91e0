"""Counts for one video, and figures of many videos with bootstrap intervals over videos."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from PIL import Image
from scipy import ndimage

from memae.metrics.curves import Curves, ScoreHistogram, area_share
from memae.metrics.intervals import RESAMPLES, Estimate, Figures, bootstrap
from memae.video.frames import FrameKey

__all__ = ["VideoCounts", "frame_figures", "per_video_min_max", "pixel_figures"]

OVERLAP = 0.1  # beta of Street Scene: least IoU of a detected and a true region
TRACK_SHARE = 0.1  # alpha of Street Scene: least share of a track's regions
FEWEST_RESAMPLES = 200
SORTED_CELLS = 1 << 25  # region scores times resamples that are worth sorting through: seconds

TOUCHING = np.ones((3, 3), dtype=bool)  # by a side or a corner

K = TypeVar("K")


@dataclass
class VideoCounts:
    """The counts of one video that all figures are computed from."""

    true_regions: TrueRegions
    frames: array[int] = field(default_factory=lambda: array("q"))
    scores: array[float] = field(default_factory=lambda: array("d"))
    times_s: array[float] = field(default_factory=lambda: array("d"))
    false_scores: array[float] = field(default_factory=lambda: array("d"))
    """Of detected regions that match no true region."""
    region_scores: array[float] = field(default_factory=lambda: array("d"))
    """Of each true region the best matching detection; -inf where none matches."""
    _pixels: ScoreHistogram | tuple[np.ndarray, np.ndarray] = field(default_factory=lambda: ScoreHistogram(2))

    def add_score(self, key: FrameKey, score: float) -> None:
        """Adds the score of the next frame."""
        self.frames.append(key.frame)
        self.times_s.append(key.time_s)
        self.scores.append(score)

    def add_pixels(self, errors: np.ndarray, mask: np.ndarray) -> None:
        """Adds an error map (h, w), which is resized to its mask (H, W) bool."""
        if errors.shape != mask.shape:
            size = (mask.shape[1], mask.shape[0])
            errors = np.asarray(Image.fromarray(errors).resize(size, Image.Resampling.BILINEAR))
        assert isinstance(self._pixels, ScoreHistogram)
        self._pixels.add(errors, ~mask, mask)

    def add_regions(self, boxes: np.ndarray, values: np.ndarray, frame: int) -> None:
        """Matches detected boxes (D, 5) with the true regions of the values (H, W) of a mask."""
        matches = _overlaps(self.true_regions.add(values, frame), boxes[:, :4]) >= OVERLAP
        self.region_scores.extend(np.where(matches, boxes[:, 4], -np.inf).max(axis=1, initial=-np.inf).tolist())
        self.false_scores.extend(boxes[~matches.any(axis=0), 4].tolist())

    def close(self) -> None:
        """Frees the empty bins; call it after the last frame."""
        self._pixels = self.pixels()

    def pixels(self) -> tuple[np.ndarray, np.ndarray]:
        """The bins (K,) that hold a pixel, and how many normal and anomalous ones (2, K)."""
        return self._pixels.entries() if isinstance(self._pixels, ScoreHistogram) else self._pixels

    def edges_s(self, frames: int) -> np.ndarray:
        """(frames + 1,) s at which each frame of the video begins, and the last one ends.

        The times of frames without a score follow from those of the scored ones; NaN if these give no duration.
        """
        places, scored, times_s = np.arange(frames + 1), np.array(self.frames), np.array(self.times_s)
        passed_s = times_s[-1] - times_s[0]
        if not (np.isfinite(times_s).all() and passed_s > 0):
            return np.full(frames + 1, np.nan)
        outside = np.minimum(places - scored[0], 0) + np.maximum(places - scored[-1], 0)
        edges: np.ndarray = np.interp(places, scored, times_s) + outside * passed_s / (scored[-1] - scored[0])
        return edges

    def track_scores(self) -> np.ndarray:
        """(T,) highest threshold at which each track counts as found."""
        tracks, scores = self.true_regions.tracks(), np.array(self.region_scores)
        return np.array([_track_score(scores[tracks == track]) for track in np.unique(tracks)])


def _track_score(regions: np.ndarray) -> float:
    shares = np.arange(1, len(regions) + 1) / len(regions)
    needed = np.searchsorted(shares, TRACK_SHARE)  # the place of the least count whose share reaches alpha
    return float(np.sort(regions)[::-1][needed])


def per_video_min_max(scores: Mapping[K, np.ndarray]) -> dict[K, np.ndarray]:
    """Each video's scores (F,) scaled to 0 ... 1: (e - min) / (max - min), higher = more anomalous.

    A protocol of the paper, and never a score to serve: the least and the largest error of a video are known only
    when it is over, so it looks into the future, and it gives every video one frame of 1, anomalous or not. The
    paper's regularity (Gong et al., ICCV 2019, section on video) is p_u = 1 - (e_u - min) / (max - min), that is 1
    minus what this gives. A video of equal scores gets zeros.
    """
    return {video: _min_max(np.asarray(values, dtype=np.float64)) for video, values in scores.items()}


def _min_max(scores: np.ndarray) -> np.ndarray:
    if not len(scores) or scores.max() == scores.min():
        return np.zeros_like(scores)
    scaled: np.ndarray = (scores - scores.min()) / (scores.max() - scores.min())
    return scaled


def frame_figures(labels: Sequence[np.ndarray], scores: Sequence[np.ndarray], seed: int) -> dict[str, Any]:
    """The AUROCs of frames, from labels (F,) and scores (F,) of each video, under their names in `VideoEvaluation`."""
    both_kinds = np.array([video.any() and not video.all() for video in labels])
    everyone = np.ones(len(labels), dtype=bool)
    scaled = list(per_video_min_max(dict(enumerate(scores))).values())
    kinds = [np.stack([~video, video]) for video in labels]
    raw, min_max = Curves.of_groups(scores, kinds), Curves.of_groups(scaled, kinds)
    each = raw.roc_area(np.eye(len(labels))[both_kinds])  # a mixture of one video has the AUROC within it

    def macro(weights: np.ndarray) -> np.ndarray:
        mean: np.ndarray = (weights[:, both_kinds] @ each) / weights[:, both_kinds].sum(axis=1)
        return mean

    return {
        "frame_auroc_micro": _estimate(raw.roc_area, everyone, seed, raw.thresholds),
        "frame_auroc_micro_min_max": _estimate(min_max.roc_area, everyone, seed, min_max.thresholds),
        "frame_auroc_macro": _estimate(macro, both_kinds, seed),
        "macro_videos": int(both_kinds.sum()),
    }


def pixel_figures(videos: Sequence[VideoCounts], masked: np.ndarray, seed: int) -> dict[str, Any]:
    """The figures of pixels, regions and tracks of the `masked` videos, (V,) bool."""
    frames = masked * [len(video.frames) for video in videos]
    false = [np.array(video.false_scores) for video in videos]
    regions = [np.array(video.region_scores) for video in videos]
    tracks = [video.track_scores() for video in videos]
    pixels = Curves.of_groups(*zip(*(video.pixels() for video in videos), strict=True))
    return {
        "masked_videos": int(masked.sum()),
        "regions": sum(map(len, regions)),
        "tracks": sum(map(len, tracks)),
        "pixel_auroc": _estimate(pixels.roc_area, masked, seed, pixels.thresholds),
        "rbdc": _detection_area(false, regions, frames, masked, seed),
        "tbdc": _detection_area(false, tracks, frames, masked, seed),
    }


def _estimate(
    figure: Figures, bearing: np.ndarray, seed: int, entries: int = 0, most: int = RESAMPLES
) -> Estimate | None:
    """A figure of all videos with its interval.

    Args:
        figure: a single one of each resample.
        bearing: (V,) bool, the videos that bear on it.
        seed: of the bootstrap.
        entries: that the figure sorts through for each resample.
        most: resamples.
    """
    behind, resamples = int(bearing.sum()), min(RESAMPLES, most)
    return bootstrap(figure, len(bearing), bearing=[behind], seed=seed, resamples=resamples, cells=entries)[0]


def _detection_area(
    false: Sequence[np.ndarray], true: Sequence[np.ndarray], frames: np.ndarray, masked: np.ndarray, seed: int
) -> Estimate | None:
    """RBDC or TBDC.

    Args:
        false: of each video, the scores of its false positive regions.
        true: of each video, the score at which each true region or track is found; -inf where it never is.
        frames: (V,) that each video adds to the frames of FPR.
        masked: (V,) bool, the videos that bear on it.
        seed: of the bootstrap.
    """
    found = [scores[scores > -np.inf] for scores in true]
    kinds = [np.repeat([[1, 0], [0, 1]], [len(a), len(b)], axis=1) for a, b in zip(false, found, strict=True)]
    curves = Curves.of_groups([np.concatenate(scores) for scores in zip(false, found, strict=True)], kinds)
    true_counts = np.array([len(of_video) for of_video in true])

    def area(weights: np.ndarray) -> np.ndarray:
        false_regions, found_regions = curves(weights)
        return area_share(false_regions, found_regions, weights @ frames, weights @ true_counts)

    entries = sum(kind.shape[1] for kind in kinds)
    most = max(FEWEST_RESAMPLES, SORTED_CELLS // max(1, entries))
    return _estimate(area, masked, seed, entries, most)


# True regions, the tracks that they belong to, and how much boxes overlap


class TrueRegions:
    """The true regions of one video, given frame by frame.

    Masks with track ids have one region for each positive value. In other masks a region is a connected component,
    and regions of consecutive frames that share a pixel belong to one track.
    """

    def __init__(self, *, has_track_ids: bool) -> None:
        self._has_track_ids = has_track_ids
        self._ids: list[int] = []  # of each region: its number, or that of its track in the masks
        self._last_frame, self._last = -2, np.empty((0, 0), dtype=np.int64)

    def add(self, values: np.ndarray, frame: int) -> np.ndarray:
        """The boxes (K, 4) of the regions of a mask (H, W): left, top, right, bottom; the last two lie outside."""
        if not values.any():
            return np.empty((0, 4))
        if self._has_track_ids:
            ids, numbered = np.unique(np.append(values, 0), return_inverse=True)  # the 0 makes normal pixels 0
            self._add(ids[1:].tolist())
            return _boxes(numbered[:-1].reshape(values.shape))
        numbered, count = ndimage.label(values, structure=TOUCHING)
        first = len(self._ids)
        self._add(range(first, first + count))
        regions = np.where(numbered > 0, numbered + (first - 1), -1)
        if frame == self._last_frame + 1:
            both = (regions >= 0) & (self._last >= 0)
            for pair in {*zip(regions[both].tolist(), self._last[both].tolist(), strict=True)}:
                self._tracks.merge(*pair)
        self._last_frame, self._last = frame, regions
        return _boxes(numbered)

    @cached_property
    def _tracks(self) -> Any:
        from scipy.cluster.hierarchy import DisjointSet  # takes a sixth of a second, and only masks need it

        return DisjointSet()

    def tracks(self) -> np.ndarray:
        """(N,) track number of each region so far."""
        return np.array([self._tracks[region] for region in self._ids], dtype=np.int64)

    def _add(self, ids: Iterable[int]) -> None:
        for region in ids:
            self._ids.append(region)
            self._tracks.add(region)


def _overlaps(true: np.ndarray, detected: np.ndarray) -> np.ndarray:
    """(K, D) intersection over union of boxes (K, 4) and (D, 4)."""
    true, detected = true[:, None], detected[None]
    sides = np.minimum(true[..., 2:], detected[..., 2:]) - np.maximum(true[..., :2], detected[..., :2])
    shared = sides.clip(min=0).prod(axis=-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).prod(axis=-1) for boxes in (true, detected)]
    shares: np.ndarray = shared / (areas[0] + areas[1] - shared)
    return shares


def _boxes(numbered: np.ndarray) -> np.ndarray:
    """(K, 4) left, top, right, bottom of the regions 1 ... K in (H, W)."""
    return np.array(
        [(x.start, y.start, x.stop, y.stop) for y, x in ndimage.find_objects(numbered)], dtype=np.float64
    )
