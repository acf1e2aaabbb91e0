"""Ctrl-C at a moment that suits the work."""

from __future__ import annotations

import signal
import threading
from typing import Any

__all__ = ["Interrupt"]


class Interrupt:
    """Lets Ctrl-C end a training between two steps; a second one ends it where it stands.

    Python raises KeyboardInterrupt between any two instructions: in the middle of a checkpoint, or while a logger
    holds a lock that its thread then waits for.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None

    def __enter__(self) -> Interrupt:
        mine = threading.current_thread() is threading.main_thread()
        if mine and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before:
            signal.signal(signal.SIGINT, self._before)

    def check(self) -> None:
        """Raises the KeyboardInterrupt that was asked for."""
        if self.asked:
            raise KeyboardInterrupt

    def _ask(self, _signal: int, _frame: object) -> None:
        self.check()
        self.asked = True
