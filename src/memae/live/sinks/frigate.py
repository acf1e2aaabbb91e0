"""Events in Frigate, by its HTTP API: POST /api/events/{camera}/{label}/create and PUT /api/events/{id}/end."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from pydantic import Field

from memae.live.message import EventMessage, Message
from memae.live.sinks.http import Answer, request
from memae.live.sinks.settings import HttpAddress, SinkSettings
from memae.live.sinks.sink import RejectedError, SinkError

__all__ = ["FrigateSettings", "FrigateSink"]

LATE_S = 10.0
MOST_OPEN = 1000  # events of which no end has come yet


class FrigateSettings(SinkSettings):
    """Where Frigate is, and what it calls the cameras."""

    url: HttpAddress = Field(description="of Frigate, such as http://frigate:5000; also env:NAME or file:PATH")
    label: str = Field("anomaly", pattern=r"^[A-Za-z0-9_-]{1,20}$", description="of the events")
    cameras: dict[str, str] = Field({}, description="names in Frigate of cameras that have another name here")
    include_recording: bool = Field(True, description="Frigate keeps its recording of the time of an event")
    timeout_s: float = Field(15.0, gt=0, description="for each step of a request")


class FrigateSink:
    """Begins an event in Frigate with the message "new" and ends it with "end".

    Frigate dates an event by the time of the request. Where the request comes late, as after Frigate was down, the
    sub-label tells when the event began. Frigate shows a score from 0 to 1: 0.5 is the threshold, 0.75 twice of it.
    """

    settings = FrigateSettings
    wants: tuple[type, ...] = (EventMessage,)

    def __init__(self, settings: FrigateSettings) -> None:
        self.name = settings.name or "frigate"
        self._settings = settings
        self._ids: dict[str, str] = {}
        """Identifiers in Frigate of the events that go on, by ours."""

    def send(self, message: Message) -> None:
        """Begins or ends an event; an update changes nothing in Frigate."""
        assert isinstance(message, EventMessage)
        if message.type == "new":
            self._begin(message, None)
        elif message.type == "end" and message.id in self._ids:
            self._end(message)
        elif message.type == "end":  # its beginning was lost
            lasted_s = (message.ended_at or message.updated_at) - message.started_at
            self._begin(message, max(1, round(lasted_s)))

    def close(self) -> None:
        """Nothing is open between two requests."""

    def _begin(self, message: EventMessage, duration_s: int | None) -> None:
        camera = self._settings.cameras.get(message.source, message.source)
        body: dict[str, Any] = {
            "score": _share(message.peak_score, message.threshold),
            "duration": duration_s,
            "include_recording": self._settings.include_recording,
            "draw": {
                "boxes": [
                    {"box": [b.left, b.top, b.right - b.left, b.bottom - b.top], "color": [255, 0, 0]}
                    for b in message.boxes
                ]
            },
        }
        if duration_s is not None or time.time() - message.updated_at > LATE_S:
            body["sub_label"] = f"began {datetime.fromtimestamp(message.started_at, UTC):%Y-%m-%d %H:%M:%S} UTC"
        path = f"/api/events/{quote(camera, safe='')}/{self._settings.label}/create"
        answer = self._ask("POST", path, body)
        if answer.status == HTTPStatus.NOT_FOUND:
            raise RejectedError(
                f"{self.name}: Frigate has no camera {camera!r}; name it in the table cameras of this sink"
            )
        found = self._checked(answer).get("event_id")
        if not isinstance(found, str):
            raise RejectedError(f"{self.name}: Frigate answers without event_id; memae knows Frigate 0.14 to 0.17")
        if duration_s is None:
            self._ids[message.id] = found
            while len(self._ids) > MOST_OPEN:
                self._ids.pop(next(iter(self._ids)))

    def _end(self, message: EventMessage) -> None:
        path = f"/api/events/{quote(self._ids[message.id], safe='')}/end"
        answer = self._ask("PUT", path, {"end_time": message.ended_at})
        if answer.status != HTTPStatus.NOT_FOUND:  # Frigate has forgotten it, as after a restart
            self._checked(answer)
        del self._ids[message.id]

    def _ask(self, method: str, path: str, body: dict[str, Any]) -> Answer:
        address = self._settings.url.get_secret_value().rstrip("/") + path
        return request(
            method, address, json.dumps(body).encode(), {}, name=self.name, timeout_s=self._settings.timeout_s
        )

    def _checked(self, answer: Answer) -> dict[str, Any]:
        if answer.status // 100 != 2:
            final = answer.status in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY)
            raise (RejectedError if final else SinkError)(
                f"{self.name}: Frigate answers {answer.status}; see its log, and give the port without login (5000)"
            )
        try:
            facts = json.loads(answer.body)
        except ValueError:
            facts = None
        if not isinstance(facts, dict):
            raise SinkError(f"{self.name}: what answers is not Frigate; check the address")
        return facts


def _share(score: float, threshold: float) -> float:
    """A score from 0 to 1 that is 0.5 at the threshold and grows with the score."""
    return round(max(0.0, 1 - 0.5 * threshold / score), 3) if score > 0 and threshold > 0 else 0.5
