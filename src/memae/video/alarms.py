"""What the alarms of a model of video are worth: flagged frames and events, held against the truth.

An event is true if it overlaps an anomalous segment, a maximal run of anomalous frames. That alone praises one event
that lasts for the whole video. So the figures also say how much normal video is flagged or lies inside events, and
how long before or after its segment an event begins.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from memae.metrics.intervals import RESAMPLES, Estimate, bootstrap

__all__ = ["VideoAlarms", "event_figures", "flag_figures", "segments_of"]

NONE_SEEN = -math.log(0.025)  # 3.69: the exact 95 % limit of a Poisson mean of which no event was seen


@dataclass(frozen=True)
class VideoAlarms:
    """One video with its truth, its flagged frames and its events."""

    labels: np.ndarray
    """(F,) bool, True = anomalous."""
    edges_s: np.ndarray
    """(F + 1,) at which each frame begins, and the last one ends; NaN where nothing tells."""
    frames: np.ndarray
    """(S,) the scored ones."""
    flags: np.ndarray
    """(S,) bool, whether they were flagged."""
    events: np.ndarray
    """(E, 2) first and last frame of each, in their order."""

    def flag_counts(self) -> tuple[int, int, int, int]:
        """Normal frames, flagged ones of them, anomalous frames, and flagged ones of them."""
        anomalous = self.labels[self.frames]
        normal = ~anomalous
        return (
            int(normal.sum()),
            int((normal & self.flags).sum()),
            int(anomalous.sum()),
            int((anomalous & self.flags).sum()),
        )

    def event_counts(self) -> tuple[float, ...]:
        """Events, true ones, segments, found ones, seconds of normal video, and those of them inside events."""
        overlap = self._overlap()
        inside = np.zeros(len(self.labels), dtype=bool)
        for first, last in self.events:
            inside[first : last + 1] = True
        lasts_s = np.diff(self.edges_s)
        normal = ~self.labels
        return (
            overlap.shape[0],
            overlap.any(axis=1).sum(),
            overlap.shape[1],
            overlap.any(axis=0).sum(),
            lasts_s[normal].sum(),
            lasts_s[normal & inside].sum(),
        )

    def onset_errors_s(self) -> np.ndarray:
        """(K,) of each found segment, where the first event that overlaps it begins, minus where the segment does."""
        overlap = self._overlap()
        found = overlap.any(axis=0)
        begins = self.edges_s[self.events[overlap.argmax(axis=0)[found], 0]] if found.any() else np.empty(0)
        errors_s: np.ndarray = begins - self.edges_s[segments_of(self.labels)[found, 0]]
        return errors_s

    def _overlap(self) -> np.ndarray:
        """(E, K) bool, which event overlaps which segment."""
        segments = segments_of(self.labels)
        overlap: np.ndarray = (self.events[:, None, 0] <= segments[:, 1]) & (
            segments[:, 0] <= self.events[:, None, 1]
        )
        return overlap


def segments_of(labels: np.ndarray) -> np.ndarray:
    """(K, 2) first and last frame of each maximal run of True."""
    steps = np.flatnonzero(np.diff(labels.astype(np.int8), prepend=0, append=0))
    return steps.reshape(-1, 2) - (0, 1)


def flag_figures(videos: Sequence[VideoAlarms], seed: int) -> dict[str, Estimate | None]:
    """The shares of normal and of anomalous frames that were flagged, under their names in `VideoEvaluation`."""
    counts = np.array([video.flag_counts() for video in videos])

    def figures(weights: np.ndarray) -> np.ndarray:
        normal, false_alarms, anomalous, found = (weights @ counts).T
        return np.stack([false_alarms / normal, found / anomalous], axis=1)

    normal, anomalous = (counts[:, [0, 2]] > 0).sum(axis=0).tolist()
    estimates = bootstrap(figures, len(videos), bearing=[normal, anomalous], seed=seed, resamples=RESAMPLES)
    return dict(zip(("normal_frames_flagged", "anomalous_frames_flagged"), estimates, strict=True))


def event_figures(videos: Sequence[VideoAlarms], seed: int) -> dict[str, Any]:
    """The figures of events, under their names in `VideoEvaluation`."""
    counts = np.array([video.event_counts() for video in videos])
    errors_s = [video.onset_errors_s() for video in videos]
    owners = np.repeat(np.arange(len(videos)), [len(of_video) for of_video in errors_s])
    onset = _WeightedMedian(np.concatenate(errors_s), owners)

    def figures(weights: np.ndarray) -> np.ndarray:
        events, true, segments, found, normal_s, inside_s = (weights @ counts).T
        precision, recall = true / events, found / segments
        f1 = np.where(recall > 0, 2 * precision * recall / (precision + recall), recall)  # no event: no precision
        per_hour = (events - true) / normal_s * 3600
        return np.stack([precision, recall, f1, inside_s / normal_s, per_hour, onset(weights)], axis=1)

    given, _, with_segments, with_found, with_normal, _ = (counts > 0).sum(axis=0).tolist()
    bearing = [given, with_segments, with_segments, with_normal, with_normal, with_found]
    names = (
        "event_precision",
        "event_recall",
        "event_f1",
        "normal_time_in_events",
        "false_events_per_hour",
        "onset_error_s",
    )
    estimates = bootstrap(figures, len(videos), bearing=bearing, seed=seed, resamples=RESAMPLES)
    found = dict(zip(names, estimates, strict=True))
    events, true, _, segments_found, normal_s, _ = counts.sum(axis=0).tolist()
    found["false_events_per_hour"] = _with_limit(found["false_events_per_hour"], normal_s / 3600)
    return {
        "events": int(events),
        "false_events": int(events - true),
        "segments_found": int(segments_found),
        "normal_hours": normal_s / 3600,
        "worst_onset_error_s": onset.farthest,
        **found,
    }


def _with_limit(rate: Estimate | None, hours: float) -> Estimate | None:
    """Where no false event was seen, every resample has none too: the upper end is then that of a Poisson rate."""
    if rate is None or rate.value > 0 or math.isnan(rate.high):
        return rate
    return replace(rate, high=NONE_SEEN / hours)


class _WeightedMedian:
    """The median of values that belong to videos, for resamples of the videos.

    Args:
        values: (K,).
        owners: (K,) the number of the video of each.
    """

    def __init__(self, values: np.ndarray, owners: np.ndarray) -> None:
        order = np.argsort(values, kind="stable")
        self._values, self._owners = values[order], owners[order]

    @property
    def farthest(self) -> float | None:
        """The value farthest from 0; None if there are none."""
        return float(max(self._values, key=abs)) if len(self._values) else None

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        """(R,) medians for how often (R, G) each resample holds each video; NaN for one without a value."""
        if not len(self._values):
            return np.full(len(weights), np.nan)
        counted = np.cumsum(weights[:, self._owners], axis=1)
        half = counted[:, -1:] / 2
        last = len(self._values) - 1
        lower, upper = ((counted < half).sum(axis=1), (counted <= half).sum(axis=1))
        middle: np.ndarray = (self._values[lower.clip(max=last)] + self._values[upper.clip(max=last)]) / 2
        return np.where(half[:, 0] > 0, middle, np.nan)
