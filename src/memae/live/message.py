"""What a watch tells while it runs: events, the state of each camera, and scores."""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

__all__ = ["EventMessage", "Listener", "Message", "RelativeBox", "ScoreMessage", "StatusMessage", "new_event_id"]

EndedBy = Literal["quiet", "greatest length", "source gone", "stopped"]


class RelativeBox(NamedTuple):
    """A rectangle in shares of the width and height of the picture, from 0 to 1."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class EventMessage:
    """An event as it stands: it begins, goes on, and ends. All times are Unix seconds by the wall clock."""

    type: Literal["new", "update", "end"]
    id: str
    """The same in all messages of an event; see `new_event_id`."""
    source: str
    """Name of the camera, and never its address."""
    started_at: float
    updated_at: float
    """Of the last frame that belongs to it so far."""
    ended_at: float | None
    """None while it goes on."""
    score: float
    """Of the last frame."""
    peak_score: float
    peak_at: float
    threshold: float
    """The score that began it."""
    boxes: tuple[RelativeBox, ...] = ()
    """Where the error of the peak frame was highest."""
    still: Path | None = None
    """Picture of the peak frame; None as long as none is written."""
    clip: Path | None = None
    """Video of the event; None as long as none is written."""
    ended_by: EndedBy | None = None
    """None while it goes on."""
    rebuilt: Path | None = None
    """Picture of what the memory rebuilt in place of the peak frame."""

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON has it; paths are text."""
        return _plain(asdict(self))


@dataclass(frozen=True)
class StatusMessage:
    """The state of a camera."""

    source: str
    at: float
    """Unix seconds; so is that of scores."""
    is_up: bool
    """Frames arrive."""
    note: str = ""
    """What is wrong with the frames, such as "picture frozen", or "night mode"; empty if nothing is."""
    fps: float = 0.0
    lag_s: float = 0.0
    """From the arrival of a frame to its score."""
    drops: int = 0
    """Frames that were not scored, since the watch began."""
    is_enabled: bool = True
    """False where someone has turned the watch of this camera off."""

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        return asdict(self)


@dataclass(frozen=True)
class ScoreMessage:
    """The score of a frame."""

    source: str
    at: float
    score: float
    threshold: float

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        return asdict(self)


Message = EventMessage | StatusMessage | ScoreMessage


class Listener(Protocol):
    """Whatever takes the messages of a watch: the outbox of a sink, the metrics, the page."""

    def put(self, message: Message) -> None:
        """Takes a message; never waits, and any thread may call it."""


def new_event_id(at: float) -> str:
    """A name for an event that began at `at` (Unix seconds): never given twice, and in the order of time as text."""
    return f"{round(at * 1000):013d}-{secrets.token_hex(4)}"


def _plain(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: str(value) if isinstance(value, Path) else value for name, value in facts.items()}
