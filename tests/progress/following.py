"""What the tests of progress share: a clock that they set, records of epochs, a terminal that is read."""

import io
import re
from typing import IO, Any

from rich.console import Console

from memae.memory.usage import MemoryHealth
from memae.progress import EpochRecord


class Clock:
    """The time that the callbacks see."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def health(**changes: Any) -> MemoryHealth:
    values: dict[str, Any] = {
        "items": 50,
        "items_used": 41,
        "items_dead": 9,
        "items_duplicate": 3,
        "items_per_query": 4.25,
    }
    return MemoryHealth(**{**values, "fallback_share": 0.0, **changes})


def record(
    epoch: int,
    loss: float = 0.5,
    held_out_loss: float | None = 0.625,
    memory: MemoryHealth | None = None,
    speed: float = 12_345.0,
) -> EpochRecord:
    return EpochRecord(epoch, loss, held_out_loss, 1.0, speed, memory)


def terminal(width: int = 80, file: IO[str] | None = None) -> Console:
    return Console(file=file or io.StringIO(), force_terminal=True, width=width, color_system=None)


def screens(console: Console) -> list[str]:
    """What stood on the screen, picture by picture, without the codes that move the cursor."""
    assert isinstance(console.file, io.StringIO)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())
    return [line.rstrip() for line in re.split(r"[\r\n]+", plain) if line.strip()]
