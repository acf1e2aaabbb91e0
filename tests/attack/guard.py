"""What counts as a finding, and how it is noticed while hostile input is read."""

from __future__ import annotations

import os
import random
import resource
import sys
import tempfile
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import memae
from memae.errors import MemaeError, OutOfMemoryError
from tests.attack.canary import CANARY
from tests.attack.kinds import Kind, Known, emptied
from tests.attack.readers import WrongAnswerError

__all__ = ["MOST_BYTES", "OUTCOMES", "Found", "Guard"]

MOST_BYTES = 1 << 30  # of memory for an input under 1 MB
ADDRESSES = 3 << 30  # bytes of address space that a worker may take beyond its own: the machine is not to swap
ROOM = 12 << 30  # the same for an input that asked for more than that
OUTCOMES = ("read", "refused", "traceback", "crash", "hang", "code", "outside", "memory", "wrong")
"""The first two are as it should be; "outside" is a file written elsewhere, "wrong" a score that cannot be."""

STARTS_CODE = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "pickle.find_class",
               "socket.connect", "socket.getaddrinfo", "ctypes.dlopen")  # fmt: skip
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@dataclass(frozen=True)
class Found:
    """What came of one input."""

    outcome: str
    why: str = ""


class Guard:
    """Watches this process while it reads hostile input. A process has one, as an audit hook cannot be removed.

    Args:
        place: a folder of this process alone. Input and temporary files lie there, and writes elsewhere are findings.
        limited: the address space is limited, too.
    """

    def __init__(self, place: Path, *, limited: bool = True) -> None:
        self.place = place
        self.input, self._mark = place / "input", place / "mark"
        self.input.mkdir(parents=True, exist_ok=True)
        (place / "bin").mkdir(exist_ok=True)
        planted = place / "bin" / "gs"  # Pillow would start it for an EPS
        planted.write_text(f'#!/bin/sh\ntouch "${CANARY}"\n')
        planted.chmod(0o755)
        (place / "tmp").mkdir(exist_ok=True)
        self.peaked = False
        """The greatest memory of this process is no longer that of reading nothing, so it can tell no more findings."""
        self._seen: list[str] = []
        self._watching = False
        self.settle()
        sys.addaudithook(self._audit)
        if limited:
            _limit_addresses(ADDRESSES)

    def attempt(self, kind: Kind, seed: int, known: Known) -> Found:
        """Makes the input of a seed, reads it, and says what came of it; the input stays in `input`."""
        path = self.make(kind, seed, known)
        return self.read(kind, seed, path, known)

    def make(self, kind: Kind, seed: int, known: Known) -> Path:
        """Writes the input of a seed."""
        return kind.make(random.Random(seed), emptied(self.input), known)

    def read(self, kind: Kind, seed: int, path: Path, known: Known) -> Found:
        """Reads an input that is there."""
        before = _peak_bytes()
        self._seen.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            temporary, tempfile.tempdir = tempfile.tempdir, str(self.place / "tmp")
            environment = {name: os.environ.get(name) for name in (CANARY, "PATH")}
            os.environ[CANARY] = str(self._mark)
            os.environ["PATH"] = f"{self.place / 'bin'}{os.pathsep}{environment['PATH']}"
            self._watching = True
            try:
                found = _outcome(kind, seed, path, known)
            finally:
                self._watching = False
                tempfile.tempdir = temporary
                for name, value in environment.items():
                    if value is None:
                        del os.environ[name]
                    else:
                        os.environ[name] = value
        if self._mark.exists():
            self._mark.unlink()
            return Found("code", "the canary was tripped")
        if self._seen:
            what = self._seen[0]
            return Found("outside" if what.startswith("open") else "code", what)
        if found.outcome == "memory":
            found = self._with_room(kind, seed, path, known, found.why)
        after = _peak_bytes()
        if after > before and after - self._resident > MOST_BYTES:
            self.peaked = True
            return Found("memory", f"a peak of {after >> 20} MiB, {self._resident >> 20} MiB before")
        return found

    def _with_room(self, kind: Kind, seed: int, path: Path, known: Known, why: str) -> Found:
        """Reads once more in a process with more room: a finding is what is taken, and not what is asked for."""
        reading, writing = os.pipe()
        if not (pid := os.fork()):
            try:
                _limit_addresses(ROOM)
                _outcome(kind, seed, path, known)
                os.write(writing, str(_peak_bytes()).encode())
            finally:
                os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as answer:
            peak = int(answer.read() or 0)
        os.waitpid(pid, 0)
        if peak and peak - self._resident < MOST_BYTES:
            return Found("refused", why)
        return Found("memory", f"a peak of {peak >> 20} MiB, or none told: {why}")

    def settle(self) -> None:
        """Takes the memory of this moment as that of a process that reads nothing."""
        self._resident: int = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    def _audit(self, event: str, values: tuple[Any, ...]) -> None:
        if not self._watching:
            return
        if event == "open":
            path, _, flags = values
            if flags & WRITES and isinstance(path, str | bytes | os.PathLike):
                where = os.path.realpath(os.fsdecode(path))
                if not where.startswith((f"{self.place.resolve()}/", "/dev/null")):
                    self._seen.append(f"open {where}")
        elif event == "ctypes.dlopen" and _is_our_own(values[0]):
            return
        elif event in STARTS_CODE:
            self._seen.append(f"{event} {values!r}"[:300])


def _is_our_own(library: str | None) -> bool:
    """Whether it is the process itself, for the call that exchanges two folders, or a library of the package."""
    return library is None or Path(library).is_relative_to(Path(memae.__file__).parent)


def _outcome(kind: Kind, seed: int, path: Path, known: Known) -> Found:
    try:
        kind.read(random.Random(seed ^ 0x5EED), path, known)
    except (OutOfMemoryError, MemoryError) as error:
        return Found("memory", _told(error))
    except MemaeError as error:
        message = str(error).lower()
        short = any(
            word in message for word in ("out of memory", "unable to allocate", "can't allocate", "malloc of")
        )
        return Found("memory" if short else "refused", message[:500])
    except WrongAnswerError as error:
        return Found("wrong", str(error))
    except Exception as error:
        return Found("traceback", _told(error))
    return Found("read")


def _told(error: BaseException) -> str:
    """The type, the message, and the innermost calls."""
    calls = traceback.extract_tb(error.__traceback__)
    where = " < ".join(f"{Path(call.filename).name}:{call.lineno}" for call in reversed(calls[-6:]))
    return f"{type(error).__name__}: {str(error)[:300]} at {where}"


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _limit_addresses(more: int) -> None:
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + more, resource.RLIM_INFINITY))
