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
    Streaming,
    build_memory,
    memory_presets,
    register,
    widening,
)
from memae.memory.memae import MemAE, MemAESettings
from memae.memory.memstream import MemStream, MemStreamSettings
from memae.memory.memto import MEMTO, MEMTOSettings
from memae.memory.mnad import MNAD, MNADSettings
from memae.memory.mpn import MPN, MPNSettings

__all__ = [
    "MEMTO",
    "MNAD",
    "MPN",
    "Editable",
    "Fillable",
    "LossTerm",
    "MEMTOSettings",
    "MNADSettings",
    "MPNSettings",
    "MemAE",
    "MemAESettings",
    "MemStream",
    "MemStreamSettings",
    "Memory",
    "MemoryRead",
    "MemorySettings",
    "Streaming",
    "build_memory",
    "memory_presets",
    "register",
    "widening",
]
