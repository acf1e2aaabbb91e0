"""Waiting for what other threads and processes do."""

import time
from collections.abc import Callable


def until(what: Callable[[], object], seconds: float = 30.0) -> None:
    """Waits until something is true, and fails if it is not in time."""
    ends_at = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < ends_at, "it did not happen in time"
        time.sleep(0.02)
