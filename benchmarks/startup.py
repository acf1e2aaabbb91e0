"""How long the command line takes to say something that needs no data: help, version, a wrong option.

The limit is the interpreter itself, which starts and ends in the same round. Real time is what a person waits, and
what a busy machine blurs; processor time is what the process itself used.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from typing import Any

__all__ = ["LIMIT_S", "startup_benchmark"]

LIMIT_S = 0.3  # for help, real time
COMMANDS = {
    "interpreter": ["-c", "pass"],
    "help": ["-m", "memae", "--help"],
    "help_of_score": ["-m", "memae", "score", "--help"],
    "version": ["-m", "memae", "--version"],
    "wrong_option": ["-m", "memae", "fit", "--nonsense"],
}


def startup_benchmark(rounds: int = 10) -> dict[str, Any]:
    """Seconds of each command, real and of the processor: medians over interleaved rounds, and the spread."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for words in COMMANDS.values():
        _seconds(words)  # the first run reads the files from the disk
    for _ in range(rounds):
        for name, words in COMMANDS.items():
            found[name].append(_seconds(words))
    real, used = ({name: [pair[at] for pair in pairs] for name, pairs in found.items()} for at in (0, 1))
    return {
        "real_s": {name: round(statistics.median(values), 3) for name, values in real.items()},
        "processor_s": {name: round(statistics.median(values), 3) for name, values in used.items()},
        "spread_real_s": {name: [round(f(values), 3) for f in (min, max)] for name, values in real.items()},
        "spread_processor_s": {name: [round(f(values), 3) for f in (min, max)] for name, values in used.items()},
        "help_below_limit": statistics.median(real["help"]) < LIMIT_S,
        "limit_s": LIMIT_S,
        "rounds": rounds,
    }


def _seconds(words: list[str]) -> tuple[float, float]:
    before, started = _used(), time.perf_counter()
    subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return time.perf_counter() - started, _used() - before


def _used() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
