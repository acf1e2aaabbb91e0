"""One request of HTTP, whose errors hold no address."""

from __future__ import annotations

import base64
import http.client
import ssl
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from memae.live.sinks.sink import SinkError

__all__ = ["Answer", "request"]

MOST_BYTES = 64 << 10  # of an answer


@dataclass(frozen=True)
class Answer:
    """What a server answers."""

    status: int
    body: bytes


def request(
    method: str, address: str, body: bytes, headers: dict[str, str], *, name: str, timeout_s: float
) -> Answer:
    """Sends a body and reads the answer; redirects are not followed.

    Args:
        method: such as "POST".
        address: its user and password, if any, go into the header Authorization.
        body: JSON.
        headers: further ones.
        name: of the sink, in errors.
        timeout_s: of each step on the network.

    Raises:
        SinkError: no answer; it names the host and nothing else of the address.
    """
    parts = urlsplit(address)
    assert parts.hostname
    if parts.username:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        headers = {"Authorization": f"Basic {base64.b64encode(login).decode()}", **headers}
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname, parts.port, timeout=timeout_s)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request(method, path, body, {"Content-Type": "application/json", **headers})
        answer = connection.getresponse()
        return Answer(answer.status, answer.read(MOST_BYTES))
    except (OSError, http.client.HTTPException, ssl.SSLError, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise SinkError(f"{name}: {parts.hostname} does not answer ({reason})") from None
    finally:
        connection.close()
