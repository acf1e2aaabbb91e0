"""A watch that takes its thresholds from the camera, and one that scores a smaller stream than it cuts clips from."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
from PIL import Image

from memae import Detector
from memae.live.address import Address
from memae.live.config import CameraConfig, EventSettings, WatchConfig
from memae.live.message import ScoreMessage
from memae.live.sinks import Outbox
from memae.live.watch import Watch
from tests.live.mjpeg_server import MjpegServer
from tests.live.told import Told
from tests.live.waiting import until
from tests.small_footage import scene

ALWAYS = 1e-9  # a threshold that every frame is above


@contextmanager
def running(watching: Watch) -> Iterator[None]:
    thread = threading.Thread(target=watching.run)
    thread.start()
    try:
        yield
    finally:
        watching.stop()
        thread.join()


def test_a_camera_is_calibrated_and_one_with_a_threshold_keeps_it(detector: Detector, tmp_path: Path) -> None:
    told = Told()
    sinks = [Outbox(told)]
    with MjpegServer(scene(6)[0]) as server:
        cameras = (
            CameraConfig("yard", Address(server.url)),
            CameraConfig("gate", Address(server.url), on_threshold=123.0),
        )
        watching = Watch(detector, WatchConfig(Path("model"), cameras, tmp_path), sinks)
        found = watching.calibrate(3.0)
        assert found.keys() == {"yard"}
        threshold = found["yard"]
        assert 0 < threshold.normal_hours < 5 / 3600
        assert threshold.caveat  # seconds cannot promise a rate of one an hour
        assert not told.events("new")  # what is taken as normal makes no event
        with running(watching):
            until(lambda: {one.threshold for one in told.messages if isinstance(one, ScoreMessage)} >= {123.0})
            until(
                lambda: any(
                    one.threshold == threshold.on_threshold
                    for one in told.messages
                    if isinstance(one, ScoreMessage) and one.source == "yard"
                )
            )
    sinks[0].close()


def test_a_small_stream_is_scored_and_clips_are_of_the_main_one(detector: Detector, tmp_path: Path) -> None:
    frames = scene(6)[0]
    told = Told()
    sinks = [Outbox(told)]
    with MjpegServer(frames) as main, MjpegServer(frames[:, ::2, ::2]) as small:
        camera = CameraConfig("gate", Address(main.url), Address(small.url), on_threshold=ALWAYS)
        settings = EventSettings(before_s=0.5, after_s=0.2, greatest_s=1.0)
        watching = Watch(detector, WatchConfig(Path("model"), (camera,), tmp_path, settings), sinks)
        with running(watching):
            until(lambda: any(one.clip for one in told.events("end")))
    sinks[0].close()
    first = next(one for one in told.events("end") if one.clip)
    assert first.ended_by == "greatest length"
    assert first.clip is not None and first.still is not None
    with av.open(str(first.clip)) as clip:
        shown = list(clip.decode(video=0))
    assert {(frame.width, frame.height) for frame in shown} == {(72, 48)}
    assert len(shown) > 15  # a second and more of 25 frames a second
    with Image.open(first.still) as still:
        assert still.size[0] > 0
    assert all(end.ended_by in ("greatest length", "stopped") for end in told.events("end"))
