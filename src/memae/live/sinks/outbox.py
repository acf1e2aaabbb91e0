"""The messages that wait for a sink, and the thread that sends them."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from dataclasses import dataclass

from memae.live.controls import Controls
from memae.live.message import EventMessage, Message
from memae.live.sinks.sink import Commanding, RejectedError, Sink, SinkError

__all__ = ["Outbox", "OutboxFacts"]

_jitter = random.Random()  # nosec B311: of its own, as the caller's random state is not ours

log = logging.getLogger("memae")

FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0


@dataclass(frozen=True)
class OutboxFacts:
    """What an outbox has done so far."""

    sent: int
    """Messages that the sink has."""
    failures: int
    """Attempts that the sink answered with an error."""
    lost: int
    """Events, or their updates, that the sink will never have: too many waited, it rejected them, or the end came."""
    waiting: int
    """Messages that are still to be sent."""
    trouble: str | None
    """What the sink said to the last attempt; None if it took the message."""


class Outbox:
    """A bounded queue before a sink. `put` never waits, and no error of the sink leaves its thread.

    Events are sent in order, each until the sink takes it. An update that waits gives way to a newer message of its
    event. If `capacity` events wait, the oldest update is lost, or else the oldest message. Of statuses and scores only
    the last of each camera waits, as it is all that counts.

    Args:
        sink: is called by one thread only.
        capacity: messages of events that may wait.
        first_wait_s: after an error; it doubles with each further one, and half of it is random.
        longest_wait_s: between two attempts.
    """

    def __init__(
        self,
        sink: Sink,
        capacity: int = 1000,
        *,
        first_wait_s: float = FIRST_WAIT_S,
        longest_wait_s: float = LONGEST_WAIT_S,
    ) -> None:
        self.name = sink.name
        self._sink, self._capacity = sink, capacity
        self._first_wait_s, self._longest_wait_s = first_wait_s, longest_wait_s
        self._events: deque[EventMessage] = deque()
        self._states: dict[tuple[type, str], Message] = {}
        self._sent = self._failures = self._lost = 0
        self._sending: Message | None = None
        self._trouble: str | None = None
        self._changed = threading.Condition()
        self._ends_at: float | None = None
        self._thread = threading.Thread(target=self._run, name=f"memae sink {sink.name}", daemon=True)
        self._thread.start()

    @property
    def facts(self) -> OutboxFacts:
        """What it has done so far."""
        with self._changed:
            waiting = len(self._events) + len(self._states) + (self._sending is not None)
            return OutboxFacts(self._sent, self._failures, self._lost, waiting, self._trouble)

    def follow(self, controls: Controls) -> None:
        """Lets commands that come from the place of the sink act on a watch; most places send none."""
        if isinstance(self._sink, Commanding):
            self._sink.follow(controls)

    def put(self, message: Message) -> None:
        """Takes a message; one of a kind that the sink does not want is left out."""
        if not isinstance(message, self._sink.wants):
            return
        with self._changed:
            if self._ends_at is not None:
                self._lost += isinstance(message, EventMessage)
            elif isinstance(message, EventMessage):
                self._put_event(message)
            else:
                self._states[type(message), message.source] = message
            self._changed.notify()

    def close(self, timeout_s: float = 5.0) -> None:
        """Sends what waits, for at most this long; what is left then is lost."""
        with self._changed:
            self._ends_at = time.monotonic() + timeout_s
            self._changed.notify()
        self._thread.join(timeout_s + 1.0)

    def _put_event(self, message: EventMessage) -> None:
        updates = [place for place, one in enumerate(self._events) if one.type == "update"]
        if (older := next((p for p in updates if self._events[p].id == message.id), None)) is not None:
            del self._events[older]
        elif len(self._events) >= self._capacity:
            del self._events[updates[0] if updates else 0]
            self._lost += 1
        self._events.append(message)

    def _run(self) -> None:
        wait_s = 0.0
        while (message := self._next(wait_s)) is not None:
            wait_s = min(max(2 * wait_s, self._first_wait_s), self._longest_wait_s) if self._send(message) else 0.0
        self._sink.close()

    def _next(self, wait_s: float) -> Message | None:
        """The message to send, after a wait; None at the end."""
        with self._changed:
            if wait_s:
                self._wait_until(time.monotonic() + wait_s * _jitter.uniform(0.5, 1.0))
            while self._sending is None and not self._events and not self._states and self._ends_at is None:
                self._changed.wait()
            if self._sending is None:
                self._sending = self._taken()
            if self._ends_at is not None and time.monotonic() >= self._ends_at:
                left = [*self._events, *([self._sending] if self._sending else [])]
                self._lost += sum(isinstance(one, EventMessage) for one in left)
                self._events.clear()
                self._states.clear()
                self._sending = None
            return self._sending

    def _wait_until(self, at: float) -> None:
        """Waits, though not beyond the end."""
        while (left_s := min(at, self._ends_at or at) - time.monotonic()) > 0:
            self._changed.wait(left_s)

    def _taken(self) -> Message | None:
        if self._events:
            return self._events.popleft()
        return self._states.pop(next(iter(self._states))) if self._states else None

    def _send(self, message: Message) -> bool:
        """Whether it is to be sent again."""
        error: SinkError | None = None
        try:
            self._sink.send(message)
        except SinkError as raised:
            error = raised
        except Exception as raised:  # a fault of the sink must not end the thread: the next message may be taken
            error = RejectedError(f"{self.name}: {type(raised).__name__} while a message was sent")
        with self._changed:
            again = error is not None and not isinstance(error, RejectedError)
            if again and not isinstance(message, EventMessage):
                newer = self._states.get((type(message), message.source))
                again = newer is None
            if error is None:
                self._sent += 1
            else:
                self._failures += 1
                self._lost += isinstance(message, EventMessage) and not again
            if not again:
                self._sending = None
            before, self._trouble = self._trouble, str(error) if error else None
        _tell(self.name, before, self._trouble)
        return error is not None and not isinstance(error, RejectedError)


def _tell(name: str, before: str | None, now: str | None) -> None:
    """A line in the log where a sink goes down or comes back, and none for each attempt."""
    if now and not before:
        log.warning("sink %s: %s", name, now)
    elif before and not now:
        log.info("sink %s takes messages again", name)
