"""The system's memory for tensors that come and go at every step of a training."""

from __future__ import annotations

import ctypes
import sys

__all__ = ["keep_large_blocks"]

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of malloc.h


def keep_large_blocks() -> None:
    """Tells glibc to keep freed blocks for the next step, where it else maps large ones anew each time, page by page.

    This holds for the whole process, which then keeps the memory of its busiest moment: so it is for a command that
    trains and ends, and no library call does it. Other allocators know no such setting and are left alone.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(MMAP_THRESHOLD, 1 << 30)
    mallopt(TRIM_THRESHOLD, (1 << 31) - 1)
