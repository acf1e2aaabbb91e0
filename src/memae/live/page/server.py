"""The server of the page, in a thread beside the watch."""

from __future__ import annotations

import socket
import threading
from typing import Any

import uvicorn

from memae.errors import ConfigError

__all__ = ["PageServer", "listen"]

LOCAL = ("127.0.0.1", "::1", "localhost")


def listen(host: str, port: int, token: str | None) -> socket.socket:
    """A socket for the page; port 0 takes a free one.

    Raises:
        ConfigError: an address that others can reach and no token, or one that cannot be had.
    """
    if token is None and host not in LOCAL:
        raise ConfigError(f"page: others can reach {host}, so give a token, or take 127.0.0.1")
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise ConfigError(f"page: {host}, port {port}: {error.strerror or error}; take another") from None


class PageServer:
    """Serves an application until it is closed.

    Args:
        app: made by `create_app`.
        listener: made by `listen`.
    """

    def __init__(self, app: Any, listener: socket.socket) -> None:
        settings = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=1,
            lifespan="off",
        )
        self.port: int = listener.getsockname()[1]
        self._listener, self._server = listener, uvicorn.Server(settings)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listener]}, name="memae page", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Ends the streams and the server."""
        self._server.should_exit = True
        self._thread.join(5)
        self._listener.close()
