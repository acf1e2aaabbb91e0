"""The old place of `memae.video.events`; it goes with 0.2.0."""

from memae.video.events import (
    Event,
    EventFinder,
    EventRule,
    EventThreshold,
    PeakDetail,
    ScoreSeries,
    fit_event_threshold,
)

__all__ = [
    "Event",
    "EventFinder",
    "EventRule",
    "EventThreshold",
    "PeakDetail",
    "ScoreSeries",
    "fit_event_threshold",
]
