"""The memory that a config asks for."""

from __future__ import annotations

from memae.config import Config
from memae.errors import ConfigError
from memae.memory.base import Memory, build_memory

__all__ = ["memory_of"]


def memory_of(config: Config, item_dim: int, default_items: int, samples: int | None) -> Memory | None:
    """A fresh memory of items of a width; None for a plain autoencoder.

    Args:
        config: whose section `memory` says all else.
        item_dim: C.
        default_items: N, where the config leaves it open.
        samples: there are to train on; a memory that is filled from them has no more items.

    Raises:
        ConfigError: numbers that do not go together.
    """
    section = config.memory
    if not section.enabled:
        if section.score == "distance":
            raise ConfigError(
                "memory.score = 'distance' needs a memory, and memory.enabled is false; leave one out"
            )
        return None
    num_items = section.num_items or default_items
    return build_memory(
        section, num_items if section.trained or not samples else min(num_items, samples), item_dim
    )
