"""Writing so that a reader sees the old file, or the new one, and never half of one."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["atomic_directory", "atomic_file"]


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path`; what was written there replaces `path` if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(handle)
    part = Path(name)
    try:
        part.chmod(0o666 & ~_umask())  # mkstemp's 0600 would surprise whoever shares the folder
        yield part
        _flush(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Gives an empty temporary directory beside `path` that takes its place if the block succeeds.

    An old directory is moved aside first and removed last; if the move in between fails, it moves back.
    """
    path = path.resolve()  # a link stays, and what it points to is replaced
    path.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    old = part.with_suffix(".old")
    try:
        part.chmod(0o777 & ~_umask())
        yield part
        for file in part.iterdir():
            file.chmod(0o666 & ~_umask())  # safetensors writes 0600
            _flush(file)
        try:
            if path.exists():
                path.rename(old)
            part.rename(path)
        except BaseException:  # Ctrl-C between the two as well
            if old.exists() and not path.exists():
                old.rename(path)
            raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
