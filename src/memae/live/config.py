"""watch.toml: the model, the cameras, when frames make an event, and where events go.

model = "street.model"
out = "watch"

[cameras.gate]
address = "rtsp://camera.lan/main"
detect = "rtsp://camera.lan/small"
zones = { path = [[0.0, 0.4], [1.0, 0.4], [1.0, 1.0], [0.0, 1.0]] }

[events]
before_s = 5
greatest_s = 300

[[sinks]]
kind = "jsonl"
folder = "watch"
"""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from memae.errors import ConfigError
from memae.files.settings import read_toml
from memae.live.address import Address
from memae.live.controls import Zone
from memae.live.sinks.home_assistant import plain_name
from memae.video.events import EventRule
from memae.video.masks import watched_polygons

__all__ = ["CameraConfig", "EventSettings", "Keep", "WatchConfig", "read_watch_config"]


@dataclass(frozen=True)
class CameraConfig:
    """One camera."""

    name: str
    address: Address
    """Of the stream that clips are cut from."""
    detect: Address | None = None
    """Of a smaller stream that is scored in its place; None scores `address`."""
    on_threshold: float | None = None
    """The score that begins an event; None: calibrated, or the model's own."""
    off_threshold: float | None = None
    zones: tuple[Zone, ...] = ()
    """Parts of the picture to watch or to leave out; none watches all."""
    is_enabled: bool = True
    """False scores nothing of it until someone turns it on."""

    def watched(self, height: int, width: int) -> np.ndarray | None:
        """(height, width) bool: what zones and masks leave; None if they leave all.

        Raises:
            ConfigError: they leave nothing.
        """
        if not self.zones:
            return None
        zones, masks = (
            [one.points for one in self.zones if one.is_ignored is ignored] for ignored in (False, True)
        )
        watched = watched_polygons(zones, masks, height, width)
        if not watched.any():
            raise ConfigError(f"camera {self.name}: its zones and masks leave nothing to watch")
        return watched


@dataclass(frozen=True)
class EventSettings:
    """When frames make an event, for all cameras."""

    false_alarms_per_hour: float = 1.0
    least_s: float = 0.0
    merge_gap_s: float = 1.0
    cool_down_s: float = 0.0
    before_s: float = 5.0
    after_s: float = 5.0
    greatest_s: float = 300.0
    gone_s: float = 10.0
    """A camera that has been away for so long ends its event."""

    def rule(self, on_threshold: float, off_threshold: float | None = None) -> EventRule:
        """The rule for a threshold."""
        return EventRule(on_threshold, off_threshold, self.least_s, self.merge_gap_s, self.cool_down_s)


@dataclass(frozen=True)
class Keep:
    """How long stills and clips are kept."""

    days: float = 14.0
    gigabytes: float = 20.0


@dataclass(frozen=True)
class WatchConfig:
    """All of a watch."""

    model: Path
    cameras: tuple[CameraConfig, ...]
    out: Path = Path("watch")
    """Folder of stills, clips and `changes.json`."""
    events: EventSettings = EventSettings()
    keep: Keep = Keep()
    sinks: tuple[Mapping[str, Any], ...] = ()
    """Tables for `memae.live.sinks.config.outboxes`."""

    def __post_init__(self) -> None:
        if not self.cameras:
            raise ConfigError("no camera to watch; name one, or write a table [cameras.NAME] with its address")
        for camera in self.cameras:
            _check_name(camera.name)
        names = Counter(camera.name for camera in self.cameras)
        if names.most_common(1)[0][1] > 1:
            twice = names.most_common(1)[0][0]
            raise ConfigError(f"two cameras are called {twice!r}; give each a name of its own in a config file")
        topics: dict[str, str] = {}
        for name in names:
            if (other := topics.setdefault(plain_name(name), name)) != name:
                raise ConfigError(
                    f"the cameras {other!r} and {name!r} are both {plain_name(name)!r} in topics of MQTT; rename one"
                )


def _check_name(name: str) -> None:
    if not name.strip() or name.startswith(".") or not name.isprintable() or set(name) & set("/\\"):
        raise ConfigError(
            f"camera {name!r}: its name stands in addresses, topics and folders; take letters, digits, spaces, - and _"
        )


T = TypeVar("T")


def read_watch_config(path: Path) -> WatchConfig:
    """The settings of a TOML file.

    Raises:
        ConfigError: an unknown key, a value that does not suit it, or a zone outside the picture; no message shows an
            address beyond its host.
        DataError: a video file or device that is not there.
    """
    found = read_toml(path)
    _check_keys(found, WatchConfig, str(path))
    for key in ("model", "cameras"):
        if key not in found:
            raise ConfigError(f"{path}: {key} is missing")
    if not isinstance(found["cameras"], dict):
        raise ConfigError(f"{path}: cameras: write a table [cameras.NAME] for each")
    cameras = tuple(_camera(name, table, f"{path}: cameras.{name}") for name, table in found["cameras"].items())
    events = _numbers(EventSettings, found.get("events", {}), f"{path}: events")
    keep = _numbers(Keep, found.get("keep", {}), f"{path}: keep")
    out = Path(found.get("out", "watch"))
    return WatchConfig(Path(found["model"]), cameras, out, events, keep, tuple(found.get("sinks", ())))


def _camera(name: str, table: Any, origin: str) -> CameraConfig:
    if not isinstance(table, dict):
        raise ConfigError(f"{origin}: write it as a table with an address")
    _check_keys(table, CameraConfig, origin, "masks")
    if "name" in table or not isinstance(table.get("address"), str):
        raise ConfigError(f"{origin}: give its address as text; its name is that of the table")
    numbers: dict[str, Any] = {
        key: _number(table[key], f"{origin}.{key}") for key in ("on_threshold", "off_threshold") if key in table
    }
    zones = tuple(
        zone
        for key, is_ignored in (("zones", False), ("masks", True))
        for zone in _zones(table.get(key, {}), is_ignored, f"{origin}.{key}")
    )
    is_enabled = table.get("is_enabled", True)
    if not isinstance(is_enabled, bool):
        raise ConfigError(f"{origin}.is_enabled: give true or false")
    detect = Address(table["detect"]) if "detect" in table else None
    camera = CameraConfig(name, Address(table["address"]), detect, zones=zones, is_enabled=is_enabled)
    return replace(camera, **numbers)


def _zones(table: Any, is_ignored: bool, origin: str) -> Iterator[Zone]:
    if not isinstance(table, dict):
        raise ConfigError(f"{origin}: name each polygon, such as {{ path = [[0, 0.5], [1, 0.5], [1, 1]] }}")
    for name, points in table.items():
        pairs = isinstance(points, list) and all(isinstance(one, list) and len(one) == 2 for one in points)
        numbers = pairs and all(type(value) in (int, float) for one in points for value in one)
        if not numbers:
            raise ConfigError(f"{origin}.{name}: a polygon is a list of 3 or more points [x, y]")
        try:
            yield Zone(name, tuple((float(x), float(y)) for x, y in points), is_ignored)
        except ConfigError as error:
            raise ConfigError(f"{origin}: {error}") from None


def _numbers(kind: type[T], table: Any, origin: str) -> T:
    if not isinstance(table, dict):
        raise ConfigError(f"{origin}: write it as a table")
    _check_keys(table, kind, origin)
    return kind(**{key: _number(value, f"{origin}.{key}") for key, value in table.items()})


def _number(value: Any, origin: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ConfigError(f"{origin}: give a number, 0 or more")
    return float(value)


def _check_keys(table: Mapping[str, Any], kind: type[Any], origin: str, *more: str) -> None:
    known = [*(one.name for one in fields(kind)), *more]
    for key in table:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
            raise ConfigError(f"{origin}: {key}: unknown key; {hint}")
