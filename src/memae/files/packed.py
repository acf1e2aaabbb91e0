"""Packed files: a few kB may unpack to any size, so there is a limit to how much may come out of one."""

from __future__ import annotations

import zlib

__all__ = ["PackedError", "check_unpacked", "gunzipped"]

MOST_TIMES = 200  # its own size: what was measured or drawn packs to no less than a hundredth, as a rule
ALWAYS_BYTES = 256 << 20  # that any file may unpack to


class PackedError(ValueError):
    """A file that unpacks to far more than its size."""

    def __init__(self) -> None:
        super().__init__(
            f"unpacks to more than {ALWAYS_BYTES >> 20} MiB and {MOST_TIMES} times its size, as a file would that is "
            "to fill the memory; unpack it before if it is what you want"
        )


def check_unpacked(packed: int, unpacked: int) -> None:
    """Checks a size in bytes before anything is unpacked.

    Raises:
        PackedError: `unpacked` is far above `packed`.
    """
    if unpacked > _most(packed):
        raise PackedError


def gunzipped(content: bytes) -> bytes:
    """The content of a gzip file, of all its members.

    Raises:
        PackedError: it unpacks to far more than its size.
        EOFError, zlib.error: it is damaged.
    """
    most = _most(len(content))
    parts: list[bytes] = []
    while content:
        member, room = zlib.decompressobj(wbits=31), most + 1 - sum(map(len, parts))
        parts.append(member.decompress(content, room))
        if len(parts[-1]) == room:
            raise PackedError
        if not member.eof:
            raise EOFError("the file is cut short")
        content = member.unused_data.lstrip(b"\0")  # padding
    return b"".join(parts)


def _most(packed: int) -> int:
    return max(ALWAYS_BYTES, MOST_TIMES * packed)
