"""What a served camera of any protocol has in common: a thread of its own, which can be stalled and stopped."""

from __future__ import annotations

import socketserver
import threading
import time
from typing import Self


class CameraServer:
    """Serves in a thread from `serve` on; `stalled` holds pictures back, and `close` cuts all connections."""

    def __init__(self) -> None:
        self.stalled = False
        self._over = threading.Event()

    def serve(self, server: socketserver.TCPServer) -> None:
        """Begins to serve."""
        self._server, self.port = server, server.server_address[1]
        self._thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def is_over(self) -> bool:
        """Whether it was closed."""
        return self._over.is_set()

    def wait_until(self, at: float) -> bool:
        """Waits for a time of the monotonic clock; whether the server goes on then."""
        return not self._over.wait(max(0.0, at - time.monotonic()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends it."""
        self._over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
