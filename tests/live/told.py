"""A sink that keeps all that a watch tells."""

from __future__ import annotations

from memae.live.message import EventMessage, Message, ScoreMessage


class Told:
    """Keeps events and scores; an outbox before it gives it the last score only."""

    name = "told"
    wants: tuple[type, ...] = (EventMessage, ScoreMessage)

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def send(self, message: Message) -> None:
        self.messages.append(message)

    def close(self) -> None:
        pass

    def events(self, kind: str) -> list[EventMessage]:
        return [one for one in self.messages if isinstance(one, EventMessage) and one.type == kind]
