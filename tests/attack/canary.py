"""A pickle that leaves a mark when it is loaded."""

from __future__ import annotations

import os
from typing import Any

__all__ = ["CANARY", "Trip"]

CANARY = "MEMAE_CANARY"
"""The variable with the path of the mark, which loading the pickle or starting the planted Ghostscript makes."""


class Trip:
    """An object whose pickle makes a file when it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f'touch "${CANARY}"',)
