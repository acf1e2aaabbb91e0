"""How many samples a source holds, as far as that is known without reading them; for progress only."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Protocol, runtime_checkable

from memae.progress import Count

__all__ = ["count", "lines_about"]

LOOKED_AT = 1 << 20  # bytes of a text file whose lines are counted


@runtime_checkable
class _Counted(Protocol):
    def count(self) -> Count | None: ...


def count(source: object) -> Count | None:
    """How many samples a source says that it holds; None where it cannot say."""
    return source.count() if isinstance(source, _Counted) else None


def lines_about(path: Path) -> Count | None:
    """The lines of a text file, gzipped or not, told from its first megabyte and its size; None for one without."""
    size = path.stat().st_size
    with path.open("rb") as file:
        read = file.read(LOOKED_AT)
    text, used = read, len(read)
    if read[:2] == b"\x1f\x8b":
        unpacking = zlib.decompressobj(wbits=31)
        try:
            text = unpacking.decompress(read, 8 * LOOKED_AT)
        except zlib.error:
            return None
        used -= len(unpacking.unconsumed_tail)
    lines = text.count(b"\n")
    return Count(round(lines * size / used), exact=False) if lines else None
