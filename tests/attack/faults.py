"""Faults of disks and processes: a library loaded before the C library, and what a forked process does with it."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import math
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.attack.watch import Watch

__all__ = ["RAISED", "Ended", "again_with", "build", "faulty", "import_all", "is_loaded"]

LIBRARY = "MEMAE_FAULTS"
"""The variable that names the library; processes with it have it loaded."""
LOOK_S = 0.001
RAISED = 3  # exit code of a process in which something was raised that no caller expects
MOST_S, ASLEEP_S = 60.0, 60.0  # of CPU time and of sleep for one process, after which it hangs


@dataclass(frozen=True)
class Ended:
    """How a forked process ended."""

    code: int
    """The exit code, or minus the number of the signal."""
    said: str
    """What it wrote to stderr."""
    steps: int = 0
    """Calls that changed files; 0 where it was killed."""
    cpu_s: float = 0.0
    """CPU time that it took, but for the last moment."""
    imported: tuple[str, ...] = ()
    """Modules that it imported; none where it was killed."""

    @property
    def killed(self) -> bool:
        """By SIGKILL."""
        return self.code == -signal.SIGKILL


def build(folder: Path) -> Path:
    """Compiles the library.

    Raises:
        FileNotFoundError: there is no C compiler.
    """
    source, library = Path(__file__).with_suffix(".c"), folder / "faults.so"
    command = [os.environ.get("CC", "cc"), "-O1", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True)
    return library


def again_with(library: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    """Runs this package once more, in a process in which the library is loaded before the C library."""
    env = os.environ | {"LD_PRELOAD": str(library), LIBRARY: str(library)}
    return subprocess.run([sys.executable, "-m", "tests.attack", *words], env=env, check=False)


def is_loaded() -> bool:
    """Whether this process has the library."""
    return LIBRARY in os.environ


def faulty(
    work: Callable[[], object],
    folder: Path,
    *,
    kill_at: int = 0,
    full_after: int = -1,
    slow_us: int = 0,
    kill_after_cpu_s: float = math.inf,
) -> Ended:
    """Does some work in a forked process that has the faults.

    Args:
        work: what is done; SystemExit is an exit.
        folder: the working directory.
        kill_at: the number of the fsync, rename or remove that it does not reach; 0: none.
        full_after: bytes that it can write; -1: all.
        slow_us: microseconds that each such call takes, and each write.
        kill_after_cpu_s: the CPU time at which it is killed.
    """
    read_said, write_said = os.pipe()
    read_told, write_told = os.pipe()
    if not (pid := os.fork()):
        os.dup2(write_said, 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        _child(work, folder, (kill_at, full_after, slow_us), write_told)
    os.close(write_said)
    os.close(write_told)
    os.set_blocking(read_said, False)
    said, hung, watch, cpu_s = b"", "", Watch(pid, MOST_S, ASLEEP_S), 0.0
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        said += _available(read_said)
        if done:
            break
        cpu_s = watch.cpu_s
        if (hung := watch.hangs()) or cpu_s > kill_after_cpu_s:
            status = watch.end()
            break
        time.sleep(LOOK_S)
    said += _available(read_said)
    with os.fdopen(read_told) as told, os.fdopen(read_said):
        steps, *imported = told.read().split() or ["0"]
    code, words = os.waitstatus_to_exitcode(status), said.decode(errors="replace")
    if hung:
        code, words = RAISED, f"hangs, {hung}\n{words}"
    return Ended(code, words, int(steps), cpu_s, tuple(imported))


def import_all(names: Iterable[str]) -> None:
    """Imports what a forked process imported, so that the next need not."""
    for name in names:
        with contextlib.suppress(Exception):  # parts of packages that are no modules of their own
            importlib.import_module(name)


def _available(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 16)
    except BlockingIOError:
        return b""


def _child(work: Callable[[], object], folder: Path, faults: tuple[int, int, int], answer: int) -> None:
    """Does the work, and ends the process."""
    code, before = RAISED, set(sys.modules)
    try:
        os.chdir(folder)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115  open to the end of the process
        library = ctypes.CDLL(os.environ[LIBRARY])
        library.faults_set(*map(ctypes.c_long, faults))
        try:
            work()
            code = 0
        except SystemExit as exit:
            code = exit.code if isinstance(exit.code, int) else int(exit.code is not None)
        library.faults_steps.restype = ctypes.c_long
        told = f"{library.faults_steps()} {' '.join(set(sys.modules) - before)}"
        os.write(answer, told.encode()[: select.PIPE_BUF * 15])  # all of it fits into a pipe
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
