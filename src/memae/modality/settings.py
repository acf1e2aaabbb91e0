"""What a user asked for before the data says what kind it is: a preset, and changes to it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from memae.config import Config, current_names, override, read_toml
from memae.errors import ConfigError
from memae.memory.base import memory_presets
from memae.modality.interface import Modality
from memae.modality.registry import current_preset, modalities, modality_named, preset_config
from memae.types import Source

__all__ = ["ChosenSettings"]


class ChosenSettings:
    """A preset with changes to it.

    Args:
        preset: see `memae.modality.preset_config`.
        changes: nested mappings, or the path of a TOML file.

    Raises:
        ConfigError: preset and changes suit no kind of data.
    """

    def __init__(self, preset: str | None, changes: Mapping[str, Any] | str | Path | None) -> None:
        from_file = isinstance(changes, str | Path)
        self._preset, self._origin = current_preset(preset), str(changes) if from_file else "settings"
        found = read_toml(changes) if isinstance(changes, str | Path) else dict(changes or {})
        self._changes = current_names(found, warn=True)
        self._check()

    def config(self, kind: str, source: Source | None = None) -> Config:
        """All settings for a kind of data.

        Args:
            kind: its name.
            source: the samples, which choose the network where neither a preset nor settings name one.

        Raises:
            ConfigError: they do not suit it.
            DataError: the source cannot be read.
        """
        named = self._changes.get("network")
        if isinstance(named, str):
            preset_config(named, kind)  # the changes may name a network for another kind of data
        config = override(preset_config(self._preset, kind), self._changes, self._origin)
        of_memory = self._preset in memory_presets() and self._preset not in modality_named(kind).presets
        if source is None or named is not None or not (of_memory or self._preset is None):
            return config
        network = modality_named(kind).default_preset(source, config)
        preset = f"{network}-{self._preset}" if of_memory else network
        return override(preset_config(preset, kind), self._changes, self._origin)

    def kind(self) -> Modality | None:
        """The kind of data that the preset or the changes name; None where several suit."""
        if self._preset is None and "network" not in self._changes:
            return None
        suiting = [modality for modality in modalities() if self._suits(modality.name)]
        return suiting[0] if len(suiting) == 1 else None

    def _suits(self, kind: str) -> bool:
        try:
            self.config(kind)
        except ConfigError:
            return False
        return True

    def _check(self) -> None:
        own = [modality for modality in modalities() if modality.name in self._changes]
        problems: list[tuple[bool, ConfigError]] = []
        for modality in own or modalities():
            suits = False
            try:
                preset_config(self._preset, modality.name)
                suits = True
                self.config(modality.name)
                return
            except ConfigError as error:
                problems.append((suits, error))
        # first what is wrong where the preset suits the data
        raise next((error for suits, error in problems if suits), problems[0][1])
