"""The old place of `memae.image.render`; it goes with 0.2.0."""

from memae.image.render import save_overlay as save_map

__all__ = ["save_map"]
