"""Finds truncated video files by their container; FFmpeg reads a truncated file up to the cut without an error.

Containers consist of boxes, chunks or packets that state their own sizes, and a file that was cut ends within one. A
cut between two of them leaves a file that is whole by all that it says. The duration that a header states is no
measure: a header counts how long the last frame is shown, and the frames themselves do not.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

__all__ = ["cut_short"]

TAIL_BYTES = 1 << 20  # of a program stream, that its last pack is looked for in; a pack holds 64 KiB at most
ASF_HEAD_BYTES = 1 << 16
EBML_HEAD_BYTES = 1 << 12
EBML, SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
TRANSPORT_PACKETS = (188, 192, 204)  # plain, with a time (m2ts), with a checksum
SYNC = 0x47  # the first byte of a plain one


def cut_short(path: Path, container: str) -> bool:
    """Whether a file ends before the end of a part of its container whose size is stated.

    Args:
        path: the file.
        container: FFmpeg's name of its format.

    Raises:
        OSError: it cannot be read.
    """
    check = _CHECKS.get(container)
    if check is None:
        return False
    with path.open("rb") as file:
        return check(file, os.fstat(file.fileno()).st_size)


def _iso_boxes(file: BinaryIO, size: int) -> bool:
    """MP4 and MOV: boxes follow each other up to the end; ISO/IEC 14496-12, 4.2."""
    place = 0
    while place + 8 <= size:  # fewer bytes behind the last box belong to none
        file.seek(place)
        length, kind, long = struct.unpack(">I4sQ", file.read(16).ljust(16, b"\0"))
        length = long if length == 1 else length
        if length < 8 or not all(0x20 <= byte < 0x7F for byte in kind):  # up to the end, or nothing to go by
            return False
        place += length
    return place > size


def _riff_chunks(file: BinaryIO, size: int) -> bool:
    """AVI: one chunk, or in long files several, up to the end; Microsoft's AVI reference, OpenDML 1.02."""
    place = 0
    while place + 8 <= size:
        file.seek(place)
        kind, length = struct.unpack("<4sI", file.read(8))
        if kind != b"RIFF" or length in (0, 0xFFFFFFFF):  # no chunk, or a recorder that was never stopped
            return False
        place += 8 + length + length % 2
    return place > size + 1  # the last padding may be left out


def _matroska_segment(file: BinaryIO, size: int) -> bool:
    """Matroska and WebM: the segment states its size, unless it was written as a stream; RFC 8794 and RFC 9559."""
    head, place = file.read(EBML_HEAD_BYTES), 0
    for wanted in (EBML, SEGMENT):
        if head[place : place + 4] != wanted or len(head) < place + 12:
            return False
        length, place = _ebml_size(head, place + 4)
        if length is None:
            return False
        place += length
    return place > size


def _ebml_size(head: bytes, place: int) -> tuple[int | None, int]:
    """A stored size of one to eight bytes (None if it is unknown), and the position after it."""
    count = 9 - head[place].bit_length()
    bits = 7 * count
    value = int.from_bytes(head[place : place + count], "big") & ((1 << bits) - 1)
    return None if count > 8 or value == (1 << bits) - 1 else value, place + count


def _transport_packets(file: BinaryIO, size: int) -> bool:
    """MPEG-TS: packets of one size; ISO/IEC 13818-1, 2.4.3. A recording may start within one."""
    head = file.read(5 * max(TRANSPORT_PACKETS))
    for length in TRANSPORT_PACKETS:
        for start in range(length):
            found = head[start::length]
            if found and all(byte == SYNC for byte in found):
                before = 4 if length == 192 else 0  # the time stands before the sync byte
                rest = (size - start + before) % length
                file.seek(size - rest + before)
                return rest > before and file.read(1)[0] == SYNC  # else padding, which is no packet
    return False


def _program_packets(file: BinaryIO, size: int) -> bool:
    """MPEG-PS: the packets of the last pack, which state their lengths; ISO/IEC 13818-1, 2.5.3, and 11172-1."""
    file.seek(max(0, size - TAIL_BYTES))
    tail = file.read()
    place = tail.rfind(b"\0\0\1\xba")
    while 0 <= place < len(tail):
        code = tail[place : place + 4]
        if code == b"\0\0\1\xba":
            newer = tail[place + 4 : place + 5] >= b"\x40"  # MPEG-2, whose header may be stuffed
            place += 14 + (tail[place + 13] & 7 if len(tail) > place + 13 else 0) if newer else 12
        elif code == b"\0\0\1\xb9":  # the end
            return False
        elif code[:3] == b"\0\0\1" and len(tail) >= place + 6:
            place += 6 + int.from_bytes(tail[place + 4 : place + 6], "big")
        else:
            return len(tail) < place + 6  # else something that is no packet: nothing to go by
    return place > len(tail)


def _asf_header(file: BinaryIO, size: int) -> bool:
    """ASF and WMV: the header states the size of the file, unless it was broadcast; ASF specification, 3.2."""
    head = file.read(ASF_HEAD_BYTES)
    at = head.find(ASF_FILE_PROPERTIES)
    if at < 0 or len(head) < at + 92:
        return False
    (stated,) = struct.unpack_from("<Q", head, at + 40)
    (flags,) = struct.unpack_from("<I", head, at + 88)
    return not flags & 1 and size < stated


_CHECKS: dict[str, Callable[[BinaryIO, int], bool]] = {
    "mov,mp4,m4a,3gp,3g2,mj2": _iso_boxes,
    "avi": _riff_chunks,
    "matroska,webm": _matroska_segment,
    "mpegts": _transport_packets,
    "mpeg": _program_packets,
    "asf": _asf_header,
}
