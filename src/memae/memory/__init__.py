"""The memories: what normality is stored in, how it is read, started and watched over.

`base` has the interface, and each family lies in a file of its own. To import this package registers them all.
"""

from memae.memory.base import (
    Editable,
    Fillable,
    LossTerm,
    Memory,
    MemoryRead,
    MemorySettings,
    build_memory,
    register,
)
from memae.memory.memae import MemAE, MemAESettings

__all__ = [
    "Editable",
    "Fillable",
    "LossTerm",
    "MemAE",
    "MemAESettings",
    "Memory",
    "MemoryRead",
    "MemorySettings",
    "build_memory",
    "register",
]
