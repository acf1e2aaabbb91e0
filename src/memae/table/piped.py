"""A CSV file that comes through a pipe, or from any object that is open for reading."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from memae.files.atomic import temporary_file

__all__ = ["Spooled", "is_stream"]

COPIED = 1 << 20  # bytes or characters at a time


def is_stream(x: Any) -> bool:
    """Whether an object is open for reading, such as standard input, a file or `io.BytesIO`."""
    return callable(getattr(x, "read", None)) and not hasattr(x, "__array__")


class Spooled:
    """All that an open object gives, in a temporary file: a training passes over the rows several times.

    The file goes with this object.

    Raises:
        WriteError: the disk of temporary files has no room.
    """

    def __init__(self, stream: Any) -> None:
        name = getattr(stream, "name", None)
        self.name = "standard input" if name == "<stdin>" else name if isinstance(name, str) else "the stream"
        with ExitStack() as stack:
            file = stack.enter_context(temporary_file(self.name, named=True))
            file.writelines(_parts(stream))
            file.flush()
            self.path = Path(file.name)
            kept = stack.pop_all()
        weakref.finalize(self, kept.close)


def _parts(stream: Any) -> Iterator[bytes]:
    while part := stream.read(COPIED):
        yield part.encode() if isinstance(part, str) else part
