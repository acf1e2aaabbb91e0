"""A watch of two cameras as the page sees it: real pictures, a real history, and commands that are kept."""

import io
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw

from memae.errors import ConfigError
from memae.live.controls import Zone
from memae.live.message import ScoreMessage
from memae.live.metrics import Metrics
from memae.live.page import CameraState, Feed, PageServer, create_app, listen
from memae.live.sinks.history import History, HistorySettings, HistorySink
from tests.live.sinks.small_messages import event


class SmallWatch:
    def __init__(self) -> None:
        lawn = Zone("lawn", ((0, 0.5), (1, 0.5), (1, 1)))
        yard = CameraState("yard", True, "", 10.0, 0.2, 0, True, 0.4, 1.0, (lawn,))
        self.states = {"yard": yard, "front door": replace(yard, name="front door", note="night mode", zones=())}

    def cameras(self) -> list[CameraState]:
        return list(self.states.values())

    def picture(self, source: str, *, with_anomalies: bool) -> bytes | None:
        made = Image.new("RGB", (320, 240), (90, 120, 140) if source == "yard" else (60, 60, 60))
        draw = ImageDraw.Draw(made)
        draw.rectangle((0, 150, 320, 240), fill=(70, 110, 60))
        x = 20 + (time.monotonic() * 40) % 260
        draw.rectangle((x, 110, x + 20, 170), fill=(200, 180, 150))
        if with_anomalies:
            draw.rectangle((x - 4, 106, x + 24, 174), outline=(255, 0, 0), width=2)
        file = io.BytesIO()
        made.save(file, "JPEG")
        return file.getvalue()

    def _change(self, source: str, **facts: object) -> None:
        self.states[source] = replace(self.states[source], **facts)  # type: ignore[arg-type]

    def set_threshold(self, source: str, threshold: float) -> None:
        if threshold > 100:
            raise ConfigError(f"threshold = {threshold:g}: give 100 or less")
        self._change(source, threshold=threshold)

    def set_enabled(self, source: str, is_enabled: bool) -> None:
        self._change(source, is_enabled=is_enabled)

    def set_zones(self, source: str, zones: tuple[Zone, ...]) -> None:
        self._change(source, zones=zones)


class Served(NamedTuple):
    watch: SmallWatch
    feed: Feed
    history: History
    sink: HistorySink
    metrics: Metrics
    url: str


@contextmanager
def served(folder: Path, token: str | None = None) -> Iterator[Served]:
    path = folder / "history.sqlite"
    watch, feed, metrics = SmallWatch(), Feed(), Metrics()
    history, sink = History(path), HistorySink(HistorySettings(path=path))
    now = time.time()
    for number, source in enumerate(("yard", "front door", "yard")):
        still, rebuilt = folder / f"still{number}.jpg", folder / f"rebuilt{number}.jpg"
        still.write_bytes(watch.picture(source, with_anomalies=True) or b"")
        rebuilt.write_bytes(watch.picture(source, with_anomalies=False) or b"")
        at = now - 3600 * (3 - number)
        sink.send(event("end", f"000{number}-e", 2.0 + number, source=source, at=at, still=still, rebuilt=rebuilt))
    for second in range(0, 7200, 20):
        score = 0.4 + 0.2 * math.sin(second / 500) + (1.2 if 3000 < second < 3100 else 0)
        sink.send(ScoreMessage("yard", now - 7200 + second, score, 1.0))
    app = create_app(watch, history, feed, metrics, token)
    server = PageServer(app, listen("127.0.0.1", 0, token))
    try:
        yield Served(watch, feed, history, sink, metrics, f"http://127.0.0.1:{server.port}")
    finally:
        server.close()
        sink.close()
