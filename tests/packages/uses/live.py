"""Writes a history, shows it on the page, and makes a sink for MQTT. Cameras need the extra `video`, too."""

import time
from pathlib import Path
from urllib.request import urlopen

from memae.live.controls import Zone
from memae.live.message import ScoreMessage
from memae.live.metrics import Metrics
from memae.live.page import CameraState, Feed, PageServer, create_app, listen
from memae.live.sinks import from_config
from memae.live.sinks.history import History, HistorySettings, HistorySink


class Yard:
    """A watch of one camera that nothing comes from."""

    def cameras(self) -> list[CameraState]:
        return [CameraState("yard", True, "", 10.0, 0.2, 0, True, 0.4, 1.0)]

    def picture(self, source: str, *, with_anomalies: bool) -> bytes | None:
        return None

    def set_threshold(self, source: str, threshold: float) -> None:
        raise NotImplementedError

    def set_enabled(self, source: str, is_enabled: bool) -> None:
        raise NotImplementedError

    def set_zones(self, source: str, zones: tuple[Zone, ...]) -> None:
        raise NotImplementedError


path = Path("history.sqlite")
sink = HistorySink(HistorySettings(path=path))
sink.send(ScoreMessage("yard", time.time(), 0.4, 1.0))
server = PageServer(create_app(Yard(), History(path), Feed(), Metrics()), listen("127.0.0.1", 0, None))
for page in ("/", "/static/page.js", "/static/uplot/uPlot.iife.min.js", "/api/cameras", "/metrics"):
    with urlopen(f"http://127.0.0.1:{server.port}{page}", timeout=30) as answer:
        assert answer.read()
server.close()
sink.close()
from_config({"kind": "mqtt", "host": "127.0.0.1", "tls": False}).close()
