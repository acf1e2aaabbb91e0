"""Finds events in scores of frames, and the threshold for a wanted rate of false alarms.

An event begins at a frame that reaches the on threshold and goes on as long as frames reach the off threshold.
Events close to each other are one; short ones are dropped; after an event no other begins for a while. All of it is
decided from the past alone, so that a stored video and a camera give the same events.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from memae.deprecated import renamed_arguments, renamed_attribute
from memae.errors import ConfigError, DataError
from memae.types import Box
from memae.video.frames import FrameKey

if TYPE_CHECKING:  # it loads torch, which the logic of events does not need
    from memae.types import ItemUse

__all__ = [
    "Event",
    "EventFinder",
    "EventRule",
    "EventThreshold",
    "PeakDetail",
    "ScoreSeries",
    "fit_event_threshold",
]

OFF_SHARE = 0.8  # of the on threshold: the off threshold that is used if none is given
ALARM_S = 60.0  # a false alarm counts once more for each of these that it takes
RANK_STEP = 0.02  # of the scores above a threshold join for the next one tried


@dataclass(frozen=True)
class EventRule:
    """When frames make an event.

    Raises:
        ConfigError: a value that is not finite, a negative time, or an off threshold above the on threshold.
    """

    on_threshold: float
    """The least score that begins an event."""
    off_threshold: float | None = None
    """The least score with which it goes on; None is 0.8 of `on_threshold`."""
    least_s: float = 0.0
    """Events of a shorter duration are dropped; that of a single frame is 0 s."""
    merge_gap_s: float = 1.0
    """What begins again at most this long after its last frame is the same event."""
    cool_down_s: float = 0.0
    """For this long after the last frame of an event none begins; one that is still there then begins then."""

    def __post_init__(self) -> None:
        on, off = self.on_threshold, self.off_threshold
        if not math.isfinite(on):
            raise ConfigError(f"on_threshold = {on}: the score that begins an event must be a finite number")
        if off is not None and not (math.isfinite(off) and off <= on):
            raise ConfigError(
                f"off_threshold = {off:g}: the score that ends an event must not lie above on_threshold = {on:g}; "
                "give less, or leave it out"
            )
        for name in ("least_s", "merge_gap_s", "cool_down_s"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"{name} = {value:g}: give seconds, 0 or more")

    @property
    def ends_below(self) -> float:
        """The score below which an event ends: `off_threshold`, or its default."""
        if self.off_threshold is not None:
            return self.off_threshold
        return self.on_threshold - (1 - OFF_SHARE) * abs(self.on_threshold)

    enter = renamed_attribute("on_threshold")
    leave = renamed_attribute("off_threshold")
    stay = renamed_attribute("ends_below")


# a frozen dataclass writes its own
EventRule.__init__ = renamed_arguments(enter="on_threshold", leave="off_threshold")(EventRule.__init__)  # type: ignore[method-assign]


@dataclass(frozen=True)
class PeakDetail:
    """Details of the frame of an event with the highest score."""

    region: Box | None = None
    """Where the error stood, in px of the video."""
    items: tuple[ItemUse, ...] = ()
    """The items that rebuilt it, strongest first."""
    payload: Any = None
    """Whatever the caller wants back with the event, such as the picture; held for one frame at a time."""
    part: str = "motion"
    """Which part of the model set its score: "motion", or "appearance" for what stands still."""


@dataclass(frozen=True)
class Event:
    """Something unusual, from its first to its last frame."""

    video: str
    start_s: float
    """Presentation time of the first frame, from the beginning of the video; so are the other times."""
    end_s: float
    """Of the last frame."""
    first_frame: int
    last_frame: int
    peak_frame: int
    peak_s: float
    peak: float
    """The highest score, at `peak_frame`."""
    region: Box | None = None
    """Where the error of the peak frame was highest."""
    items: tuple[ItemUse, ...] = ()
    """The items that rebuilt the peak frame, strongest first."""
    part: str = "motion"
    """Which part of the model set the score of the peak frame: "motion", or "appearance" for what stands still."""
    payload: Any = field(default=None, repr=False, compare=False)
    """What the caller kept of the peak frame; no part of a written event."""
    still: str | None = None
    """Path of its picture, where one was written."""
    clip: str | None = None
    """Path of its video, where one was written."""

    @property
    def duration_s(self) -> float:
        """From the first to the last frame; 0 for a single one."""
        return self.end_s - self.start_s

    lasts_s = renamed_attribute("duration_s")


class EventFinder:
    """Finds events in a stream of scores; it keeps one open event and no frames.

    An event is given when nothing can change it any more: by the first frame after the merge gap, or by `close`.
    A hole in the video ends no event: close it where the camera was away.
    """

    _video: str | None
    _open: Event | None
    _active: bool

    def __init__(self, rule: EventRule) -> None:
        self._rule = rule
        self._begin()

    @property
    def in_event(self) -> bool:
        """Whether the last frame is part of an event; that event may still prove too short."""
        return self._active

    @property
    def open_since(self) -> FrameKey | None:
        """The first frame of the event that is still open; None if no event is open."""
        event = self._open
        return None if event is None else FrameKey(event.video, event.first_frame, event.start_s)

    @property
    def open_event(self) -> Event | None:
        """The event that is still open, as it stands; it may still prove too short. None if no event is open."""
        return self._open

    def push(self, key: FrameKey, score: float, detail: Callable[[], PeakDetail] | None = None) -> Event | None:
        """Adds the next frame in order of time. Returns the event that is final now, or None.

        A frame of another video closes the one before.

        Args:
            key: of the frame.
            score: higher = more anomalous.
            detail: asked at once, and only for a frame that is the highest of its event so far.

        Raises:
            DataError: a score that is not finite, or a frame from before the last one.
        """
        final = self.close() if key.video != self._video else None
        self._video = key.video
        self._check(key, score)
        self._active = self._active and score >= self._rule.ends_below
        if self._open is not None and not self._active and key.time_s - self._open.end_s > self._rule.merge_gap_s:
            final = self._finish()
        self._active = self._active or self._begins(key, score)
        if self._active:
            self._extend(key, score, detail)
        return final

    def close(self) -> Event | None:
        """Ends the video. Returns the event that was open, if it is long enough."""
        final = self._finish()
        self._begin()
        return final

    def _begin(self) -> None:
        self._video = self._open = None
        self._last_s = self._quiet_until_s = -math.inf
        self._active = False

    def _check(self, key: FrameKey, score: float) -> None:
        if not math.isfinite(score):
            raise DataError(f"{key.video}: frame {key.frame} has the score {score}; a score is a finite number")
        if key.time_s < self._last_s:
            raise DataError(
                f"{key.video}: frame {key.frame} at {key.time_s:.3f} s comes after one at {self._last_s:.3f} s; "
                "give the frames in the order of their time"
            )
        self._last_s = key.time_s

    def _begins(self, key: FrameKey, score: float) -> bool:
        # within the merge gap the open event goes on, and its quiet has not begun
        return score >= self._rule.on_threshold and (self._open is not None or key.time_s >= self._quiet_until_s)

    def _extend(self, key: FrameKey, score: float, detail: Callable[[], PeakDetail] | None) -> None:
        video, frame, time_s = key
        if self._open is None:
            self._open = Event(video, time_s, time_s, frame, frame, frame, time_s, -math.inf)
        self._open = replace(self._open, end_s=time_s, last_frame=frame)
        if score > self._open.peak:
            kept = vars(detail() if detail else PeakDetail())
            self._open = replace(self._open, peak_frame=frame, peak_s=time_s, peak=score, **kept)

    def _finish(self) -> Event | None:
        found, self._open, self._active = self._open, None, False
        if found is None or found.duration_s < self._rule.least_s:
            return None
        self._quiet_until_s = found.end_s + self._rule.cool_down_s
        return found


class ScoreSeries(NamedTuple):
    """The scores of one video."""

    times_s: np.ndarray
    """(n,) presentation times, ascending."""
    scores: np.ndarray
    """(n,) higher = more anomalous."""


@dataclass(frozen=True)
class EventThreshold:
    """The on and off thresholds of events, and the false-alarm rate that they were set for."""

    on_threshold: float
    off_threshold: float
    wanted_per_hour: float
    """False alarms."""
    normal_hours: float
    """Of held-out normal video."""
    events_found: int
    """In that video, at these thresholds."""
    caveat: str | None = None
    """Why the wanted rate is not promised: the video was too short."""

    def figures(self) -> dict[str, Any]:
        """All fields, ready for JSON; until 0.2.0 also under their old names."""
        old = {"enter": self.on_threshold, "leave": self.off_threshold, "footage_hours": self.normal_hours}
        return asdict(self) | old

    enter = renamed_attribute("on_threshold")
    leave = renamed_attribute("off_threshold")
    footage_hours = renamed_attribute("normal_hours")


def fit_event_threshold(
    normal: Sequence[ScoreSeries], wanted_per_hour: float, rule: Callable[[float], EventRule] = EventRule
) -> EventThreshold:
    """The lowest on threshold at which held-out normal video raises no more than the wanted false alarms an hour.

    With k alarms in H hours, (k + 1) / H must not exceed the wanted rate, at this threshold and at every higher one
    tried: far below, all events run into one, which would look like a single alarm. For the same reason an event
    counts once more for each full minute of its duration.

    Args:
        normal: scores of normal videos that no training saw.
        wanted_per_hour: false alarms.
        rule: gives the rule for an on threshold, as `EventRule` itself does; its other parts count in full.

    Raises:
        ConfigError: a rate that is not above 0, or no video.
    """
    if not (math.isfinite(wanted_per_hour) and wanted_per_hour > 0):
        raise ConfigError(f"{wanted_per_hour:g} false alarms an hour cannot be held; give a rate above 0")
    hours = sum(_duration_s(series) for series in normal) / 3600
    if not hours:
        raise ConfigError("no normal video is left to set the event threshold from; give more of it")
    allowed = math.floor(wanted_per_hour * hours * (1 + 1e-12)) - 1
    found = rule(_above(max(float(series.scores.max()) for series in normal if len(series.scores))))
    for on_threshold in _candidates(normal) if allowed >= 0 else ():
        candidate = rule(on_threshold)
        if _alarms(normal, candidate, allowed) > allowed:
            break
        found = candidate
    return EventThreshold(
        on_threshold=found.on_threshold,
        off_threshold=found.ends_below,
        wanted_per_hour=wanted_per_hour,
        normal_hours=hours,
        events_found=sum(len(_durations_s(series, found)) for series in normal),
        caveat=None if allowed >= 0 else _caveat(hours, wanted_per_hour),
    )


def _duration_s(series: ScoreSeries) -> float:
    """The duration from the first frame to the end of the last, which is shown for the median frame time."""
    if len(series.times_s) < 2:
        return 0.0
    return float(series.times_s[-1] - series.times_s[0] + np.median(np.diff(series.times_s)))


def _above(score: float) -> float:
    """A score so far above `score` that rounding on another machine cannot reach it."""
    return score + max(1e-6 * abs(score), 1e-12)


def _candidates(normal: Sequence[ScoreSeries]) -> Iterator[float]:
    """Candidate thresholds: scores of the videos from the highest down, all of the first hundred, then ever fewer."""
    scores = np.unique(np.concatenate([series.scores for series in normal]))
    rank = 0
    while rank < len(scores):
        yield float(scores[-1 - rank])
        rank += max(1, int(RANK_STEP * rank))


def _alarms(normal: Sequence[ScoreSeries], rule: EventRule, allowed: int) -> int:
    """The number of false alarms in the videos; counting stops once it exceeds `allowed`."""
    count = 0
    for series in normal:
        count += sum(1 + int(duration_s / ALARM_S) for duration_s in _durations_s(series, rule))
        if count > allowed:
            break
    return count


def _durations_s(series: ScoreSeries, rule: EventRule) -> list[float]:
    """The durations of the events that `EventFinder` finds, computed for a whole video at once.

    A hundred thresholds on hours of video take seconds this way, and many minutes frame by frame.
    """
    times = np.asarray(series.times_s, dtype=np.float64)
    on = np.flatnonzero(series.scores >= rule.on_threshold)
    if not len(on):
        return []
    starts, ends = _segments(times, series.scores >= rule.ends_below, on, rule.merge_gap_s)
    durations_s, quiet_until_s = [], -math.inf
    for place in np.flatnonzero(ends - starts >= rule.least_s):
        start, end = starts[place], ends[place]
        if start < quiet_until_s:
            after = np.searchsorted(times[on], quiet_until_s)
            start = times[on[after]] if after < len(on) else math.inf
        if start <= end and end - start >= rule.least_s:
            durations_s.append(float(end - start))
            quiet_until_s = end + rule.cool_down_s
    return durations_s


def _segments(
    times: np.ndarray, goes_on: np.ndarray, on: np.ndarray, merge_gap_s: float
) -> tuple[np.ndarray, np.ndarray]:
    """Start and end times of the segments above the off threshold, each from its first frame above the on threshold;
    those close to each other are one, and those without such a frame are none."""
    last = np.flatnonzero(goes_on & ~np.append(goes_on[1:], False))
    segments, firsts = np.unique(np.searchsorted(last, on), return_index=True)
    starts, ends = times[on[firsts]], times[last[segments]]
    apart = starts[1:] - ends[:-1] > merge_gap_s
    return starts[np.append(True, apart)], ends[np.append(apart, True)]


def _caveat(hours: float, wanted_per_hour: float) -> str:
    alarms = f"{_brief(wanted_per_hour)} false alarm{'s' * (wanted_per_hour != 1)} an hour"
    return (
        f"{alarms} cannot be promised: {_brief(60 * hours)} minutes of normal video were held out to set the "
        f"threshold on, and that rate takes {_brief(60 / wanted_per_hour)}, or {_brief(180 / wanted_per_hour)} for "
        "95 % confidence. An event now begins just above the highest score of that video; in new normal video "
        f"expect about {_brief(1 / hours)} false alarms an hour, and up to {_brief(3 / hours)} with 95 % confidence"
    )


def _brief(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
