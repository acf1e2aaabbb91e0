"""Clients of an HTTP server in a process of their own: each sends the same request again once it has its answer."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Self

import psutil

__all__ = ["Load", "Request", "load"]

STUCK_S = 60  # after which a request is given up, with an error
LOOK_S = 0.05  # between looks at the memory of the server


class Request(NamedTuple):
    """A POST request."""

    path: str
    body: bytes
    kind: str
    headers: str = ""

    @property
    def sent(self) -> bytes:
        """All of its bytes."""
        head = f"POST {self.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {self.kind}\r\n{self.headers}"
        return f"{head}Content-Length: {len(self.body)}\r\n\r\n".encode() + self.body


@dataclass
class Load:
    """What came of some seconds of requests."""

    seconds: float = 0.0
    latencies_s: list[float] = field(default_factory=list)
    """Of each request that was answered with 200."""
    statuses: Counter[int] = field(default_factory=Counter)
    retry_after: int = 0
    """Answers with this header."""
    peak_bytes: int = 0
    """Resident memory of the server, if it was watched."""
    processor_s: float = 0.0
    """Time of the processors that the server took, if it was watched."""

    @property
    def answered(self) -> int:
        """Requests that were answered with 200."""
        return len(self.latencies_s)

    @classmethod
    def joined(cls, loads: Sequence[Load]) -> Self:
        """Several as one."""
        found = cls()
        for one in loads:
            found.seconds += one.seconds
            found.latencies_s += one.latencies_s
            found.statuses += one.statuses
            found.retry_after += one.retry_after
            found.processor_s += one.processor_s
        return found


def load(port: int, request: Request, clients: int, seconds: float, watched: psutil.Process | None = None) -> Load:
    """Sends a request for some seconds by so many clients at once, each over a connection of its own.

    Args:
        port: of the server on this machine.
        request: what all send.
        clients: at once.
        seconds: until the last request is sent.
        watched: the server, whose memory and time are looked at.
    """
    context, before = multiprocessing.get_context("spawn"), _processor_s(watched)
    with context.Pool(1) as pool:
        waiting, peak = pool.apply_async(_send, (port, request.sent, clients, seconds)), 0
        while not waiting.ready():
            peak = max(peak, watched.memory_info().rss if watched else 0)
            waiting.wait(LOOK_S)
        found = waiting.get()
    found.peak_bytes, found.processor_s = peak, _processor_s(watched) - before
    return found


def _processor_s(process: psutil.Process | None) -> float:
    times = process.cpu_times() if process else None
    return times.user + times.system if times else 0.0


def _send(port: int, sent: bytes, clients: int, seconds: float) -> Load:
    return asyncio.run(_all(port, sent, clients, seconds))


async def _all(port: int, sent: bytes, clients: int, seconds: float) -> Load:
    found, start = Load(), time.perf_counter()
    await asyncio.gather(*(_client(port, sent, start + seconds, found) for _ in range(clients)))
    found.seconds = time.perf_counter() - start
    return found


async def _client(port: int, sent: bytes, end: float, found: Load) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while (start := time.perf_counter()) < end:
        async with asyncio.timeout(STUCK_S):
            writer.write(sent)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            status = int(head.split(b" ", 2)[1])
            await reader.readexactly(int(head.partition(b"\r\ncontent-length:")[2].split(b"\r\n", 1)[0]))
        found.statuses[status] += 1
        found.retry_after += b"\r\nretry-after:" in head
        if status == 200:
            found.latencies_s.append(time.perf_counter() - start)
        else:
            await asyncio.sleep(0.1)  # a tenth of what the server asks for
    writer.close()
    await writer.wait_closed()
