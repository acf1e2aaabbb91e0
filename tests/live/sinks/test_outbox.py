"""An outbox before a sink that is slow, down, or faulty."""

import threading
import time
from collections.abc import Callable

import pytest

from memae.live.message import EventMessage, Message, ScoreMessage, StatusMessage, new_event_id
from memae.live.sinks import Outbox, RejectedError, SinkError


class Listed:
    """A sink that keeps what it takes, while its gate is open and `refuse` says nothing."""

    name = "listed"
    wants: tuple[type, ...] = (EventMessage, StatusMessage)

    def __init__(self, refuse: Callable[[Message], Exception | None] = lambda message: None) -> None:
        self.taken: list[Message] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.closed = False
        self._refuse = refuse

    def send(self, message: Message) -> None:
        self.entered.set()
        self.gate.wait(10)
        if error := self._refuse(message):
            raise error
        self.taken.append(message)

    def close(self) -> None:
        self.closed = True


def event(kind: str, name: str, score: float = 1.0) -> EventMessage:
    ended_at = 3.0 if kind == "end" else None
    return EventMessage(kind, name, "yard", 1.0, 2.0, ended_at, score, score, 1.5, 0.5)  # type: ignore[arg-type]


def wait_for(condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it did not come to pass in time"
        time.sleep(0.005)


def test_identifiers_sort_by_time_and_are_never_the_same() -> None:
    names = [new_event_id(at) for at in (1.0, 999.5, 1.7e9, 1.7e9 + 0.01)]
    assert names == sorted(names)
    assert len({new_event_id(5.0) for _ in range(100)}) == 100


def test_all_messages_arrive_in_order_and_the_end_waits_for_them() -> None:
    sink = Listed()
    outbox = Outbox(sink)
    sent = [event(kind, f"e{n}") for n in range(20) for kind in ("new", "end")]
    for message in sent:
        outbox.put(message)
    outbox.close()
    assert sink.taken == sent
    assert sink.closed
    assert (outbox.facts.sent, outbox.facts.lost, outbox.facts.waiting) == (40, 0, 0)


def test_a_sink_that_fails_gets_every_event_later_and_in_order() -> None:
    failures = iter([True, True, False, True, False, True, True, True])
    sink = Listed(lambda message: SinkError("down") if next(failures, False) else None)
    outbox = Outbox(sink, first_wait_s=0.002, longest_wait_s=0.01)
    sent = [event("new", f"e{n}") for n in range(10)]
    for message in sent:
        outbox.put(message)
    outbox.close()
    assert sink.taken == sent
    assert outbox.facts.failures == 6
    assert outbox.facts.lost == 0


def test_put_never_waits_and_what_exceeds_the_capacity_is_lost_updates_first() -> None:
    sink = Listed()
    sink.gate.clear()
    outbox = Outbox(sink, capacity=3)
    outbox.put(event("new", "a"))
    assert sink.entered.wait(5)
    began = time.monotonic()
    for message in (
        event("new", "b"),
        event("update", "b"),
        event("end", "a"),
        event("new", "c"),
        event("new", "d"),
    ):
        outbox.put(message)
    assert time.monotonic() - began < 0.5
    assert outbox.facts.lost == 2
    sink.gate.set()
    outbox.close()
    assert [(one.type, one.id) for one in sink.taken if isinstance(one, EventMessage)] == [
        ("new", "a"),
        ("end", "a"),
        ("new", "c"),
        ("new", "d"),
    ]


def test_a_newer_message_of_an_event_takes_the_place_of_an_update_that_waits() -> None:
    sink = Listed()
    sink.gate.clear()
    outbox = Outbox(sink, capacity=3)
    outbox.put(event("new", "a"))
    assert sink.entered.wait(5)
    for score in range(100):
        outbox.put(event("update", "a", score))
    outbox.put(event("end", "a", 100))
    sink.gate.set()
    outbox.close()
    assert [one.type for one in sink.taken if isinstance(one, EventMessage)] == ["new", "end"]
    assert outbox.facts.lost == 0


def test_of_states_only_the_last_of_each_camera_waits() -> None:
    sink = Listed()
    sink.gate.clear()
    outbox = Outbox(sink)
    outbox.put(event("new", "a"))
    assert sink.entered.wait(5)
    for at in range(50):
        outbox.put(StatusMessage("yard", at, is_up=True))
        outbox.put(StatusMessage("door", at, is_up=False))
        outbox.put(ScoreMessage("yard", at, 1.0, 0.5))  # which the sink does not want
    assert outbox.facts.waiting == 3
    sink.gate.set()
    outbox.close()
    assert [(one.source, one.at) for one in sink.taken if isinstance(one, StatusMessage)] == [
        ("yard", 49),
        ("door", 49),
    ]


@pytest.mark.parametrize("error", [RejectedError("no such camera"), ZeroDivisionError("fault")])
def test_what_a_sink_rejects_is_lost_and_the_rest_is_sent(error: Exception) -> None:
    sink = Listed(lambda message: error if isinstance(message, EventMessage) and message.id == "bad" else None)
    outbox = Outbox(sink)
    for name in ("a", "bad", "b"):
        outbox.put(event("new", name))
    outbox.close()
    assert [one.id for one in sink.taken if isinstance(one, EventMessage)] == ["a", "b"]
    assert (outbox.facts.lost, outbox.facts.failures) == (1, 1)


def test_a_sink_that_stays_down_does_not_hold_up_the_end(caplog: pytest.LogCaptureFixture) -> None:
    sink = Listed(lambda message: SinkError("mqtt://user:secret@broker/: is down"))
    outbox = Outbox(sink, first_wait_s=0.01, longest_wait_s=30.0)
    for name in "abc":
        outbox.put(event("new", name))
    wait_for(lambda: outbox.facts.trouble is not None)
    began = time.monotonic()
    outbox.close(timeout_s=0.3)
    assert time.monotonic() - began < 2
    assert outbox.facts.lost == 3
    assert sink.closed
    assert "secret" not in f"{outbox.facts.trouble}{caplog.text}"
