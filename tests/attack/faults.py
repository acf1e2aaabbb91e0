"""Faults of disks and processes: a library loaded before the C library, and what a forked process does with it."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["RAISED", "Ended", "again_with", "build", "faulty", "is_loaded"]

LIBRARY = "MEMAE_FAULTS"
"""The variable that names the library; processes with it have it loaded."""
RAISED = 3  # exit code of a process in which something was raised that no caller expects
MOST_S = 120.0  # for one process, after which it hangs


class Ended:
    """How a forked process ended.

    Args:
        code: the exit code, or minus the number of the signal.
        said: what it wrote to stderr.
        steps: calls that changed files; 0 where it was killed.
    """

    def __init__(self, code: int, said: str, steps: int) -> None:
        self.code, self.said, self.steps = code, said, steps

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
    kill_after_s: float | None = None,
) -> Ended:
    """Does some work in a forked process that has the faults.

    Args:
        work: what is done; SystemExit is an exit.
        folder: the working directory.
        kill_at: the number of the fsync, rename or remove that it does not reach; 0: none.
        full_after: bytes that it can write; -1: all.
        slow_us: microseconds that each such call takes, and each write.
        kill_after_s: when it is killed; None: never.
    """
    read_said, write_said = os.pipe()
    read_steps, write_steps = os.pipe()
    if not (pid := os.fork()):
        os.dup2(write_said, 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        _child(work, folder, (kill_at, full_after, slow_us), write_steps)
    os.close(write_said)
    os.close(write_steps)
    started, status, hung = time.monotonic(), 0, False
    os.set_blocking(read_said, False)
    said = b""
    limit = MOST_S if kill_after_s is None else kill_after_s
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        said += _available(read_said)
        if done:
            break
        if time.monotonic() - started > limit:
            hung = kill_after_s is None
            os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            break
        time.sleep(0.002)
    said += _available(read_said)
    with os.fdopen(read_steps) as steps, os.fdopen(read_said):
        counted = int(steps.read() or 0)
    code = os.waitstatus_to_exitcode(status)
    return Ended(RAISED if hung else code, f"hung\n{said.decode()}" if hung else said.decode(), counted)


def _available(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 16)
    except BlockingIOError:
        return b""


def _child(work: Callable[[], object], folder: Path, faults: tuple[int, int, int], steps: int) -> None:
    """Does the work, and ends the process."""
    code = RAISED
    try:
        os.chdir(folder)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
        library = ctypes.CDLL(os.environ[LIBRARY])
        library.faults_set(*map(ctypes.c_long, faults))
        try:
            work()
            code = 0
        except SystemExit as exit:
            code = exit.code if isinstance(exit.code, int) else int(exit.code is not None)
        library.faults_steps.restype = ctypes.c_long
        os.write(steps, str(library.faults_steps()).encode())
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
