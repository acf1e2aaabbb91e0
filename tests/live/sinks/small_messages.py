"""Messages for the tests of sinks, and ways to wait for them."""

import time
from collections.abc import Callable
from pathlib import Path

from memae.live.message import EventMessage, RelativeBox


def event(
    kind: str,
    name: str = "0001-a",
    score: float = 2.0,
    *,
    source: str = "yard",
    at: float | None = None,
    **more: object,
) -> EventMessage:
    at = time.time() if at is None else at
    ended_at, ended_by = (at + 2, "quiet") if kind == "end" else (None, None)
    facts: dict[str, object] = {"boxes": (RelativeBox(0.1, 0.2, 0.3, 0.6),), "ended_by": ended_by} | more
    return EventMessage(kind, name, source, at, at + 1, ended_at, score, score, at, 1.0, **facts)  # type: ignore[arg-type]


def wait_for(
    condition: Callable[[], bool], timeout_s: float = 30.0
) -> None:  # longer than a sink waits for an answer
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it did not come to pass in time"
        time.sleep(0.005)


def picture(folder: Path) -> Path:
    from PIL import Image

    path = folder / "still.jpg"
    Image.new("RGB", (32, 24), (200, 40, 40)).save(path)
    return path
