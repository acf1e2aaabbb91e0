"""The committed results: one JSON file a cell, each part of it with its own origin."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock

from memae.config import current_names
from memae.errors import MemaeError
from memae.files.atomic import atomic_file
from memae.modality import modalities, modality_of

__all__ = ["RESULTS", "Cell", "CellError", "cells_in", "provenance", "write_result"]

RESULTS = Path(__file__).parent / "results"
BEFORE = {
    "image.pool": "mean",
    "image.patch_px": 1,
    "image.relative": False,
    "memory.trained": True,
}  # what was done before it was a setting


class CellError(MemaeError):
    """A cell's file cannot be used."""


@dataclass(frozen=True)
class Cell:
    """A method on a data set with one seed. Its file grows by one part (class) at a time, whole or not at all."""

    data: str
    method: str
    seed: int

    def __str__(self) -> str:
        return f"{self.data} {self.method} seed {self.seed}"

    def path(self, root: Path) -> Path:
        """Where its result lies below the folder of cells."""
        return root / self.data / self.method / f"seed-{self.seed}.json"

    def read(self, root: Path) -> dict[str, Any] | None:
        """Its file, or None where there is none.

        Raises:
            CellError: the file is no JSON object, or that of another cell.
        """
        path = self.path(root)
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise CellError(f"{path}: is no JSON ({error}); remove it to compute the cell anew") from None
        wanted = {"data": self.data, "method": self.method, "seed": self.seed}
        if (
            not isinstance(found, dict)
            or {key: found.get(key) for key in wanted} != wanted
            or "parts" not in found
        ):
            raise CellError(f"{path}: is not the file of {self}; remove it to compute the cell anew")
        return found

    def parts(self, root: Path) -> set[str]:
        """The parts that are there."""
        return set((self.read(root) or {"parts": {}})["parts"])

    def check(self, root: Path, settings: Mapping[str, Any]) -> None:
        """Refuses a file that other settings made.

        Raises:
            CellError: it names the settings that differ.
        """
        found = self.read(root)
        if found is None:
            return
        changed = list(_differences(_renamed(found["settings"]), _plain(settings)))
        if changed:
            raise CellError(
                f"{self.path(root)}: was made with other settings ({'; '.join(changed[:3])}); "
                "remove the file to compute the cell anew"
            )

    def add(
        self, root: Path, part: str, command: str, settings: Mapping[str, Any], result: Mapping[str, Any]
    ) -> None:
        """Adds a part to the file, which is read again: another process may have added one meanwhile."""
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / ".lock"):
            self._add(root, part, command, settings, result)

    def _add(
        self, root: Path, part: str, command: str, settings: Mapping[str, Any], result: Mapping[str, Any]
    ) -> None:
        self.check(root, settings)
        found = self.read(root) or {
            "data": self.data,
            "method": self.method,
            "seed": self.seed,
            "command": command,
            "settings": _plain(settings),
            "parts": {},
        }
        origin = provenance(self.seed)
        found["parts"][part] = {**result, "commit": origin["commit"], "hardware": origin["hardware"]}
        found["parts"] = dict(sorted(found["parts"].items()))
        write_result(self.path(root), found)


def cells_in(root: Path) -> Iterator[tuple[Cell, dict[str, Any]]]:
    """All cells with a file below the folder of cells, in the order of their names and seeds."""
    for path in sorted(root.glob("*/*/seed-*.json"), key=lambda path: (path.parts[-3:-1], _seed(path))):
        cell = Cell(path.parts[-3], path.parts[-2], _seed(path))
        found = cell.read(root)
        if found is not None:
            yield cell, found


def provenance(seed: int) -> dict[str, Any]:
    """What every result file says of its origin."""
    return {"seed": seed, "commit": _commit(), "hardware": _hardware()}


def write_result(path: Path, result: Mapping[str, Any]) -> None:
    """Writes a result file, whole or not at all; what is not finite becomes null, which JSON has no number for."""
    with atomic_file(path) as part:
        part.write_text(json.dumps(_plain(result), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _seed(path: Path) -> int:
    return int(path.stem.removeprefix("seed-"))


def _plain(found: Mapping[str, Any]) -> dict[str, Any]:
    """As it comes back from a file: tuples are lists there, numbers of numpy those of Python, NaN is None."""
    plain: dict[str, Any] = json.loads(json.dumps(found, default=_python), parse_constant=lambda _: None)
    return plain


def _python(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no JSON type; a method's settings and facts take JSON types")


def _renamed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a cell under their present names; old cells have those of all kinds of data, too."""
    current = current_names(settings)
    if "network" not in current:
        return current
    own = modality_of(current["network"]).name
    others = {modality.name for modality in modalities()} - {own}
    return {name: part for name, part in current.items() if name not in others}


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """The settings that differ. One that stands on one side only and is off (none, false, zero) makes no difference."""
    for key in sorted({*old, *new}):
        name = f"{above}{key}"
        was, now = old.get(key, BEFORE.get(name)), new.get(key)
        if isinstance(was, dict) or isinstance(now, dict):
            yield from _differences(was or {}, now or {}, f"{name}.")
        elif was != now and (was or now):
            yield f"{name} was {was}, is {now}"


def _commit() -> str:
    git = partial(subprocess.run, capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
    commit = git(["git", "rev-parse", "--short", "HEAD"]).stdout.strip()
    changed = git(["git", "status", "--porcelain", "--", "../src", "*.py"]).stdout.strip()
    return commit + ("+changes" if changed else "")


def _hardware() -> str:
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{os.cpu_count()} x {platform.machine()} cores ({torch.get_num_threads()} threads), {gpu}"
