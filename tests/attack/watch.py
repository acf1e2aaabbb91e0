"""Whether a process still works: by the CPU time that it takes, as a busy machine may stop anybody for minutes."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

__all__ = ["Watch"]


class Watch:
    """Looks at a process now and then.

    Args:
        pid: a child of this process.
        busy_s: CPU time after which it hangs.
        idle_s: time asleep after which it hangs; time in which it waits for a core does not count.
    """

    def __init__(self, pid: int, busy_s: float, idle_s: float) -> None:
        self.pid, self._busy_s, self._idle_s = pid, busy_s, idle_s
        self.restart()

    def restart(self) -> None:
        """Counts from now on."""
        self._from_s, self._asleep_s, self._looked = self._cpu()[1], 0.0, time.monotonic()

    @property
    def cpu_s(self) -> float:
        """CPU time since the last restart."""
        return self._cpu()[1] - self._from_s

    def hangs(self) -> str:
        """Why it hangs; empty if it does not."""
        state, cpu_s = self._cpu()
        now = time.monotonic()
        if state in "SD":
            self._asleep_s += min(now - self._looked, 1.0)  # this process may have been stopped, too
        self._looked = now
        if cpu_s - self._from_s > self._busy_s:
            return f"{cpu_s - self._from_s:.0f} s of CPU time"
        return f"{self._asleep_s:.0f} s asleep" if self._asleep_s > self._idle_s else ""

    def end(self) -> int:
        """Kills it; its status."""
        os.kill(self.pid, signal.SIGKILL)
        return os.waitpid(self.pid, 0)[1]

    def _cpu(self) -> tuple[str, float]:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return fields[0], (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
