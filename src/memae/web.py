"""What stands before every server: who may ask, how large a request may be, and how many may be under way.

`Gate` decides from the head of a request, before any of its body is read or parsed. So memory stays within
`Limits.waiting_bytes` however many clients there are.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import os
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from memae.errors import ConfigError

__all__ = ["Gate", "Limits", "RefusedError", "read_token"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

LOCAL = ("127.0.0.1", "localhost", "[::1]")
SHORTEST_TOKEN = 16  # characters; below, guessing is cheap
RETRY_AFTER_S = 1


@dataclass(frozen=True)
class Limits:
    """The most that a server takes; what is above gets an error and costs no memory."""

    body_bytes: int = 32 << 20
    """Of one request."""
    rows: int = 100_000
    """Of one request."""
    images: int = 64
    """Of one request."""
    px: int = 64_000_000
    """Of all images of one request, as their headers say."""
    waiting: int = 256
    """Requests under way at a time."""
    waiting_bytes: int = 256 << 20
    """Bodies of these together."""
    body_s: float = 30.0
    """For the client to send its body."""
    queue_s: float = 10.0
    """Between the end of the body and the start of the scoring."""


class RefusedError(Exception):
    """A request that gets no answer but an error.

    Args:
        status: of HTTP.
        detail: what is wrong, and the cure.
    """

    def __init__(self, status: HTTPStatus, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail

    @property
    def headers(self) -> dict[str, str]:
        """Those that the status asks for."""
        if self.status == HTTPStatus.UNAUTHORIZED:
            return {"WWW-Authenticate": "Bearer"}
        if self.status == HTTPStatus.SERVICE_UNAVAILABLE:
            return {"Retry-After": str(RETRY_AFTER_S)}
        return {}


def read_token(file: Path | None) -> str | None:
    """The token of a file or else of the environment variable MEMAE_TOKEN; None if there is neither.

    Raises:
        ConfigError: a file that cannot be read, or a token that is short or no plain text.
    """
    if file is not None:
        try:
            token = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            raise ConfigError(
                f"{file}: holds no token that can be read; check the path and its permissions"
            ) from None
    elif (token := os.environ.get("MEMAE_TOKEN", "").strip()) == "":
        return None
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        where = file or "MEMAE_TOKEN"
        raise ConfigError(f"{where}: a token has {SHORTEST_TOKEN} or more printable ASCII characters and no space")
    return token


class Gate:
    """An ASGI application around another, which sees only requests that are allowed and within the limits.

    Args:
        app: the application.
        limits: the most that it takes.
        token: clients send it as "Authorization: Bearer TOKEN"; None lets everyone in, but only under a local name,
            so that no web page can reach the server by a name of its own.
        free: paths that need no token, such as those of health.
        count: told the status of every answer.
    """

    def __init__(
        self, app: App, limits: Limits, token: str | None, free: frozenset[str], count: Callable[[int], None]
    ) -> None:
        self._app, self._limits, self._token, self._free, self._count = app, limits, token, free, count
        self._waiting = self._waiting_bytes = 0

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers, send = dict(scope["headers"]), self._counted(send)
        try:
            if scope["path"] not in self._free:
                self._admit(headers)
            length = self._length(scope["method"], headers)
            self._make_room(length)
        except RefusedError as refused:
            await _refuse(refused, send)
            return
        self._waiting += 1 if length else 0
        self._waiting_bytes += length
        try:
            await self._app(scope, _within(self._limits.body_s, receive), send)
        finally:
            self._waiting -= 1 if length else 0
            self._waiting_bytes -= length

    def _counted(self, send: Send) -> Send:
        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._count(message["status"])
            await send(message)

        return counted

    def _admit(self, headers: dict[bytes, bytes]) -> None:
        if self._token is None:
            host = headers.get(b"host", b"").decode("latin-1")
            if (host if host.endswith("]") else host.rsplit(":", 1)[0]) not in LOCAL:
                detail = "without a token the server answers to 127.0.0.1 and localhost only"
                raise RefusedError(HTTPStatus.MISDIRECTED_REQUEST, detail)
            return
        given = headers.get(b"authorization", b"")
        if not hmac.compare_digest(given, b"Bearer " + self._token.encode()):
            raise RefusedError(HTTPStatus.UNAUTHORIZED, "send the header  Authorization: Bearer TOKEN")

    def _length(self, method: str, headers: dict[bytes, bytes]) -> int:
        """Bytes of the body, as the client declares them; the server reads no more."""
        if b"transfer-encoding" in headers:
            raise RefusedError(HTTPStatus.LENGTH_REQUIRED, "send the header Content-Length; chunks are not taken")
        length = int(headers.get(b"content-length", b"0"))  # the HTTP server has checked that it is a number
        if length > self._limits.body_bytes:
            detail = f"the body has {length:,} bytes; at most {self._limits.body_bytes:,} are taken"
            raise RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)
        return length

    def _make_room(self, length: int) -> None:
        full = self._waiting >= self._limits.waiting or self._waiting_bytes + length > self._limits.waiting_bytes
        if length and full:
            raise RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, "too many requests are under way; try again later")


def _within(seconds: float, receive: Receive) -> Receive:
    """The same receiver; a body that is not complete in time is refused."""
    end, complete = time.monotonic() + seconds, False

    async def timed() -> Message:
        nonlocal complete
        if complete:
            return await receive()  # waits until the client goes away
        try:
            message = await asyncio.wait_for(receive(), max(0.0, end - time.monotonic()))
        except TimeoutError:
            raise RefusedError(HTTPStatus.REQUEST_TIMEOUT, f"the body took longer than {seconds:g} s") from None
        complete = not message.get("more_body", False)
        return message

    return timed


async def _refuse(refused: RefusedError, send: Send) -> None:
    body = json.dumps({"error": refused.detail}).encode()
    named = {"Content-Type": "application/json", "Content-Length": str(len(body)), **refused.headers}
    headers = [(name.lower().encode(), value.encode()) for name, value in named.items()]
    await send({"type": "http.response.start", "status": int(refused.status), "headers": headers})
    await send({"type": "http.response.body", "body": body})
