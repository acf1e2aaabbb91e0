"""What people changed of cameras while a watch ran, kept in a file so that it holds after a new start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from memae.errors import ConfigError, WriteError
from memae.files.atomic import atomic_file, unwritten
from memae.live.config import CameraConfig
from memae.live.controls import Zone

__all__ = ["CHANGES", "Changes", "read_changes", "write_changes"]

CHANGES = "changes.json"


@dataclass(frozen=True)
class Changes:
    """What was changed of one camera; None leaves what the config says."""

    threshold: float | None = None
    is_enabled: bool | None = None
    zones: tuple[Zone, ...] | None = None

    def over(self, camera: CameraConfig) -> CameraConfig:
        """The camera with these changes. An event then ends at the usual share of a changed threshold."""
        if self.threshold is not None:
            camera = replace(camera, on_threshold=self.threshold, off_threshold=None)
        if self.is_enabled is not None:
            camera = replace(camera, is_enabled=self.is_enabled)
        return camera if self.zones is None else replace(camera, zones=self.zones)

    def __str__(self) -> str:
        """The names of what was changed."""
        return ", ".join(name for name in ("threshold", "is_enabled", "zones") if getattr(self, name) is not None)


_FILE = TypeAdapter(dict[str, Changes])


def read_changes(folder: Path) -> dict[str, Changes]:
    """The changes by the name of the camera; none where nothing was changed.

    Raises:
        ConfigError: the file is damaged.
    """
    path = folder / CHANGES
    try:
        return _FILE.validate_json(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValidationError, ConfigError):
        raise ConfigError(
            f"{path}: cannot be read as what was changed on the page; delete it to go by the config alone"
        ) from None


def write_changes(folder: Path, changes: Mapping[str, Changes]) -> None:
    """Replaces the file in one step.

    Raises:
        WriteError: it cannot be written; the file is as it was.
    """
    path = folder / CHANGES
    try:
        with atomic_file(path) as part:
            part.write_bytes(_FILE.dump_json(dict(changes), indent=1, exclude_none=True))
    except OSError as error:
        raise WriteError(unwritten(path, error)) from None
