"""A browser sends no header of its own, so a cookie carries the token; and no other site may send commands."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import urlsplit

from starlette.responses import RedirectResponse

__all__ = ["CookieToken", "is_right", "same_origin"]

COOKIE = "memae_token"
Scope = MutableMapping[str, Any]


class CookieToken:
    """An ASGI application before the gate: puts the token of the cookie where the gate looks for it.

    Args:
        app: the gate.
        token: who asks for the page without it is sent to the login; None for none.
    """

    def __init__(self, app: Callable[[Scope, Any, Any], Awaitable[None]], token: str | None) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Serves one request."""
        if scope["type"] == "http" and not any(name == b"authorization" for name, _ in scope["headers"]):
            cookies = b"; ".join(value for name, value in scope["headers"] if name == b"cookie")
            given = _token(cookies.decode("latin-1")) or ""
            if scope["path"] == "/" and self._token is not None and not is_right(given, self._token):
                await RedirectResponse("/login", HTTPStatus.SEE_OTHER)(scope, receive, send)
                return
            scope = {**scope, "headers": [*scope["headers"], (b"authorization", f"Bearer {given}".encode())]}
        await self._app(scope, receive, send)


def is_right(given: str, token: str) -> bool:
    """Whether a token is the right one, in a time that does not tell how much of it is."""
    return hmac.compare_digest(given.encode(), token.encode())


def same_origin(origin: str | None, host: str) -> bool:
    """Whether a request comes from the page itself; programs other than browsers send no origin."""
    return origin is None or urlsplit(origin).netloc == host


def _token(cookies: str) -> str | None:
    try:
        found = SimpleCookie(cookies).get(COOKIE)
    except CookieError:
        return None
    return found.value if found else None
