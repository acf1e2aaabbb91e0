"""Events in a stand-in for Frigate's two routes, which takes what its published API takes and nothing else."""

import re
import time
from typing import Any
from urllib.parse import unquote

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from memae.live.sinks import Outbox, RejectedError
from memae.live.sinks.frigate import FrigateSettings, FrigateSink
from tests.live.sinks.receiver import Received, receiver
from tests.live.sinks.small_messages import event


class CreateBody(BaseModel):
    """EventsCreateBody of Frigate 0.17; `draw` as its documentation describes it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    sub_label: str | None = None
    score: float | None = 0
    duration: int | None = 30
    include_recording: bool | None = True
    draw: dict[str, Any] | None = None


class EndBody(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    end_time: float | None = None


class Frigate:
    """Its cameras, and the events that are under way; down where `is_down`."""

    def __init__(self) -> None:
        self.created: list[tuple[str, str, CreateBody]] = []
        self.ended: list[tuple[str, EndBody]] = []
        self.is_down = False

    def __call__(self, one: Received) -> tuple[int, object]:
        if self.is_down:
            return 502, "bad gateway"
        try:
            if (found := re.fullmatch(r"/api/events/([^/]+)/([^/]+)/create", one.path)) and one.method == "POST":
                return self._create(unquote(found[1]), unquote(found[2]), CreateBody.model_validate(one.json))
            if (found := re.fullmatch(r"/api/events/([^/]+)/end", one.path)) and one.method == "PUT":
                return self._end(unquote(found[1]), EndBody.model_validate(one.json))
        except ValidationError as error:
            return 422, error.errors()
        return 404, {"detail": "Not Found"}

    def _create(self, camera: str, label: str, body: CreateBody) -> tuple[int, object]:
        if camera not in ("front door", "yard"):
            return 404, {"success": False, "message": f"{camera} is not a valid camera."}
        for drawn in (body.draw or {}).get("boxes", []):
            assert all(0 <= share <= 1 for share in drawn["box"])
        assert 0 <= (body.score or 0) <= 1
        self.created.append((camera, label, body))
        name = f"1682970645.13116-{len(self.created)}"
        return 200, {"success": True, "message": "Successfully created event.", "event_id": name}

    def _end(self, name: str, body: EndBody) -> tuple[int, object]:
        if name not in [f"1682970645.13116-{n + 1}" for n in range(len(self.created))]:
            return 404, {"success": False, "message": f"{name} must be set and valid."}
        self.ended.append((name, body))
        return 200, {"success": True, "message": "Event successfully ended."}


def sink_to(port: int, **more: object) -> FrigateSink:
    return FrigateSink(FrigateSettings.of({"url": f"http://127.0.0.1:{port}/", **more}, "sink frigate"))


def test_an_event_begins_and_ends_in_frigate() -> None:
    frigate = Frigate()
    with receiver(frigate) as port:
        sink = sink_to(port, cameras={"door": "front door"}, label="odd")
        for kind in ("new", "update", "end"):
            sink.send(message := event(kind, source="door"))
    ((camera, label, body),) = frigate.created
    assert (camera, label) == ("front door", "odd")
    assert body.duration is None  # until its end is told
    assert body.score == 0.75
    assert body.sub_label is None
    assert body.draw["boxes"][0]["box"] == pytest.approx([0.1, 0.2, 0.2, 0.4])
    assert frigate.ended == [("1682970645.13116-1", EndBody(end_time=message.ended_at))]


def test_after_frigate_was_down_the_event_says_when_it_began() -> None:
    frigate = Frigate()
    frigate.is_down = True
    with receiver(frigate) as port:
        outbox = Outbox(sink_to(port), first_wait_s=0.005, longest_wait_s=0.02)
        outbox.put(event("new", at=time.time() - 3600))
        outbox.put(event("end", at=time.time() - 3600))
        while outbox.facts.failures < 3:
            time.sleep(0.005)
        frigate.is_down = False
        outbox.close(5)
    assert (outbox.facts.sent, outbox.facts.lost) == (2, 0)
    assert frigate.created[0][2].sub_label.startswith("began 20")
    assert len(frigate.ended) == 1


def test_an_end_without_its_beginning_makes_an_event_of_its_length() -> None:
    frigate = Frigate()
    with receiver(frigate) as port:
        sink_to(port).send(event("end"))
    assert frigate.created[0][2].duration == 2
    assert frigate.ended == []


def test_a_camera_that_frigate_does_not_have_is_named() -> None:
    with receiver(Frigate()) as port, pytest.raises(RejectedError, match="Frigate has no camera 'attic'"):
        sink_to(port).send(event("new", source="attic"))


def test_an_end_that_frigate_has_forgotten_is_no_error() -> None:
    frigate = Frigate()
    with receiver(frigate) as port:
        sink = sink_to(port)
        sink.send(event("new"))
        frigate.created.clear()
        sink.send(event("end"))
    assert frigate.ended == []
