"""How many threads torch takes, here and in every other thread of the process.

Torch keeps this number for each thread and for the process: a thread takes the number of the process when it first uses
torch. Each call of `torch.set_num_threads` changes both. So a thread that starts while another is in a block of
`one_thread` would keep one thread for ever, and would hand that on to the process at the end of a block of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["available_threads", "one_thread"]


class _Blocks(threading.local):
    """The blocks of `one_thread` that this thread is in."""

    depth = 0


class _Process:
    """The blocks that any thread is in, and the threads that torch may take outside of them."""

    blocks = 0
    outside = 0


_lock = threading.Lock()
_here, _process = _Blocks(), _Process()


@contextmanager
def one_thread() -> Iterator[None]:
    """A block in which torch uses one thread.

    Steps of small networks are so short that threads wait for each other longer than they work; on a busy machine they
    take fifty times as long as one thread alone.
    """
    with _lock:
        if not _process.blocks:
            _process.outside = torch.get_num_threads()
        _process.blocks += 1
        torch.set_num_threads(1)
    _here.depth += 1
    try:
        yield
    finally:
        _here.depth -= 1
        with _lock:
            _process.blocks -= 1
            if not _here.depth:
                torch.set_num_threads(_process.outside)


def available_threads() -> int:
    """Threads that torch may take here: one in a block of `one_thread`, and else as many as outside of all blocks."""
    if _here.depth:
        return 1
    with _lock:
        return _process.outside if _process.blocks else torch.get_num_threads()
