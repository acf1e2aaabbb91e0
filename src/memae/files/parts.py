"""The hidden names beside a path: `.NAME.N.part`, where its next content is made, and `.NAME.N.old`, where it lay.

Who makes a part holds a lock on it. The system frees the lock of a process that was killed, so that whoever comes next
can tell what is left over from what is being made.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from memae.files.exchange import exchanged

try:
    import fcntl
except ImportError:  # no such locks on Windows, and so nothing is swept there
    fcntl = None  # type: ignore[assignment]

__all__ = ["put_in_place", "recover", "remove", "sync_folder", "taken_part"]

PLACES = 8  # writers to one path at a time whose leftovers are found; more are served, and theirs are not
_SYNC_UNKNOWN = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)


@contextmanager
def taken_part(path: Path, *, folder: bool) -> Iterator[Path]:
    """Makes an empty part beside `path`, for this process alone; it has the rights of other new files and folders.

    What killed processes left beside `path` is removed before, and the part itself when the block ends.

    Raises:
        OSError: it cannot be made.
    """
    recover(path)
    part, lock = _new_part(path, folder)
    try:
        yield part
    finally:
        _remove_left(part)
        if lock is not None:
            os.close(lock)


def recover(path: Path) -> None:
    """Puts a folder back that was moved aside by a process that was killed, and removes leftovers beside `path`.

    What another process is making stays.
    """
    for place in range(PLACES):
        part, old = _names(path, str(place))
        if not (os.path.lexists(part) or os.path.lexists(old)):
            continue
        lock = _locked(part, wait=False) if os.path.lexists(part) else None
        if lock is None and os.path.lexists(part):
            continue  # somebody makes it, or nobody can say
        with suppress(OSError):
            if os.path.lexists(old) and not os.path.lexists(path):
                old.rename(path)
        _remove_left(old)
        _remove_left(part)
        if lock is not None:
            os.close(lock)


def put_in_place(part: Path, path: Path) -> None:
    """A folder takes the place of what is at `path`, in one step where the system has it; the old content is removed.

    Raises:
        OSError: it cannot; `path` is what it was.
    """
    old = part.with_suffix(".old")
    if not _renamed(part, path) and not exchanged(part, path):
        try:
            path.rename(old)
            part.rename(path)
        except BaseException:  # Ctrl-C between the two as well
            if old.exists() and not path.exists():
                old.rename(path)
            raise
    sync_folder(path.parent)
    _remove_left(old)


def remove(path: Path) -> None:
    """Removes a folder: first its name, so that no half of it is ever found there."""
    recover(path)
    if not path.exists():
        return
    with suppress(OSError), taken_part(path, folder=True) as part:
        path.rename(part / path.name)
        sync_folder(path.parent)


def _remove_left(path: Path) -> None:
    """Removes a file or a folder with all that it holds, if it is there and can be removed."""
    with suppress(OSError):
        path.unlink()
        return
    shutil.rmtree(path, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Writes the names in a folder to the disk, where the system can do that."""
    try:
        opened = os.open(folder, os.O_RDONLY)
    except OSError:  # on Windows, or a folder that may be written and not read
        return
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno not in _SYNC_UNKNOWN:
            raise
    finally:
        os.close(opened)


def _renamed(part: Path, path: Path) -> bool:
    """Whether a part has got a path where nothing was; False if something is there."""
    if os.path.lexists(path):
        return False
    try:
        part.rename(path)
    except OSError:
        if os.path.lexists(path):  # another process was quicker
            return False
        raise
    return True


def _new_part(path: Path, folder: bool) -> tuple[Path, int | None]:
    """A part that this process has made and locked; None for a lock that the system or the disk does not have."""
    for place in (*map(str, range(PLACES)), secrets.token_hex(4)):
        part, _ = _names(path, place)
        try:
            part.mkdir() if folder else part.touch(exist_ok=False)
        except FileExistsError:
            continue
        lock = _locked(part, wait=True)
        # in between, somebody may have taken it for a leftover
        if os.path.lexists(part) and (lock is None or _is_at(lock, part)):
            return part, lock
        if lock is not None:
            os.close(lock)
    raise FileExistsError(errno.EEXIST, "too many write there at a time", str(path))


def _names(path: Path, place: str) -> tuple[Path, Path]:
    part = path.with_name(f".{path.name}.{place}.part")
    return part, part.with_suffix(".old")


def _locked(part: Path, *, wait: bool) -> int | None:
    """A descriptor that holds the lock of a part; None if another process has it, or nobody can have it."""
    if fcntl is None:
        return None
    opened = None
    try:
        opened = os.open(part, os.O_RDONLY | os.O_NOFOLLOW)
        fcntl.flock(opened, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        if opened is not None:
            os.close(opened)
        return None
    return opened


def _is_at(opened: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(opened), path.lstat())
    except FileNotFoundError:
        return False
