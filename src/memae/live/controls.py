"""What people may change while a watch runs, from the page and from Home Assistant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

__all__ = ["Controls", "Zone"]


class Controls(Protocol):
    """The part of a running watch that takes commands. Any thread may call it."""

    def set_threshold(self, source: str, threshold: float) -> None:
        """Sets the score that begins an event of this camera.

        Raises:
            ConfigError: no such camera, or a threshold that is not finite.
        """

    def set_enabled(self, source: str, is_enabled: bool) -> None:
        """Turns the watch of this camera on or off; without it, no event begins.

        Raises:
            ConfigError: no such camera.
        """


@dataclass(frozen=True)
class Zone:
    """A part of the picture, as a polygon in shares of its width and height."""

    name: str
    points: tuple[tuple[float, float], ...]
    """Three or more corners (x, y), from 0 to 1."""
    is_ignored: bool = False
    """A mask: errors there do not count. Otherwise, if there is any zone, only errors within zones count."""
