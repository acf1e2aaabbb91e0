"""One camera of a watch: its threads, what waits for a score, its events, and how it is."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import numpy as np

from memae.live.capture import Capture, CapturedFrame
from memae.live.config import CameraConfig, WatchConfig
from memae.live.controls import CameraState
from memae.live.events import CameraEvents, MediaRule
from memae.live.message import EventMessage, StatusMessage
from memae.live.packets import PacketRing
from memae.live.pictures import as_jpeg
from memae.video.decode import DecodedPicture
from memae.video.events import EventRule
from memae.video.pipeline import MapLevels
from memae.video.scoring import ScoredFrame

__all__ = ["Camera"]

log = logging.getLogger("memae")

MOST_WAIT_S = 3.0  # of frames, before all but the newest are dropped
RING_MORE_S = 10.0  # what the packets are held for beyond the seconds before an event: until it is found


class Camera:
    """One camera of a watch. The thread of the watch calls it; `state` and `picture` may be asked by any.

    Args:
        config: of the camera.
        watch: the config of the watch.
        preprocess: of the network: length and size of its clips.
        rate: frames a second that it knows.
        tell: takes the messages of its events.
        arrived: called when a frame waits.
    """

    events: CameraEvents

    def __init__(
        self,
        config: CameraConfig,
        watch: WatchConfig,
        preprocess: Any,
        rate: float,
        tell: Callable[[EventMessage], None],
        arrived: Callable[[], None],
    ) -> None:
        self.config, self._tell = config, tell
        settings = watch.events
        self._media = MediaRule(watch.out, settings.before_s, settings.after_s, settings.greatest_s)
        self._ring = PacketRing(settings.before_s + settings.least_s + RING_MORE_S)
        size, most = (
            (preprocess.height, preprocess.width),
            max(2 * preprocess.clip_length, round(MOST_WAIT_S * rate)),
        )
        name, scored, ring = config.name, config.detect or config.address, None if config.detect else self._ring
        self.capture = Capture(name, scored, rate, size, most, ring, arrived)
        self._captures = [self.capture]
        if config.detect:
            self._captures.append(Capture(name, config.address, rate, size, 1, self._ring, copies_only=True))
        self.sent: deque[CapturedFrame] = deque()
        self.learning: list[tuple[float, float]] | None = None
        self.on_threshold = self.lag_s = 0.0
        self._score: float | None = None
        self._newest: DecodedPicture | None = None
        self._scored: tuple[DecodedPicture, np.ndarray] | None = None
        self._told_up = self._started = False
        self._arrived, self._counted = 0, Counter[str]()

    def set_rule(self, rule: EventRule, levels: MapLevels) -> None:
        """Sets when its frames make an event; an event that is open must have been ended."""
        self.on_threshold, self._levels = rule.on_threshold, levels
        self.events = CameraEvents(rule, levels, self._media, self._ring, self._tell)

    @property
    def has_open_work(self) -> bool:
        """Frames wait for their score, or an event goes on."""
        return bool(self.sent) or self.events.is_open

    @property
    def is_over(self) -> bool:
        """It was a file, which has ended and is scored, or it was given up."""
        return self.capture.is_over and not self.capture.has_waiting and not self.sent

    @property
    def failed(self) -> bool:
        """A stream of it was given up."""
        return any(capture.failed for capture in self._captures)

    def start(self) -> None:
        """Begins to read, once."""
        if not self._started:
            self._started = True
            for capture in self._captures:
                capture.start()

    def stop(self) -> None:
        """Ends its threads."""
        for capture in self._captures:
            capture.stop()
        self._ring.end()

    def take(self) -> list[CapturedFrame]:
        """The frames that have come and are to be scored; none while it is turned off."""
        found = self.capture.take()
        self._arrived += len(found)
        if found:
            self._newest = found[-1].picture
        if self.config.is_enabled:
            return found
        self._scored = self._score = None
        return []

    def scored(self, frame: ScoredFrame) -> CapturedFrame:
        """Takes the score of the frame that has waited longest."""
        captured = self.sent.popleft()
        self._score, self.lag_s = frame.score, time.monotonic() - captured.arrived
        self._scored = captured.picture, frame.anomaly_map
        if self.learning is None:
            self.events.add(frame, captured)
        else:
            self.learning.append((captured.at, frame.score))
        return captured

    def counts(self) -> Counter[str]:
        """What has come since the last call: "arrived", "reconnects", and frames that were dropped by their reason."""
        total = Counter(self.capture.drops)
        total["arrived"], total["reconnects"] = self._arrived, self.capture.reconnects
        found, self._counted = total - self._counted, total
        return found

    @property
    def has_turned(self) -> bool:
        """Whether it has gone up or down since the last call."""
        before, self._told_up = self._told_up, self.capture.is_up
        return before != self._told_up

    def status(self) -> StatusMessage:
        """How it is, which the log has, too."""
        capture = self.capture
        drops = sum(capture.drops.values())
        log.info(
            "camera %s: %s, %.1f frames/s, lag %.1f s, %d dropped%s, score %.4g of %.4g%s%s", self.config.name,
            "up" if capture.is_up else "down", capture.fps, self.lag_s, drops,
            f" ({', '.join(f'{why} {count}' for why, count in capture.drops.items())})" if drops else "",
            self._score or 0.0, self.on_threshold, "" if self.config.is_enabled else ", turned off",
            f", {capture.note}" if capture.note else "",
        )  # fmt: skip
        facts = capture.is_up, capture.note, capture.fps, self.lag_s, drops, self.config.is_enabled
        return StatusMessage(self.config.name, time.time(), *facts)

    def state(self, wanted: CameraConfig) -> CameraState:
        """How it is for the page.

        Args:
            wanted: its config, with what was just changed.
        """
        capture, threshold = self.capture, wanted.on_threshold
        facts = capture.is_up, capture.note, capture.fps, self.lag_s, sum(capture.drops.values())
        on = self.on_threshold if threshold is None else threshold
        return CameraState(wanted.name, *facts, wanted.is_enabled, self._score, on, wanted.zones)

    def picture(self, *, with_anomalies: bool) -> bytes | None:
        """Its newest frame as JPEG, or the newest that is scored with its map and boxes; None before the first."""
        scored, newest = self._scored, self._newest
        if with_anomalies and scored:
            return as_jpeg(scored[0], (scored[1], self._levels))
        return as_jpeg(newest) if newest else None

    def reads(self, config: CameraConfig) -> bool:
        """Whether another config asks for the same streams."""
        return (config.address, config.detect) == (self.config.address, self.config.detect)
