"""Files that are whole outside and broken inside: what a plain change of bytes would fail at a checksum or a length."""

from __future__ import annotations

import copy
import io
import json
import random
import struct
import zipfile
import zlib
from functools import cache
from typing import Any

import numpy as np

from tests.attack.mutate import mutated, odd_number

__all__ = [
    "broken_json",
    "broken_npy",
    "broken_png",
    "broken_tensors",
    "broken_zip",
    "dumped",
    "odd_value",
    "zeros",
]

DTYPES = (
    "<f8",
    ">f4",
    "|u1",
    "<i8",
    "|b1",
    "<c16",
    "<U4",
    "|S3",
    "|O",
    "<M8[ns]",
    "<f2",
    "<f16",
    "|V8",
    "<U0",
    "|S0",
)
SHAPES = ((), (0,), (1,), (3, 8, 8), (2, 2, 2, 2, 2), (0, 0), (2**31, 2), (2**62, 4), (-1, 4), (5, 0), (1,) * 40)


def odd_value(rng: random.Random) -> Any:
    """A value of JSON that nobody expects."""
    return rng.choice(
        (
            lambda: None,
            lambda: rng.choice((True, False)),
            lambda: odd_number(rng),
            lambda: odd_number(rng) * 10**400,
            lambda: rng.choice((0.5, -0.0, 1e308, 1e-320, float("nan"), float("inf"), float("-inf"))),
            lambda: rng.choice(
                ("", "x", "nan", "1", "..", "/etc/passwd", "a\0b", "\udc80", "\u202e", "=1+1", "x" * 9999)
            ),
            lambda: rng.choice(([], {}, [[]], [None], {"": 0}, {"a": {"b": []}}, [1, "a"])),
            lambda: _nested(rng.choice((5, 90, 900, 5000)), rng.random() < 0.5),
            lambda: [odd_number(rng)] * rng.choice((1, 2, 3, 1000)),
        )
    )()


def _nested(depth: int, lists: bool) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value] if lists else {"a": value}
    return value


@cache
def zeros(count: int) -> bytes:
    """So many zeros, packed to a thousandth."""
    return zlib.compress(bytes(count), 9)


def broken_json(rng: random.Random, value: Any) -> Any:
    """A copy in which one to three places have another value, are gone, or have a neighbour."""
    changed = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = _places(changed)
        if not places:
            return odd_value(rng)
        container, key = rng.choice(places)
        way = rng.random()
        if way < 0.7:
            container[key] = _near(rng, container[key])
        elif way < 0.85:
            del container[key]
        elif isinstance(container, dict):
            container[rng.choice(("x", "__class__", key + "_"))] = odd_value(rng)
        else:
            container.insert(key, odd_value(rng))
    return changed


def _near(rng: random.Random, value: Any) -> Any:
    """Something odd, or of the same type with another value."""
    if rng.random() < 0.5 or isinstance(value, bool) or value is None:
        return odd_value(rng)
    if isinstance(value, int | float) and abs(value) < 1 << 64:
        return rng.choice((value + 1, value - 1, -value, value * 1000, value // 3, str(value)[:20]))
    if isinstance(value, str):
        return rng.choice((value + "x", value[:-1], value.upper(), ""))
    if isinstance(value, int | float):
        return 0
    if isinstance(value, list):
        return rng.choice(
            (value[:-1], value * 2, value[::-1], [value], {str(place): inner for place, inner in enumerate(value)})
        )
    return rng.choice(({}, list(value), {**value, "x": 1}))


def _places(value: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        here = waiting.pop()
        for key, inner in here.items() if isinstance(here, dict) else enumerate(here):
            found.append((here, key))
            if isinstance(inner, dict | list) and len(found) < 500:
                waiting.append(inner)
    return found


def dumped(value: Any) -> bytes:
    """JSON of any value, however deep, with lone surrogates as escapes."""
    try:
        return json.dumps(value).encode()
    except (RecursionError, ValueError):
        return b"[" * 20_000 + b"]" * 20_000


def broken_tensors(rng: random.Random, content: bytes) -> bytes:
    """A safetensors file whose header, or values, or both are changed; the length of the header fits."""
    (length,) = struct.unpack_from("<Q", content)
    header, body = content[8 : 8 + length], bytearray(content[8 + length :])
    if rng.random() < 0.6:
        header = dumped(broken_json(rng, json.loads(header)))
    else:
        values = np.frombuffer(bytes(body[: len(body) // 4 * 4]), np.float32).copy()
        some = rng.sample(range(len(values)), min(len(values), rng.choice((1, 1, 10, len(values)))))
        values[some] = rng.choice((np.nan, np.inf, -np.inf, 3e38, 1e30, -1e20, 1e-40, 0.0))
        body[: len(values) * 4] = values.tobytes()
    if rng.random() < 0.1:
        body = bytearray(mutated(rng, bytes(body), [bytes(body)]))
    stated = len(header) if rng.random() < 0.95 else odd_number(rng) & (1 << 64) - 1
    return struct.pack("<Q", stated) + header + body


def broken_npy(rng: random.Random, content: bytes) -> bytes:
    """An npy file with another header before the same numbers."""
    (length,) = struct.unpack_from("<H", content, 8)
    body = content[10 + length :]
    shape = rng.choice(SHAPES) if rng.random() < 0.7 else (odd_number(rng), rng.choice((0, 1, 2, odd_number(rng))))
    head = {"descr": rng.choice(DTYPES), "fortran_order": rng.random() < 0.5, "shape": shape}
    text = repr(head)
    way = rng.random()
    if way < 0.2:
        text = mutated(rng, text.encode(), [text.encode()]).decode("latin-1")
    elif way < 0.3:
        text = rng.choice(
            ("{}", "[" * 5000, "(" * 90, "1" * 5000, "__import__('os')", repr({**head, "x": 1}), "\0", "é{")
        )
    elif way < 0.4:
        odd = rng.choice((None, "x", [("a", "<f8"), ("b", "|O")], ("<f8", (2, 3)), 5))
        text = repr({**head, "descr": odd})
    packed = text.encode("latin-1", "replace") + b"\n"
    version = rng.choice(((1, 0), (1, 0), (1, 0), (2, 0), (3, 0), (9, 9)))
    size = struct.pack("<H" if version[0] == 1 else "<I", min(len(packed), 65535))
    return b"\x93NUMPY" + bytes(version) + size + packed + body


def broken_zip(rng: random.Random, content: bytes) -> bytes:
    """A zip archive with broken, odd, missing or doubled members; some unpack to far more than they are."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError):
        return mutated(rng, content, [content])
    packed = io.BytesIO()
    kind = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    with zipfile.ZipFile(packed, "w", kind) as archive:
        for name, member in members.items():
            way = rng.random()
            called = name
            inner = member
            if way < 0.4:
                inner = broken_npy(rng, member)
            elif way < 0.6:
                inner = mutated(rng, member, [member])
            elif way < 0.8:
                called = rng.choice(
                    ("../../x.npy", "/tmp/x.npy", "", "X", "x.npy/", "\u202e.npy", "y.npy", "x.npy")
                )
            elif way < 0.85:
                continue
            archive.writestr(zipfile.ZipInfo(called), inner, kind)
    whole = packed.getvalue()
    return mutated(rng, whole, [whole]) if rng.random() < 0.3 else whole


def broken_png(rng: random.Random, content: bytes) -> bytes:
    """A PNG whose chunks are changed, doubled, moved or gone, with checksums that are right."""
    chunks: list[tuple[bytes, bytes]] = []
    at = 8
    while at + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, at)
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    for _ in range(rng.choice((1, 1, 2, 3))):
        place = rng.randrange(len(chunks))
        name, body = chunks[place]
        way = rng.random()
        if way < 0.35 and name == b"IHDR":
            width, height = (
                rng.choice((0, 1, 8, 9, 40_000, 2**24, odd_number(rng) & 2**32 - 1)) for _ in range(2)
            )
            depth, colour = rng.choice(((8, 0), (16, 0), (8, 2), (8, 3), (1, 3), (8, 6), (16, 6), (3, 9)))
            chunks[place] = (
                name,
                struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, rng.choice((0, 1, 7))),
            )
        elif way < 0.6:
            chunks[place] = name, mutated(rng, body, [body or b"\0"])
        elif way < 0.7:
            chunks.insert(place, (name, body))
        elif way < 0.8 and len(chunks) > 1:
            del chunks[place]
        elif way < 0.9:
            text = zeros(rng.choice((10, 1 << 20, 1 << 26)))
            inner = rng.choice((b"iCCP", b"zTXt")), b"x\0\0" + text
            chunks.insert(
                min(place, 1) or 1, rng.choice((inner, (b"eXIf", b"MM\0*" + rng.randbytes(20)), (b"tRNS", b"\0")))
            )
        else:
            chunks[place] = rng.choice((b"acTL", b"fdAT", b"PLTE", b"IDAT", b"IEND", b"tEXt")), body
    parts = [content[:8]]
    for name, body in chunks:
        parts.append(struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)))
    return b"".join(parts)
