"""Which samples belong together: the photographs of one part, the rows of one host, the videos of one camera.

Samples of one group resemble each other, so a group is never divided between training and threshold. A kind of data
resolves the option `group` here: from names of files, or from one value for each sample.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from memae.errors import ConfigError, DataError, shortened
from memae.types import Key

__all__ = ["groups_of", "groups_of_files", "groups_of_values", "without_group"]

FOLDER = "folder"
COLUMNS = ("file", "group")
DELIMITERS = ",;\t"
OTHER_FORMS = (
    "give a regular expression with one group such as '(part_\\d+)', or a CSV file with the columns "
    f"{','.join(COLUMNS)}"
)
FORMS = OTHER_FORMS.replace("give a", f"give {FOLDER!r}, a")


def groups_of(source: Any, group: str | Sequence[Hashable], keys: Sequence[Key]) -> np.ndarray:
    """(S,) int64, the numbers of the groups of the samples of a source with these keys, by a column if it has such.

    Raises:
        DataError: samples without a group.
        ConfigError: a text that says no group.
    """
    if isinstance(group, str) and hasattr(source, "numbered"):
        numbers, texts = source.numbered(group)
        return groups_of_values(texts[numbers], len(keys), source.origin)
    return groups_of_files(group, keys, source.origin)


def without_group(source: Any, group: object, preprocess: Any) -> Any:
    """A source without the column of its groups, unless the model with this preprocessing has it as a feature."""
    is_column = isinstance(group, str) and hasattr(source, "numbered")
    return source.without([group]) if is_column and preprocess.unknown([group]) else source


def groups_of_values(values: Sequence[Hashable], samples: int, origin: str) -> np.ndarray:
    """(S,) int64, the numbers of the groups where one value was given for each sample.

    Raises:
        DataError: another number of values than samples, or a missing value.
    """
    if isinstance(values, np.ndarray) and values.ndim != 1:
        shape = " x ".join(map(str, values.shape))
        raise DataError(f"{origin}: `group` is of shape {shape}; give one value for each sample")
    plain = values.tolist() if isinstance(values, np.ndarray) else list(values)
    if len(plain) != samples:
        raise DataError(
            f"{origin}: `group` holds {len(plain):,} values for {samples:,} samples; give one for each sample, in "
            "their order"
        )
    for place, value in enumerate(plain):
        if value is None or value != value or value == "":  # noqa: PLR0124  NaN
            raise DataError(
                f"{origin}: `group` has no value for sample {place}; give each sample a group, and one that shares "
                "its group with no other a value of its own"
            )
        if not isinstance(value, Hashable):
            raise DataError(
                f"{origin}: `group` holds {value!r} for sample {place}, which is no name; give numbers or texts"
            )
    return _numbered(plain)


def groups_of_files(
    group: Any, names: Sequence[Key], origin: str, paths: Sequence[Path] | None = None
) -> np.ndarray:
    """(S,) int64, the numbers of the groups of samples that have names, such as images and videos.

    Args:
        group: `memae.modality.FitOptions.group`.
        names: (S,) what each is called below what was opened, with "/" between folders.
        origin: of the samples, for messages.
        paths: (S,) where each lies, so that the paths in a CSV file may begin at its own folder.

    Raises:
        DataError: samples without a group.
        ConfigError: a text that says no group.
    """
    if not isinstance(group, str | Path):
        return groups_of_values(group, len(names), origin)
    texts = [name for name in names if isinstance(name, str)]
    if len(texts) < len(names):
        raise DataError(
            f"{origin}: `group` {str(group)!r} looks into names of files, and samples in memory have none; give one "
            "value for each sample"
        )
    if str(group) == FOLDER:
        return _by_name(
            _folder, texts, origin, f"lies in no folder below {origin}", f"sort it into one, or {OTHER_FORMS}"
        )
    if str(group).lower().endswith(".csv") or Path(group).is_file():
        return _listed(Path(group), texts, origin, paths)
    pattern = _pattern(str(group))

    def found(name: str) -> str | None:
        match = pattern.search(name)
        return match[1] if match else None

    return _by_name(found, texts, origin, f"does not match the pattern '{group}' of `group`", FORMS)


def _numbered(values: Iterable[Hashable]) -> np.ndarray:
    """(S,) the numbers of equal values, in the order in which they first come."""
    known: dict[Hashable, int] = {}
    return np.array([known.setdefault(value, len(known)) for value in values], dtype=np.int64)


def _folder(name: str) -> str | None:
    folder = str(PurePosixPath(name).parent)
    return None if folder in (".", "/") else folder


def _pattern(group: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(group)
    except re.error as error:
        raise ConfigError(f"`group` '{group}': no regular expression ({error}); {FORMS}") from None
    if pattern.groups != 1:
        counted = f"{pattern.groups} groups in parentheses" if pattern.groups else "no group in parentheses"
        raise ConfigError(f"`group` '{group}': a regular expression with {counted}; {FORMS}")
    return pattern


def _by_name(
    group_of: Callable[[str], str | None], names: Sequence[str], origin: str, why: str, cure: str
) -> np.ndarray:
    found = [group_of(name) for name in names]
    if missing := [name for name, group in zip(names, found, strict=True) if not group]:
        counted = f" ({len(missing):,} of {len(names):,} files are like this)" if len(missing) > 1 else ""
        raise DataError(f"{origin}: {missing[0]} {why}{counted}; {cure}")
    return _numbered(found)


def _listed(table: Path, names: Sequence[str], origin: str, paths: Sequence[Path] | None) -> np.ndarray:
    """The groups that a CSV file names; a file whose group is left empty belongs to no other.

    Its paths may begin at its own folder, at what was opened, or anywhere between: then the longest end counts that a
    path has in common with that of the sample. The first way that names all samples is taken.
    """
    rows = _read(table)
    found: list[str | None] = []
    for way in (_by_place, _by_own_name, _by_ends):
        found = way(rows, names, table, paths)
        if None not in found:
            return _numbered(
                group or (place,) for place, group in enumerate(found)
            )  # without a name: its own group
    missing = [name for name, group in zip(names, found, strict=True) if group is None]
    example = next(iter(rows))
    raise DataError(
        f"{table}: has no group for {len(missing):,} of the {len(names):,} files of {origin}, such as {missing[0]}; "
        f"its paths are like {example}. Add a row for each file, with its path from the folder of this table or from "
        "what is opened"
    )


def _by_place(
    rows: dict[str, str], names: Sequence[str], table: Path, paths: Sequence[Path] | None
) -> list[str | None]:
    placed = {os.path.abspath(table.parent / file): group for file, group in rows.items()}  # noqa: PTH100  resolve would follow links
    return [placed.get(os.path.abspath(path)) for path in paths or names]  # noqa: PTH100  resolve would follow links


def _by_own_name(
    rows: dict[str, str], names: Sequence[str], table: Path, paths: Sequence[Path] | None
) -> list[str | None]:
    return [rows.get(name) for name in names]


def _by_ends(
    rows: dict[str, str], names: Sequence[str], table: Path, paths: Sequence[Path] | None
) -> list[str | None]:
    """By the one row whose path ends as the name does, or is the end of it."""
    by_last: dict[str, list[tuple[tuple[str, ...], str]]] = {}
    for file, group in rows.items():
        parts = PurePosixPath(file).parts
        by_last.setdefault(parts[-1], []).append((parts, group))

    def group_of(name: str) -> str | None:
        own = PurePosixPath(name).parts
        ends = [
            group
            for parts, group in by_last.get(own[-1], ())
            if parts[-len(own) :] == own or own[-len(parts) :] == parts
        ]
        if len(set(ends)) > 1:
            raise DataError(
                f"{table}: {name} is the end of several paths with different groups; write the paths from what is "
                "opened, or keep the table in the folder that they begin at"
            )
        return ends[0] if ends else None

    return [group_of(name) for name in names]


def _read(table: Path) -> dict[str, str]:
    """The group of each file that a CSV file names; "" where it leaves the group empty."""
    try:
        lines = table.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise DataError(f"{table}: cannot read this table of groups ({error.strerror}); check the path") from None
    except UnicodeDecodeError:
        raise DataError(f"{table}: is not UTF-8 text; save the table of groups as UTF-8") from None
    header = lines[0] if lines else ""
    reader = csv.DictReader(lines, delimiter=max(DELIMITERS, key=header.count))
    if missing := [column for column in COLUMNS if column not in (reader.fieldnames or ())]:
        raise DataError(
            f"{table}: has no column {missing[0]!r} in its first line ({shortened(header)}); write {','.join(COLUMNS)} "
            "there, and one file with its group on each line below"
        )
    rows: dict[str, str] = {}
    for row in reader:
        file, group = (str(row[column] or "").strip() for column in COLUMNS)
        file = PurePosixPath(file.replace("\\", "/")).as_posix()
        if file == ".":
            raise DataError(f"{table}: line {reader.line_num} lacks a file; fill it in, or remove the line")
        if rows.setdefault(file, group) != group:
            raise DataError(f"{table}: line {reader.line_num} gives {file} a second group; keep one of them")
    if not rows:
        raise DataError(f"{table}: lists no file; write one file with its group on each line below the header")
    return rows
