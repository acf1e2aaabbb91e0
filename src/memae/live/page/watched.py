"""What the page asks of a running watch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from memae.live.controls import Controls, Zone

__all__ = ["CameraState", "Watched"]


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
        """Sets the zones and masks of a camera, and stores them where the watch has its config.

        Raises:
            ConfigError: no such camera, or a zone outside of the picture.
        """
