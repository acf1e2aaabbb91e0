"""Where a watch tells its events: one file for each kind of place, and an `Outbox` before each.

A place may be down. The watch never waits for it: it puts its messages into the outbox, whose own thread sends them,
tries again after a while, and keeps what has not been sent, up to a limit.
"""

from __future__ import annotations

from memae.live.sinks.config import from_config, outboxes
from memae.live.sinks.outbox import Outbox, OutboxFacts
from memae.live.sinks.sink import Commanding, RejectedError, Sink, SinkError

__all__ = [
    "Commanding",
    "Outbox",
    "OutboxFacts",
    "RejectedError",
    "Sink",
    "SinkError",
    "from_config",
    "outboxes",
]
