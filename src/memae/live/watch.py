"""The watch: frames of all cameras go through one model, and events to the sinks, until it is stopped."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from memae.errors import ConfigError, WriteError
from memae.live.camera import Camera
from memae.live.changes import Changes, read_changes, write_changes
from memae.live.config import CameraConfig, EventSettings, Keep, WatchConfig
from memae.live.controls import CameraState, Zone
from memae.live.message import EventMessage, Listener, Message, ScoreMessage
from memae.video.events import EventRule, EventThreshold, ScoreSeries, fit_event_threshold
from memae.video.frames import Frames
from memae.video.pipeline import MapLevels
from memae.video.scoring import ScoredFrame
from memae.video.streams import StreamScorer

if TYPE_CHECKING:
    from memae.live.metrics import Metrics

__all__ = ["Watch", "known_rate"]

log = logging.getLogger("memae")

STATUS_S, TIDY_S = 10.0, 600.0
IDLE_S = 0.25
FIXED = ("model", "out", "sinks")  # of a config; the rest may change while the watch runs


def known_rate(artifact: Any) -> float:
    """The frames a second that a model of video was trained at: the median rate of its held-out video.

    Raises:
        ConfigError: not a model of video, or one without held-out video.
    """
    known: float | None = getattr(artifact.reference, "frames_per_s", None)
    if known is None:
        raise ConfigError(
            "cameras are watched by a model of video that holds scores of normal video; train one with "
            "threshold.calibration_share above 0"
        )
    return known


class Watch:
    """Watches cameras until it is stopped, or all of its files have ended.

    It follows `memae.live.controls.Watched`: any thread may ask how cameras are, and change them. What is changed so
    holds whatever the config says, and is kept in `changes.json` of the folder.

    Args:
        detector: with a model of video.
        config: of the watch.
        listeners: take its messages, such as the outboxes of sinks; closed by whoever opened them.
        metrics: count what no message tells; None counts nothing.

    Raises:
        ConfigError: a model of another kind, zones that leave nothing to watch, or damaged changes.
    """

    def __init__(
        self,
        detector: Any,
        config: WatchConfig,
        listeners: Sequence[Listener] = (),
        metrics: Metrics | None = None,
    ) -> None:
        self.rate = known_rate(detector.artifact)
        self._detector, self._listeners, self._metrics = detector, listeners, metrics
        self._stop, self._due = threading.Event(), threading.Event()
        self._changing = threading.RLock()  # a signal may come while it is held
        self._calibrated: dict[str, EventThreshold] = {}
        self._usual: dict[EventSettings, EventThreshold] = {}
        self._scorer = StreamScorer(detector.artifact, passed=metrics.passed if metrics else lambda took_s: None)
        self._given, self._changes = config, read_changes(config.out)
        self._config = self._wanted = self._with_changes(config)
        self._cameras = {camera.name: self._opened(camera) for camera in self._config.cameras}

    def stop(self) -> None:
        """Lets `run` end; may be called by a signal."""
        self._stop.set()
        self._due.set()

    def reload(self, config: WatchConfig) -> None:
        """Takes another config at the next frame: cameras of another address begin anew, the others go on.

        Model, folder and sinks stay as they are, and the log says if they should not.

        Raises:
            ConfigError: as at the start; then all stays as it is.
        """
        fixed = {what: getattr(self._given, what) for what in FIXED}
        for what in (what for what in FIXED if getattr(config, what) != fixed[what]):
            log.warning("config: %s has changed, which needs a new start", what)
        with self._changing:
            before, self._changes = self._changes, read_changes(self._given.out)
            try:
                given = replace(config, **fixed)
                wanted = self._with_changes(given)
                for camera in wanted.cameras:
                    self._check(camera, wanted.events)
            except Exception:  # of whatever kind: nothing has changed then
                self._changes = before
                raise
            self._given, self._wanted = given, wanted
        log.info("the config has been read again: %d cameras", len(wanted.cameras))
        self._due.set()

    # what people see and change, from any thread

    def cameras(self) -> list[CameraState]:
        """All cameras, in the order of the config."""
        found = [(self._cameras.get(camera.name), camera) for camera in self._wanted.cameras]
        return [camera.state(wanted) for camera, wanted in found if camera]

    def picture(self, source: str, *, with_anomalies: bool) -> bytes | None:
        """The newest frame as JPEG; None before the first. See `memae.live.controls.Watched`."""
        camera = self._cameras.get(source)
        return camera.picture(with_anomalies=with_anomalies) if camera else None

    def set_threshold(self, source: str, threshold: float) -> None:
        """Sets the score that begins an event of a camera; an event that is open ends."""
        self._change(source, threshold=threshold)

    def set_enabled(self, source: str, is_enabled: bool) -> None:
        """Turns the watch of a camera on or off."""
        self._change(source, is_enabled=is_enabled)

    def set_zones(self, source: str, zones: tuple[Zone, ...]) -> None:
        """Sets the zones and masks of a camera; an event that is open ends."""
        self._change(source, zones=zones)

    def _change(self, source: str, **facts: Any) -> None:
        with self._changing:
            camera = next((one for one in self._given.cameras if one.name == source), None)
            if camera is None:
                raise ConfigError(f"{source}: there is no such camera")
            changed = replace(self._changes.get(source, Changes()), **facts)
            self._check(changed.over(camera), self._given.events)
            self._changes = {**self._changes, source: changed}
            self._wanted = self._with_changes(self._given)
            self._due.set()
            try:
                write_changes(self._given.out, self._changes)
            except WriteError as error:
                log.error("what was changed of camera %s holds until the watch ends: %s", source, error)

    def _with_changes(self, config: WatchConfig) -> WatchConfig:
        changes = {one.name: self._changes[one.name] for one in config.cameras if one.name in self._changes}
        cameras = tuple(changes.get(one.name, Changes()).over(one) for one in config.cameras)
        return replace(config, cameras=cameras)

    def _check(self, camera: CameraConfig, events: EventSettings) -> None:
        self._scorer.check(self._mask(camera))
        self._rule(camera, events)

    # the thread of the watch

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the cameras that were given up."""
        return tuple(name for name, camera in self._cameras.items() if camera.failed)

    def run(self) -> None:
        """Watches."""
        self._start()
        for name in self._changes.keys() & self._cameras.keys():
            log.info(
                "camera %s: %s as it was changed on the page, whatever the config says", name, self._changes[name]
            )
        status_at = tidy_at = time.monotonic()
        try:
            while self._goes_on():
                self._step()
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
        self._start()
        for camera in self._cameras.values():
            camera.learning = []
        ends_at = time.monotonic() + seconds
        while self._goes_on() and time.monotonic() < ends_at:
            self._step()
        for camera in self._cameras.values():
            self._learn(camera)
        return dict(self._calibrated)

    def _start(self) -> None:
        log.info("the network is made ready; then %d cameras are opened", len(self._cameras))
        self._scorer.prepare()
        for camera in self._cameras.values():
            camera.start()

    def _learn(self, camera: Camera) -> None:
        seen, camera.learning = camera.learning or [], None
        if len(seen) < 2 or camera.config.on_threshold is not None:
            return
        series = ScoreSeries(np.array([at for at, _ in seen]), np.array([score for _, score in seen]))
        settings = self._config.events
        found = fit_event_threshold([series], settings.false_alarms_per_hour, settings.rule)
        self._calibrated[camera.config.name] = found
        self._set_rule(camera)
        log.info(
            "camera %s: events begin at score %.4g, from %.1f minutes%s", camera.config.name, found.on_threshold,
            60 * found.normal_hours, f"; {found.caveat}" if found.caveat else "",
        )  # fmt: skip

    def _goes_on(self) -> bool:
        return not self._stop.is_set() and not all(camera.is_over for camera in self._cameras.values())

    def _step(self) -> None:
        """Waits a little for frames and changes, and takes those that have come."""
        self._due.wait(IDLE_S)
        self._due.clear()
        if self._wanted is not self._config:
            self._take_config()
        self._score()

    def _score(self) -> None:
        chunks: list[Frames] = []
        for camera in self._cameras.values():
            is_away = camera.capture.is_away(self._config.events.gone_s)  # before its last frames are taken
            for captured in camera.take():
                if captured.begins:
                    self._flush(chunks)
                    self._finish(camera, "source gone")
                camera.sent.append(captured)
                chunks.append(captured.frames)
            if is_away and camera.has_open_work:
                self._flush(chunks)
                self._finish(camera, "source gone")
            if camera.has_turned:
                self._tell(camera.status())
            self._count(camera)
        self._flush(chunks)

    def _flush(self, chunks: list[Frames]) -> None:
        for frame in self._scorer.push(chunks):
            self._add(frame)
        chunks.clear()

    def _finish(self, camera: Camera, why: Any) -> None:
        for frame in self._scorer.end(camera.config.name):
            self._add(frame)
        camera.sent.clear()
        camera.events.end(why)

    def _add(self, frame: ScoredFrame) -> None:
        camera = self._cameras[frame.key.video]
        captured = camera.scored(frame)
        if self._metrics:
            self._metrics.scored(frame.key.video, camera.lag_s)
        self._tell(ScoreMessage(frame.key.video, captured.at, frame.score, camera.on_threshold))

    def _count(self, camera: Camera) -> None:
        if not self._metrics:
            return
        for what, count in camera.counts().items():
            match what:
                case "arrived":
                    self._metrics.arrived(camera.config.name, count)
                case "reconnects":
                    for _ in range(count):
                        self._metrics.reconnected(camera.config.name)
                case reason:
                    self._metrics.dropped(camera.config.name, reason, count)

    def _end(self, camera: Camera) -> None:
        self._finish(camera, "stopped")
        camera.stop()

    def _tell(self, message: Message) -> None:
        for listener in self._listeners:
            listener.put(message)
        if isinstance(message, EventMessage) and message.type != "update":
            what = "begins" if message.type == "new" else f"ends ({message.ended_by})"
            facts = message.source, message.id, what, message.peak_score, message.threshold
            log.info("camera %s: event %s %s, score %.4g against %.4g", *facts)

    # cameras as the config has them

    def _opened(self, config: CameraConfig) -> Camera:
        preprocess = self._detector.preprocess
        camera = Camera(config, self._config, preprocess, self.rate, self._tell, self._due.set)
        self._scorer.watch(config.name, self._mask(config))
        self._set_rule(camera)
        return camera

    def _mask(self, camera: CameraConfig) -> np.ndarray | None:
        return camera.watched(self._detector.preprocess.height, self._detector.preprocess.width)

    def _rule(self, camera: CameraConfig, events: EventSettings) -> EventRule:
        on, off = camera.on_threshold, camera.off_threshold
        if on is None:
            found = self._calibrated.get(camera.name) or self._usual_threshold(events)
            on, off = found.on_threshold, found.off_threshold if off is None else off
        return events.rule(on, off)

    def _usual_threshold(self, events: EventSettings) -> EventThreshold:
        if events not in self._usual:
            self._usual[events] = self._detector.event_threshold(events.false_alarms_per_hour, events.rule)
        return self._usual[events]

    def _set_rule(self, camera: Camera) -> None:
        rule = self._rule(camera.config, self._config.events)
        level = self._detector.map_level
        camera.set_rule(rule, MapLevels(level(rule.on_threshold), level(rule.ends_below)))

    def _take_config(self) -> None:
        new = self._wanted
        keeps, self._config = new.events == self._config.events, new
        wanted = {camera.name: camera for camera in new.cameras}
        for name, camera in list(self._cameras.items()):
            if keeps and name in wanted and camera.reads(wanted[name]):
                self._adjust(camera, wanted[name])
            else:
                self._end(camera)
                del self._cameras[name]
        for name in wanted.keys() - self._cameras.keys():
            self._cameras[name] = self._opened(wanted[name])
            self._cameras[name].start()

    def _adjust(self, camera: Camera, config: CameraConfig) -> None:
        """Changes a camera that goes on."""
        before, camera.config = camera.config, config
        if config == before:
            return
        if (config.zones, config.is_enabled) != (before.zones, before.is_enabled):
            self._finish(camera, "stopped")
            self._scorer.watch(config.name, self._mask(config))
            camera.capture.begin_anew()
        if (config.on_threshold, config.off_threshold) != (before.on_threshold, before.off_threshold):
            camera.events.end("stopped")
            self._set_rule(camera)
        self._tell(camera.status())


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
