"""The kinds of input that are attacked: how one is made from a seed, and what of memae reads it."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from memae import Detector

__all__ = ["Kind", "Known", "Make", "Read"]


class Known:
    """The originals, and the models that read what is made of them."""

    def __init__(self, originals: Path, models: bool = True) -> None:
        self.originals = originals
        self.files = {
            folder.name: {file.name: file.read_bytes() for file in sorted(folder.iterdir()) if file.is_file()}
            for folder in sorted(originals.iterdir())
            if folder.is_dir()
        }
        self.models = {
            folder.name: {file.name: file.read_bytes() for file in sorted(folder.iterdir())}
            for folder in sorted((originals / "models").iterdir())
        }
        self.checkpoint = {
            file.name: file.read_bytes() for file in sorted((originals / "checkpoint" / "main").iterdir())
        }
        self.pickle = (originals / "pickle").read_bytes()
        self.detectors = {
            name: Detector.load(originals / "models" / name, device="cpu", engine="torch")
            for name in (self.models if models else ())
        }

    def some(self, rng: random.Random, kind: str) -> tuple[str, bytes, list[bytes]]:
        """A good file of a kind: its name, its content, and the content of all of that kind."""
        files = self.files[kind]
        name = rng.choice(list(files))
        return name, files[name], list(files.values())


Make = Callable[[random.Random, Path, Known], Path]
"""Writes one hostile input into an empty folder, and says what to open."""
Read = Callable[[random.Random, Path, Known], None]
"""Reads it in one of the ways that memae offers; raises what that raises."""


@dataclass(frozen=True)
class Kind:
    """A kind of input."""

    name: str
    share: float
    """Of all inputs, relative to the others."""
    make: Make
    read: Read


def emptied(folder: Path) -> Path:
    """The folder without anything in it."""
    for inner in folder.iterdir():
        if inner.is_dir() and not inner.is_symlink():
            shutil.rmtree(inner)
        else:
            inner.unlink()
    return folder
