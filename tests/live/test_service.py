"""A watch of a real MJPEG camera with its sinks and its page in one process, changed over HTTP."""

import http.client
import io
import json
import logging
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from PIL import Image

from memae import Detector
from memae.errors import ConfigError
from memae.live.address import Address
from memae.live.config import CameraConfig, EventSettings, WatchConfig
from memae.live.service import PagePlace, opened_watch
from memae.live.sinks.history import History
from memae.live.watch import Watch
from tests.live.mjpeg_server import MjpegServer
from tests.live.sinks.small_messages import wait_for
from tests.small_footage import INTRUDER, scene


class Running(NamedTuple):
    watch: Watch
    folder: Path
    port: int

    def ask(self, method: str, path: str, body: object = None) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        found = answer.read()
        connection.close()
        assert answer.status == 200, found
        return found

    def change(self, **facts: Any) -> Any:
        return json.loads(self.ask("PATCH", "/api/cameras/gate", facts))

    @property
    def events(self) -> list[dict[str, Any]]:
        return History(self.folder / "history.sqlite").events()

    def total(self, name: str) -> float:
        text = self.ask("GET", "/metrics").decode()
        return next((float(line.split()[-1]) for line in text.splitlines() if line.startswith(f"{name}{{")), 0.0)


@pytest.fixture
def running(detector: Detector, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Running]:
    caplog.set_level(logging.INFO, "memae")
    usual = detector.event_threshold(1.0).on_threshold
    with MjpegServer(scene(5, INTRUDER)[0]) as camera:
        config = WatchConfig(
            Path("model"),
            (CameraConfig("gate", Address(camera.url), on_threshold=2 * usual),),
            tmp_path,
            EventSettings(before_s=0.2, after_s=0.2, merge_gap_s=0.3),
            sinks=({"kind": "jsonl", "folder": str(tmp_path)},),
        )
        with opened_watch(detector, config, PagePlace()) as watch:
            port = re.search(r"the page is on http://127\.0\.0\.1:(\d+)", caplog.text)
            assert port
            thread = threading.Thread(target=watch.run)
            thread.start()
            yield Running(watch, tmp_path, int(port[1]))
            watch.stop()
            thread.join()


def test_an_event_reaches_every_place_and_what_is_changed_takes_effect(running: Running) -> None:
    wait_for(lambda: any(one["ended_at"] and one["clip"] for one in running.events), 30)
    lines = [json.loads(line) for file in running.folder.glob("*.jsonl") for line in file.read_text().splitlines()]
    (shown,) = [one for one in json.loads(running.ask("GET", "/api/events")) if one["id"] == lines[0]["id"]]
    assert (lines[0]["type"], lines[0]["source"], shown["ended_by"]) == ("new", "gate", "quiet")
    for kind in ("still", "rebuilt"):
        assert Image.open(io.BytesIO(running.ask("GET", f"/api/events/{shown['id']}/{kind}"))).width > 300
    assert running.total("memae_events_total") >= 1
    assert running.total("memae_frames_total") > 60
    assert running.total("memae_source_up") == 1
    assert running.total("memae_lag_seconds_count") > 60
    assert b"memae_inference_seconds_count" in running.ask("GET", "/metrics")
    picture = Image.open(io.BytesIO(running.ask("GET", "/api/cameras/gate/picture")))
    assert picture.size == (72, 48)

    # above all scores nothing begins, and below all an event is open for ever
    state = running.change(threshold=1e6)
    assert state["threshold"] == 1e6
    wait_for(lambda: all(one["ended_at"] for one in running.events))
    assert running.total("memae_threshold") == 1e6 or running.total("memae_score") > 0
    running.change(threshold=1e-9)
    wait_for(lambda: any(one["threshold"] == 1e-9 for one in running.events))

    # turned off, it ends; zones that are drawn hold, and all of it is kept
    state = running.change(is_enabled=False)
    assert not state["is_enabled"]
    wait_for(lambda: {one["ended_by"] for one in running.events if one["threshold"] == 1e-9} == {"stopped"})
    scored = running.total("memae_lag_seconds_count")
    running.change(zones=[{"name": "left", "points": [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]}])
    assert running.total("memae_lag_seconds_count") == scored
    running.change(is_enabled=True)
    wait_for(lambda: running.total("memae_lag_seconds_count") > scored)
    kept = json.loads((running.folder / "changes.json").read_text())["gate"]
    assert (kept["threshold"], kept["is_enabled"], kept["zones"][0]["name"]) == (1e-9, True, "left")


def test_a_page_that_others_can_reach_needs_a_token(detector: Detector, footage: Path, tmp_path: Path) -> None:
    config = WatchConfig(Path("model"), (CameraConfig("gate", Address(str(footage / "calm.mp4"))),), tmp_path)
    with (
        pytest.raises(ConfigError, match="others can reach"),
        opened_watch(detector, config, PagePlace("0.0.0.0")),
    ):
        pass
