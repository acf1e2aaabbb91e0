"""What people see of a running watch and may change, from the page and from Home Assistant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from memae.errors import ConfigError

__all__ = ["CameraState", "Controls", "Watched", "Zone"]


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
    """A part of the picture, as a polygon in shares of its width and height.

    Raises:
        ConfigError: fewer than three corners, or one outside the picture.
    """

    name: str
    points: tuple[tuple[float, float], ...]
    """Three or more corners (x, y), from 0 to 1."""
    is_ignored: bool = False
    """A mask: errors there do not count. Otherwise, if there is any zone, only errors within zones count."""

    def __post_init__(self) -> None:
        if len(self.points) < 3:
            raise ConfigError(f"{self.name}: a polygon is a list of 3 or more points [x, y]")
        for x, y in self.points:
            if not (0 <= x <= 1 and 0 <= y <= 1):
                raise ConfigError(
                    f"{self.name}: the point [{x:g}, {y:g}] lies outside the picture; give shares of its width and "
                    "height, from 0 to 1"
                )


@dataclass(frozen=True)
class CameraState:
    """A camera as it is now."""

    name: str
    is_up: bool
    """Frames arrive."""
    note: str
    """Such as "picture frozen" or "night mode"; empty if there is nothing to tell."""
    fps: float
    lag_s: float
    drops: int
    is_enabled: bool
    score: float | None
    """Of the last frame; None before the first."""
    threshold: float
    zones: tuple[Zone, ...] = ()


class Watched(Controls, Protocol):
    """A running watch. Any thread may call it, and none waits long."""

    def cameras(self) -> Sequence[CameraState]:
        """All cameras, in the order of the config."""

    def picture(self, source: str, *, with_anomalies: bool) -> bytes | None:
        """The newest frame as JPEG; None before the first.

        Args:
            source: name of the camera.
            with_anomalies: draws the anomaly map and the boxes of its regions.
        """

    def set_zones(self, source: str, zones: tuple[Zone, ...]) -> None:
        """Sets the zones and masks of a camera, and keeps them for the next start.

        Raises:
            ConfigError: no such camera, or a zone outside of the picture.
        """
