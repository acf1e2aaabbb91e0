"""The watch: frames of all cameras go through one model, and events to the sinks, until it is stopped."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from memae.errors import ConfigError
from memae.live.capture import Capture, CapturedFrame
from memae.live.config import CameraConfig, EventSettings, Keep, WatchConfig
from memae.live.events import CameraEvents, MediaRule
from memae.live.message import EventMessage, Message, ScoreMessage, StatusMessage
from memae.live.packets import PacketRing
from memae.live.sinks import Outbox
from memae.video.events import EventThreshold, ScoreSeries, fit_event_threshold
from memae.video.frames import Frames
from memae.video.pipeline import MapLevels
from memae.video.scoring import ScoredFrame
from memae.video.streams import StreamScorer

__all__ = ["Watch", "known_rate"]

log = logging.getLogger("memae")

STATUS_S, TIDY_S = 10.0, 600.0
IDLE_S = 0.25
MOST_WAIT_S = 3.0  # of frames, before all but the newest are dropped
RING_MORE_S = 10.0  # what the packets are held for beyond the seconds before an event: until it is found


def known_rate(artifact: Any) -> float:
    """The frames a second that a model of video was trained at: the median rate of its held-out video.

    Raises:
        ConfigError: not a model of video, or one without held-out video.
    """
    series = getattr(artifact.reference, "series", ())
    steps = [np.diff(one.times_s) for one in series if len(one.times_s) > 1]
    if not steps:
        raise ConfigError(
            "cameras are watched by a model of video that holds scores of normal video; train one with "
            "threshold.calibration_share above 0"
        )
    return float(1 / np.median(np.concatenate(steps)))


class Watch:
    """Watches cameras until it is stopped, or all of its files have ended.

    Args:
        detector: with a model of video.
        config: of the watch.
        outboxes: of the sinks; closed by whoever opened them.

    Raises:
        ConfigError: a model of another kind, or zones that leave nothing to watch.
    """

    def __init__(self, detector: Any, config: WatchConfig, outboxes: Sequence[Outbox] = ()) -> None:
        self.rate = known_rate(detector.artifact)
        self._detector, self._outboxes = detector, outboxes
        self._stop, self._frames = threading.Event(), threading.Event()
        self._config = config
        self._cameras = {camera.name: self._camera(camera) for camera in config.cameras}
        self._scorer = self._new_scorer()
        self._reload: WatchConfig | None = None

    def stop(self) -> None:
        """Lets `run` end; may be called by a signal."""
        self._stop.set()
        self._frames.set()

    def reload(self, config: WatchConfig) -> None:
        """Takes another config at the next frame: cameras that it changes begin anew, the others go on.

        Model, folder and sinks stay as they are.
        """
        self._reload = config
        self._frames.set()

    def run(self) -> None:
        """Watches."""
        for camera in self._cameras.values():
            camera.start()
        status_at = tidy_at = time.monotonic()
        try:
            while not self._stop.is_set() and not all(camera.is_over for camera in self._cameras.values()):
                self._frames.wait(IDLE_S)
                self._frames.clear()
                if self._reload:
                    self._take_config()
                self._score()
                now = time.monotonic()
                if now >= status_at + STATUS_S:
                    status_at = now
                    for camera in self._cameras.values():
                        self._tell(camera.status())
                if now >= tidy_at + TIDY_S:
                    tidy_at = now
                    tidy(self._config.out, self._config.keep)
        finally:
            for camera in self._cameras.values():
                self._end(camera)

    def calibrate(self, seconds: float) -> dict[str, EventThreshold]:
        """Scores the cameras for a while, taken as normal, and sets the thresholds of those that have none of theirs.

        Returns what it set, by camera, with what it promises. Call it before `run`.
        """
        for camera in self._cameras.values():
            camera.start()
            camera.learning = []
        ends_at = time.monotonic() + seconds
        while not self._stop.is_set() and time.monotonic() < ends_at:
            self._frames.wait(IDLE_S)
            self._frames.clear()
            self._score()
        return {name: found for name, camera in self._cameras.items() if (found := self._learnt(camera))}

    def _learnt(self, camera: _Camera) -> EventThreshold | None:
        seen, camera.learning = camera.learning or [], None
        if len(seen) < 2 or camera.config.on_threshold is not None:
            return None
        series = ScoreSeries(np.array([at for at, _ in seen]), np.array([score for _, score in seen]))
        settings = self._config.events
        found = fit_event_threshold([series], settings.false_alarms_per_hour, settings.rule)
        camera.set_rule(found.on_threshold, found.off_threshold, settings, self._detector)
        log.info(
            "camera %s: events begin at score %.4g, from %.1f minutes%s", camera.config.name, found.on_threshold,
            60 * found.normal_hours, f"; {found.caveat}" if found.caveat else "",
        )  # fmt: skip
        return found

    def _score(self) -> None:
        chunks: list[Frames] = []
        for camera in self._cameras.values():
            for captured in camera.capture.take():
                if captured.begins:
                    self._flush(chunks)
                    self._finish(camera, "source gone")
                camera.sent.append(captured)
                chunks.append(captured.frames)
            if camera.was_up and not camera.capture.is_up and camera.capture.is_over:
                self._flush(chunks)
                self._finish(camera, "source gone")
        self._flush(chunks)

    def _flush(self, chunks: list[Frames]) -> None:
        for frame in self._scorer.push(chunks):
            self._add(frame)
        chunks.clear()

    def _finish(self, camera: _Camera, why: Any) -> None:
        for frame in self._scorer.end(camera.config.name):
            self._add(frame)
        camera.sent.clear()
        camera.events.end(why)

    def _add(self, frame: ScoredFrame) -> None:
        camera = self._cameras[frame.key.video]
        captured = camera.scored(frame)
        self._tell(ScoreMessage(frame.key.video, captured.at, frame.score, camera.on_threshold))

    def _end(self, camera: _Camera) -> None:
        self._finish(camera, "stopped")
        camera.stop()

    def _tell(self, message: Message) -> None:
        for outbox in self._outboxes:
            outbox.put(message)
        if isinstance(message, EventMessage) and message.type != "update":
            what = "begins" if message.type == "new" else f"ends ({message.ended_by})"
            facts = message.source, message.id, what, message.peak_score, message.threshold
            log.info("camera %s: event %s %s, score %.4g against %.4g", *facts)

    def _camera(self, config: CameraConfig) -> _Camera:
        preprocess, events = self._detector.preprocess, self._config.events
        camera = _Camera(config, self._config, self._tell)
        most = max(2 * preprocess.clip_length, round(MOST_WAIT_S * self.rate))
        size = preprocess.height, preprocess.width
        scored = config.detect or config.address
        ring = None if config.detect else camera.ring
        camera.capture = Capture(config.name, scored, self.rate, size, most, ring, self._frames.set)
        if config.detect:
            camera.main = Capture(config.name, config.address, self.rate, size, 1, camera.ring)
        on, off = config.on_threshold, config.off_threshold
        if on is None:
            found = self._detector.event_threshold(events.false_alarms_per_hour, events.rule)
            on, off = found.on_threshold, found.off_threshold if off is None else off
        camera.set_rule(on, off, events, self._detector)
        return camera

    def _new_scorer(self) -> StreamScorer:
        preprocess = self._detector.preprocess
        masks = {
            name: camera.config.watched(preprocess.height, preprocess.width)
            for name, camera in self._cameras.items()
        }
        return StreamScorer(self._detector.artifact, masks)

    def _take_config(self) -> None:
        new, self._reload = self._reload, None
        assert new is not None
        same = new.events == self._config.events
        wanted = {camera.name: camera for camera in new.cameras}
        for name, camera in list(self._cameras.items()):
            self._finish(camera, "stopped")
            if not same or wanted.get(name) != camera.config:
                camera.stop()
                del self._cameras[name]
        self._config = new
        for name, config in wanted.items():
            if name not in self._cameras:
                self._cameras[name] = self._camera(config)
                self._cameras[name].start()
        self._scorer = self._new_scorer()
        for camera in self._cameras.values():
            camera.capture.begin_anew()
        log.info("the config has been read again: %d cameras", len(self._cameras))


class _Camera:
    """One camera of a watch: its threads, what waits for a score, and its events."""

    capture: Capture
    events: CameraEvents

    def __init__(self, config: CameraConfig, watch: WatchConfig, tell: Callable[[EventMessage], None]) -> None:
        self.config, self._tell = config, tell
        self.ring = PacketRing(watch.events.before_s + watch.events.least_s + RING_MORE_S)
        self.main: Capture | None = None
        settings = watch.events
        self._media = MediaRule(watch.out, settings.before_s, settings.after_s, settings.greatest_s)
        self.sent: deque[CapturedFrame] = deque()
        self.learning: list[tuple[float, float]] | None = None
        self.on_threshold = 0.0
        self._score = self._lag_s = 0.0
        self._started = False

    def set_rule(self, on: float, off: float | None, settings: EventSettings, detector: Any) -> None:
        """Sets the score that begins an event."""
        rule = settings.rule(on, off)
        levels = MapLevels(detector.map_level(rule.on_threshold), detector.map_level(rule.ends_below))
        self.on_threshold = on
        self.events = CameraEvents(rule, levels, self._media, self.ring, self._tell)

    @property
    def was_up(self) -> bool:
        """Frames of it wait for their score."""
        return bool(self.sent)

    @property
    def is_over(self) -> bool:
        """It was a file, which has ended and is scored."""
        return self.capture.is_over and not self.sent

    def start(self) -> None:
        """Begins to read, once."""
        if not self._started:
            self._started = True
            for capture in filter(None, (self.capture, self.main)):
                capture.start()

    def stop(self) -> None:
        """Ends its threads."""
        for capture in filter(None, (self.capture, self.main)):
            capture.stop()
        self.ring.end()

    def scored(self, frame: ScoredFrame) -> CapturedFrame:
        """Takes the score of the frame that has waited longest."""
        captured = self.sent.popleft()
        self._score, self._lag_s = frame.score, time.monotonic() - captured.arrived
        if self.learning is None:
            self.events.add(frame, captured)
        else:
            self.learning.append((captured.at, frame.score))
        return captured

    def status(self) -> StatusMessage:
        """How it is, which the log has, too."""
        capture = self.capture
        drops = sum(capture.drops.values())
        log.info(
            "camera %s: %s, %.1f frames/s, lag %.1f s, %d dropped%s, score %.4g of %.4g%s", self.config.name,
            "up" if capture.is_up else "down", capture.fps, self._lag_s, drops,
            f" ({', '.join(f'{why} {count}' for why, count in capture.drops.items())})" if drops else "",
            self._score, self.on_threshold, f", {capture.note}" if capture.note else "",
        )  # fmt: skip
        return StatusMessage(
            self.config.name, time.time(), capture.is_up, capture.note, capture.fps, self._lag_s, drops
        )


def tidy(folder: Path, keep: Keep) -> None:
    """Removes stills and clips that are too old, and the oldest ones while all take too much room."""
    found = []
    for pattern in ("*/*.png", "*/*.mp4"):
        for path in folder.glob(pattern):
            facts = path.stat()
            found.append((facts.st_mtime, facts.st_size, path))
    total, oldest = sum(size for _, size, _ in found), time.time() - keep.days * 86400
    for changed, size, path in sorted(found):
        if changed >= oldest and total <= keep.gigabytes * 1e9:
            break
        path.unlink(missing_ok=True)
        total -= size
