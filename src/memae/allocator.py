"""Memory of the system for tensors that come and go at every step."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable

__all__ = ["give_back", "keep_large_blocks"]

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of malloc.h


def keep_large_blocks() -> None:
    """Tells glibc to keep freed blocks for the next step, where it maps large ones anew each time, page by page.

    This holds for the whole process, which then keeps the memory of its busiest moment. Other allocators know no such
    setting and are left alone.
    """
    if mallopt := _of_glibc("mallopt"):
        mallopt(MMAP_THRESHOLD, 1 << 30)
        mallopt(TRIM_THRESHOLD, (1 << 31) - 1)


def give_back() -> None:
    """Tells glibc to give back what is free now; the next step pays for new pages.

    What stays, such as one event in an hour, lies between blocks that come and go, and keeps them from being used
    again: over hours these holes would grow without an end.
    """
    if malloc_trim := _of_glibc("malloc_trim"):
        malloc_trim(0)


def _of_glibc(name: str) -> Callable[..., int] | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        return getattr(ctypes.CDLL(None), name)  # type: ignore[no-any-return]
    except (OSError, AttributeError):
        return None
