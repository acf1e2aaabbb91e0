"""The compiled part of memae: one library for each width of registers, built when memae is installed.

Where there was no compiler it is missing, and torch does the same more slowly. Python calls it through
`memae.training.lanes`.
"""

from __future__ import annotations

import ctypes
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch

__all__ = ["available", "fields", "library", "loaded", "widths"]

WIDTHS = {
    "AVX512": ("avx512", "avx2", "any"),
    "AVX2": ("avx2", "any"),
}  # by what torch finds the processor to have


def available() -> bool:
    """Whether the compiled code is here, and fits this processor."""
    return library() is not None


@cache
def library() -> Any:
    """The one for the widest registers that this processor has; None where there is none."""
    return next(filter(None, map(loaded, widths())), None)


def fields(*some: tuple[Any, str]) -> list[tuple[str, Any]]:
    """Of a ctypes.Structure: names by their type."""
    return [(name, kind) for kind, names in some for name in names.split()]


def widths() -> tuple[str, ...]:
    """Of registers that this processor has, the widest first."""
    return WIDTHS.get(torch.backends.cpu.get_cpu_capability(), ("any",))


def loaded(width: str) -> Any:
    """The library for registers of a width; None where it was not built or does not load."""
    spec = find_spec(f"memae.native._{width}")
    if spec is None or spec.origin is None:
        return None
    try:
        return ctypes.CDLL(spec.origin)
    except OSError:
        return None
