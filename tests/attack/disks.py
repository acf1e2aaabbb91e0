"""Disks that are full, closed to writing or slow, and two trainings that write to one place."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.attack.campaign import commit
from tests.attack.faults import faulty
from tests.attack.kills import Expected, Scenario, command, content, folder_for, names

__all__ = ["Disks"]

SLOW_US = 5_000  # of each write and each call that changes a file
FULL_AT = 40_000  # bytes: no scenario writes more
CLOSED_BYTES = 1 << 20  # of a file system that is then closed to writing


@dataclass
class Disks:
    """Counts of runs on bad disks, and of what they left; goes on where it was.

    Args:
        place: of its state.
        originals: with a model and its rows.
    """

    place: Path
    originals: Path
    done: dict[str, int] = field(default_factory=dict)
    """Runs by what was wrong."""
    findings: list[dict[str, Any]] = field(default_factory=list)
    commits: list[str] = field(default_factory=list)
    """That were attacked, in turn."""

    @classmethod
    def at(cls, place: Path, originals: Path) -> Disks:
        """Those of a folder, or new ones."""
        state = place / "disks.json"
        return cls(place, originals, **(json.loads(state.read_text()) if state.exists() else {}))

    def save(self) -> None:
        """Writes the state whole or not at all."""
        part = self.place / "disks.part"
        part.write_text(
            json.dumps({"commits": self.commits, "done": self.done, "findings": self.findings}, indent=1)
        )
        part.replace(self.place / "disks.json")

    def run(self, times: int, budget_s: float, chosen: tuple[Scenario, ...], seed: int = 0) -> None:
        """So many runs of each way, over the scenarios in turn."""
        end = time.monotonic() + budget_s
        if (now := commit()) not in self.commits:
            self.commits.append(now)
        ways = {"full": self._full, "closed": self._closed, "slow": self._slow, "two at once": self._two}
        for number in range(times):
            for way, run in ways.items():
                if number < self.done.get(way, 0):
                    continue
                if time.monotonic() > end:
                    return
                scenario = chosen[number % len(chosen)]
                for why in run(Expected.of(scenario, self.originals), random.Random(seed + number)):
                    self.findings.append({"way": way, "scenario": scenario.name, "number": number, "why": why})
                    print(f"{way}, {scenario.name}, {number}: {why}", file=sys.stderr, flush=True)
                self.done[way] = number + 1
                self.save()

    def _full(self, expected: Expected, rng: random.Random) -> Iterator[str]:
        """No byte more fits after some; what was there stays, and nothing half-written is left."""
        full_after = rng.choice((0, rng.randrange(FULL_AT), rng.randrange(FULL_AT // 10)))
        with folder_for(expected.scenario, self.originals) as folder:
            yield from _refused(expected, folder, f"full after {full_after} bytes", full_after=full_after)

    def _closed(self, expected: Expected, rng: random.Random) -> Iterator[str]:
        """A file system that takes no write at all; only root may make one."""
        with folder_for(expected.scenario, self.originals) as kept, contextlib.ExitStack() as stack:
            folder = kept / "closed"
            folder.mkdir()
            if _mount("-t", "tmpfs", "-o", f"size={CLOSED_BYTES}", "tmpfs", str(folder)):
                stack.callback(subprocess.run, ["umount", str(folder)], check=True)
            for path in kept.iterdir():
                if path != folder:
                    subprocess.run(["cp", "-r", str(path), str(folder)], check=True)
            if not _mount("-o", "remount,ro", str(folder)):
                folder.chmod(0o500)
                stack.callback(folder.chmod, 0o700)
                if os.access(folder, os.W_OK):
                    return
            yield from _refused(expected, folder, "closed to writing", must_fail=True)

    def _slow(self, expected: Expected, rng: random.Random) -> Iterator[str]:
        """Each write takes its time, and all is as ever."""
        with folder_for(expected.scenario, self.originals) as folder:
            ended = faulty(lambda: command(*expected.scenario.words), folder, slow_us=SLOW_US)
            if ended.code:
                yield f"ended with {ended.code}: {ended.said[-2000:]}"
            yield from _as_made(expected, folder)

    def _two(self, expected: Expected, rng: random.Random) -> Iterator[str]:
        """The same twice at once in one folder: each ends well or with a reason, and the result is whole."""
        with folder_for(expected.scenario, self.originals) as folder:
            script = "import sys; from memae.cli import main; sys.argv[0] = 'memae'; main()"
            words = [sys.executable, "-c", script, *expected.scenario.words]
            env = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
            both = [
                subprocess.Popen(words, cwd=folder, env=env, stderr=subprocess.PIPE, text=True) for _ in range(2)
            ]
            said = [process.communicate(timeout=300)[1] for process in both]
            codes = [process.returncode for process in both]
            for code, words_said in zip(codes, said, strict=True):
                if code not in (0, 1) or "Traceback" in words_said:
                    yield f"ended with {code}: {words_said[-2000:]}"
            if 0 not in codes:
                yield f"neither of two came through: {said[0][-500:]} {said[1][-500:]}"
            yield from _as_made(expected, folder)


def _refused(
    expected: Expected, folder: Path, what: str, *, must_fail: bool = False, **fault: Any
) -> Iterator[str]:
    before = {path.name: content(path) for path in folder.iterdir()}
    ended = faulty(lambda: command(*expected.scenario.words), folder, **fault)
    if ended.code not in (0, 1) or "Traceback" in ended.said:
        yield f"{what}: ended with {ended.code}: {ended.said[-2000:]}"
    if ended.code == 0:
        if must_fail:
            yield f"{what}: ended as if all had been written"
        yield from _as_made(expected, folder)
        return
    after = {path.name: content(path) for path in folder.iterdir()}
    kept = {name: value for name, value in after.items() if name.endswith(".checkpoint")}
    for name in sorted(before.keys() | after.keys() - kept.keys()):
        if before.get(name) != after.get(name) and after.get(name) != expected.made.get(name):
            yield f"{what}: {name} was {before.get(name)} and is {after.get(name)}; {ended.said[-500:]}"


def _as_made(expected: Expected, folder: Path) -> Iterator[str]:
    for name, wanted in expected.made.items():
        if (now := content(folder / name)) != wanted:
            yield f"{name} is {now}"
    if (there := names(folder)) != expected.names:
        yield f"left over: {sorted(set(there) ^ set(expected.names))}"


def _mount(*words: str) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return subprocess.run(["mount", *words], capture_output=True, check=False).returncode == 0
    return False
