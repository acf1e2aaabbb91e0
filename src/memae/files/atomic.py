"""Files and folders: written so that a reader never sees half of one, found below a folder, in natural order."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from memae.errors import DataError, MemaeError, WriteError
from memae.files.parts import put_in_place, sync_folder, taken_part

__all__ = [
    "atomic_directory",
    "atomic_file",
    "check_writable",
    "folders_below",
    "natural_key",
    "no_room",
    "temporary_file",
    "unwritten",
]

PROBE_BYTES = 4096  # one block: a disk that is full takes empty files and folders

# no space left, over the quota, over the size that a file may have
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL_SAID = ("no space left", "file too large", "quota exceeded")


def natural_key(name: str) -> tuple[list[int | str], str]:
    """A sort key that puts 2 before 10; text and numbers take turns, so that keys compare."""
    parts = re.split(r"(\d+)", name)
    return [int(part) if place % 2 else part.lower() for place, part in enumerate(parts)], name


def folders_below(
    root: Path, leave_out: Callable[[str], bool] = lambda name: False
) -> Iterator[tuple[Path, list[Path]]]:
    """A folder and all folders below it, each with its files; hidden folders and files are left out.

    Links are followed, but no folder is entered twice. Real folders come first, so that a link into the same tree does
    not take a file's own path from it.

    Args:
        root: where to begin.
        leave_out: whether folders of a name are left out, with all below them.

    Raises:
        DataError: a folder that cannot be looked into.
    """
    seen: set[str] = set()
    waiting = [root]
    while waiting:
        for name, below, files in os.walk(waiting.pop(0), onerror=_refuse):
            if (real := os.path.realpath(name)) in seen:
                below.clear()
                continue
            seen.add(real)
            folder = Path(name)
            below[:] = sorted(sub for sub in below if not sub.startswith(".") and not leave_out(sub))
            waiting += [folder / sub for sub in below if (folder / sub).is_symlink()]
            # macOS leaves a hidden ._001.png beside 001.png
            yield folder, [folder / file for file in files if not file.startswith(".")]


def _refuse(error: OSError) -> None:
    raise DataError(f"{error.filename}: cannot look into this folder ({error.strerror}); check its permissions")


def no_room(error: BaseException) -> bool:
    """Whether a write failed because the disk is full; libraries other than Python's own say it in words only."""
    if isinstance(error, OSError) and error.errno in _FULL:
        return True
    return not isinstance(error, MemaeError) and any(said in str(error).lower() for said in _FULL_SAID)


@contextmanager
def temporary_file(what: str, *, named: bool = False) -> Iterator[IO[bytes]]:
    """Gives a file where TMPDIR says, which goes when the block ends and nothing reads or maps it any more.

    Args:
        what: lies in it, such as "the frames to train on"; a word of the error.
        named: until the block ends it has a name, so that a library can open it.

    Raises:
        WriteError: there is no room for it.
    """
    size = 0
    try:
        with tempfile.NamedTemporaryFile() if named else tempfile.TemporaryFile() as file:
            try:
                yield file
            finally:
                size = file.tell()
    except OSError as error:
        if not no_room(error):
            raise
        raise WriteError(
            f"{tempfile.gettempdir()}: no space left for {what}, {size >> 20:,} MiB so far; make room there, or name "
            "another folder in the variable TMPDIR"
        ) from None


def unwritten(path: Path | str, error: BaseException) -> str:
    """One message for a file that could not be written: what, why, and the cure."""
    if no_room(error):
        return f"{path}: cannot be written, no space left{_free(Path(path))}; make room there, or choose another place"
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    return f"{path}: cannot be written ({reason}); choose another place"


def _free(path: Path) -> str:
    try:
        there = _existing_folder(path)
        return f" ({shutil.disk_usage(there).free / 2**20:,.1f} MiB free in {there})"
    except OSError:
        return ""


def check_writable(path: Path) -> None:
    """Fails before the work if a file or directory could not be written to `path` after it.

    A few bytes are written beside it and removed: rights alone tell neither of a full nor of a read-only disk.

    Raises:
        WriteError: the reason and the cure.
    """
    resolved = path.resolve()
    there = _existing_folder(resolved)
    if not there.is_dir():
        raise WriteError(f"{path}: {there} is no folder; check the path")
    try:
        with taken_part(there / resolved.name, folder=False) as probe:
            probe.write_bytes(bytes(PROBE_BYTES))
    except OSError as error:
        raise WriteError(unwritten(path, error)) from None


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path`; what was written there replaces `path` if the block succeeds.

    Raises:
        WriteError: the disk is full or closed to writing, or a file is where the folder should be; nothing is left
            behind.
    """
    with _part_of(path, path, folder=False) as part:
        try:
            yield part
            _flush(part)
            part.replace(path)
            sync_folder(path.parent)
        except Exception as error:  # of whatever kind the library that wrote raises where there is no room
            if no_room(error):  # else the message would name the temporary file, or none
                raise WriteError(unwritten(path, error)) from None
            raise


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Gives an empty temporary directory beside `path` that takes its place if the block succeeds.

    Where the system cannot exchange two directories in one step, the old one is moved aside first. If the process is
    killed in between, the old one moves back when `path` is next written or recovered (`memae.files.parts.recover`).

    Raises:
        WriteError: the disk is full or closed to writing, or a file is where the folder should be; nothing is left
            behind.
    """
    named, path = path, path.resolve()  # a link stays, and what it points to is replaced
    with _part_of(path, named, folder=True) as part:
        try:
            yield part
            for file in part.iterdir():
                file.chmod(part.stat().st_mode & 0o666)  # safetensors writes 0600
                _flush(file)
            sync_folder(part)
            put_in_place(part, path)
        except Exception as error:  # of whatever kind, as above
            # a WriteError is of a file in it, which has moved away
            cause = error.__context__ if isinstance(error, WriteError) else error
            if cause and no_room(cause):
                raise WriteError(unwritten(named, cause)) from None
            raise


@contextmanager
def _part_of(path: Path, named: Path, *, folder: bool) -> Iterator[Path]:
    """A part beside `path`, which messages call `named`."""
    _make_folder_of(path)
    with ExitStack() as stack:
        try:
            part = stack.enter_context(taken_part(path, folder=folder))
        except OSError as error:  # would name the temporary file
            raise WriteError(unwritten(named, error)) from None
        yield part


def _make_folder_of(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise WriteError(f"{path}: {path.parent} is no folder; check the path") from None
    except OSError as error:
        raise WriteError(unwritten(path, error)) from None


def _existing_folder(path: Path) -> Path:
    """The nearest thing above `path` that is there."""
    return next(folder for folder in path.absolute().parents if folder.exists())


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
