"""What every sink offers."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from memae.errors import MemaeError
from memae.live.controls import Controls
from memae.live.message import Message

__all__ = ["Commanding", "RejectedError", "Sink", "SinkError"]


class SinkError(MemaeError):
    """A sink that could not take a message now; the same message is sent again later."""


class RejectedError(SinkError):
    """A message that the sink will never take; it is not sent again."""


class Sink(Protocol):
    """One place that messages are sent to. Only the thread of its outbox calls it."""

    name: str
    """In messages and metrics; it holds no address."""
    wants: tuple[type, ...]
    """The kinds of messages that it takes, such as `EventMessage`."""

    def send(self, message: Message) -> None:
        """Sends one message, and returns when the place has it.

        Raises:
            SinkError: it does not have it; the error shows no credentials.
        """

    def close(self) -> None:
        """Ends the connection; never raises."""


@runtime_checkable
class Commanding(Protocol):
    """A sink whose place also sends commands, such as a switch of Home Assistant."""

    def follow(self, controls: Controls) -> None:
        """Lets commands act on a watch, from now on."""
