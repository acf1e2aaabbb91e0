"""Bytes made hostile: flipped, overwritten, cut, doubled, taken out, moved, and joined with those of other files."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

__all__ = ["mutated", "odd_number"]

NUMBERS = (
    0,
    1,
    -1,
    2,
    7,
    127,
    128,
    255,
    256,
    32767,
    32768,
    65535,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**63 - 1,
    -(2**63),
)
WIDTHS = (1, 2, 4, 8)
LONGEST = 1 << 16  # bytes that one change adds at most
TIMES = (1, 1, 1, 1, 2, 2, 3, 5, 10)  # how many changes one input gets

Way = Callable[[random.Random, bytearray, Sequence[bytes]], None]


def mutated(rng: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
    """A changed copy of a file.

    Args:
        rng: decides all.
        content: of a good file; may be empty.
        others: good files of the same kind, to take parts of.
    """
    changed = bytearray(content)
    for _ in range(rng.choice(TIMES)):
        if changed:
            rng.choice(WAYS)(rng, changed, others)
    return bytes(changed)


def odd_number(rng: random.Random) -> int:
    """A number at the edge of what some width holds."""
    return rng.choice(NUMBERS) + rng.choice((0, 0, 0, 1, -1))


def _flip(rng: random.Random, content: bytearray, _: Sequence[bytes]) -> None:
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def _overwrite(rng: random.Random, content: bytearray, _: Sequence[bytes]) -> None:
    content[rng.randrange(len(content))] = rng.choice((0, 0xFF, 0x7F, 0x80, 0x20, rng.randrange(256)))


def _number(rng: random.Random, content: bytearray, _: Sequence[bytes]) -> None:
    width = rng.choice(WIDTHS)
    at = rng.randrange(max(1, len(content) - width))
    number = odd_number(rng) & (1 << 8 * width) - 1
    content[at : at + width] = number.to_bytes(width, rng.choice(("little", "big")))


def _cut(rng: random.Random, content: bytearray, _: Sequence[bytes]) -> None:
    del content[rng.randrange(len(content)) :]


def _take_out(rng: random.Random, content: bytearray, _: Sequence[bytes]) -> None:
    at, length = _span(rng, content)
    del content[at : at + length]


def _double(rng: random.Random, content: bytearray, _: Sequence[bytes]) -> None:
    at, length = _span(rng, content)
    span = bytes(content[at : at + length])
    content[at:at] = (span * rng.choice((1, 2, 50, 1000)))[:LONGEST]


def _move(rng: random.Random, content: bytearray, _: Sequence[bytes]) -> None:
    at, length = _span(rng, content)
    span = bytes(content[at : at + length])
    del content[at : at + length]
    to = rng.randrange(len(content) + 1)
    content[to:to] = span


def _fill(rng: random.Random, content: bytearray, _: Sequence[bytes]) -> None:
    at, length = _span(rng, content)
    content[at : at + length] = bytes([rng.choice((0, 0xFF, 0x41))]) * length


def _noise(rng: random.Random, content: bytearray, _: Sequence[bytes]) -> None:
    at = rng.randrange(len(content) + 1)
    content[at:at] = rng.randbytes(rng.choice((1, 4, 64)))


def _join(rng: random.Random, content: bytearray, others: Sequence[bytes]) -> None:
    other = rng.choice(others)
    if not other:
        return
    if rng.random() < 0.5:  # the end of another file
        del content[rng.randrange(len(content)) :]
        content += other[rng.randrange(len(other)) :]
        return
    start = rng.randrange(len(other))
    part = other[start : start + rng.choice((2, 8, 64, 512))]
    at = rng.randrange(len(content))
    content[at : at + len(part)] = part


def _span(rng: random.Random, content: bytearray) -> tuple[int, int]:
    return rng.randrange(len(content)), rng.choice((1, 2, 4, 16, 64, 256, len(content) // 2 + 1))


WAYS: tuple[Way, ...] = (
    _flip,
    _flip,
    _overwrite,
    _number,
    _number,
    _cut,
    _take_out,
    _double,
    _move,
    _fill,
    _noise,
    _join,
)
