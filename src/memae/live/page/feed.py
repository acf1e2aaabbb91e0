"""Messages of a watch for the browsers that are connected."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import deque
from collections.abc import AsyncIterator

from memae.live.message import EventMessage, Message, ScoreMessage

__all__ = ["Feed"]

EVERY_S = 0.25  # between two parts of a stream
ALIVE_S = 15.0  # a comment tells that the stream goes on
MOST_EVENTS = 200  # that wait for a browser; the oldest are left out, and a reload shows them


class Feed:
    """Hands messages on to any number of streams; `put` takes them as an outbox does, and never waits."""

    def __init__(self) -> None:
        self._readers: set[_Reader] = set()
        self._lock = threading.Lock()

    def put(self, message: Message) -> None:
        """Hands a message on."""
        with self._lock:
            readers = list(self._readers)
        for reader in readers:
            reader.put(message)

    async def stream(self) -> AsyncIterator[str]:
        """Server-sent events: `event`, `status` and `score`, each with a message as JSON.

        Of scores and statuses that come faster than a browser is told, it gets the last of each camera.
        """
        reader = _Reader(asyncio.get_running_loop())
        with self._lock:
            self._readers.add(reader)
        try:
            yield ": connected\n\n"
            while True:
                messages = await reader.next()
                yield "".join(map(_sent, messages)) or ": alive\n\n"
                await asyncio.sleep(EVERY_S)
        finally:
            with self._lock:
                self._readers.discard(reader)


class _Reader:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._lock, self._has_some = loop, threading.Lock(), asyncio.Event()
        self._events: deque[Message] = deque(maxlen=MOST_EVENTS)
        self._states: dict[tuple[type, str], Message] = {}

    def put(self, message: Message) -> None:
        with self._lock:
            if isinstance(message, EventMessage):
                self._events.append(message)
            else:
                self._states[type(message), message.source] = message
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._has_some.set)

    async def next(self) -> list[Message]:
        """What has come; nothing after 15 s without a message."""
        try:
            await asyncio.wait_for(self._has_some.wait(), ALIVE_S)
        except TimeoutError:
            return []
        with self._lock:
            self._has_some.clear()
            found = [*self._events, *self._states.values()]
            self._events.clear()
            self._states.clear()
        return found


def _sent(message: Message) -> str:
    kind = (
        "event"
        if isinstance(message, EventMessage)
        else "score"
        if isinstance(message, ScoreMessage)
        else "status"
    )
    return f"event: {kind}\ndata: {json.dumps(message.as_dict())}\n\n"
