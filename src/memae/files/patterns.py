"""Paths with wildcards, and the files that they and folders mean."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path

from memae.files.atomic import folders_below

__all__ = ["files_meant", "fixed_part", "is_pattern"]


def is_pattern(path: Path) -> bool:
    """Whether a path has wildcards and no file is called so."""
    return glob.has_magic(str(path)) and not path.exists()


def fixed_part(pattern: Path) -> Path:
    """The part of a pattern without wildcards."""
    place = next(place for place, part in enumerate(pattern.parts) if glob.has_magic(part))
    return Path(*pattern.parts[:place])


def files_meant(path: Path, suffixes: Sequence[str]) -> Iterator[Path]:
    """The files of these suffixes below a folder, or that a pattern matches or that lie in folders that it matches.

    Not sorted, so that the first comes soon; a file that several folders of a pattern hold comes several times.

    Raises:
        DataError: a folder that cannot be looked into.
    """
    ends = tuple(suffixes)
    if path.is_dir():
        found = (file for _, files in folders_below(path) for file in files)
        yield from (file for file in found if file.name.lower().endswith(ends))
        return
    for name in glob.iglob(str(path), recursive=True):  # noqa: PTH207  Path.glob takes no absolute pattern
        match = Path(name)
        if match.is_dir():
            yield from files_meant(match, suffixes)
        elif match.name.lower().endswith(ends):
            yield match
