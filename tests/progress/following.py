"""What the tests of progress share: a clock that they set, records of epochs, a terminal that is read."""

import io
import re

from rich.console import Console

from memae.memory.usage import MemoryHealth
from memae.progress import EpochRecord


class Clock:
    """The time that the callbacks see."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def health(**changes):
    values = {"items": 50, "items_used": 41, "items_dead": 9, "items_duplicate": 3, "items_per_query": 4.25}
    return MemoryHealth(**{**values, "fallback_share": 0.0, **changes})


def record(epoch, loss=0.5, held_out_loss=0.625, memory=None, speed=12_345.0):
    return EpochRecord(epoch, loss, held_out_loss, 1.0, speed, memory)


def terminal(width=80, file=None):
    return Console(file=file or io.StringIO(), force_terminal=True, width=width, color_system=None)


def screens(console):
    """What stood on the screen, picture by picture, without the codes that move the cursor."""
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())
    return [line.rstrip() for line in re.split(r"[\r\n]+", plain) if line.strip()]
