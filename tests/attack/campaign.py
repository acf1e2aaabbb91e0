"""A long attack: one forked worker after another reads hostile input, watched by a process that reads none."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

import memae
from tests.attack.all_kinds import KINDS
from tests.attack.guard import OUTCOMES, Found, Guard
from tests.attack.kinds import Kind, Known
from tests.attack.readers import command, read_checkpoint
from tests.attack.watch import Watch

__all__ = [
    "ASLEEP_S",
    "HANG_S",
    "LOOK_S",
    "OUTCOMES",
    "Campaign",
    "commit",
    "kind_of",
    "originals_in",
    "quick_folder",
]

HANG_S = 20.0  # of CPU time for one input, which is under 1 MB
ASLEEP_S = 60.0  # without taking a core
LOOK_S = 0.25
WARMING = 12  # readings of each good file, besides one by the command line
ATTACK_FAILED = 3  # exit code of a worker that is itself at fault
INPUTS_OF_A_WORKER = 10_000
SHOWN = 20  # findings of a kind and outcome that are kept with their input


def kind_of(seed: int, kinds: tuple[Kind, ...] = KINDS) -> Kind:
    """The kind of the input of a seed, by their shares."""
    return random.Random(~seed).choices(kinds, [kind.share for kind in kinds])[0]


@dataclass
class Campaign:
    """Counts of what came of the inputs of seeds from the first, and the next seed.

    Args:
        place: a folder of its own, in which it goes on where it was.
    """

    place: Path
    first_seed: int = 0
    next_seed: int = 0
    seconds: float = 0.0
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    """Of each kind, how many inputs had each outcome."""
    findings: list[dict[str, Any]] = field(default_factory=list)
    commits: list[str] = field(default_factory=list)
    """That were attacked, in turn."""

    @classmethod
    def at(cls, place: Path, first_seed: int = 0) -> Campaign:
        """The campaign of a folder, or a new one that begins at a seed."""
        place.mkdir(parents=True, exist_ok=True)
        try:
            state = json.loads((place / "state.json").read_text())
        except FileNotFoundError:
            state = {"first_seed": first_seed, "next_seed": first_seed}
        return cls(place, **state)

    def run(self, budget_s: float, most: int | None = None, kinds: tuple[Kind, ...] = KINDS) -> None:
        """Attacks for so long, or until so many inputs were read in all; Ctrl-C ends it early and keeps the counts."""
        known = Known(originals_in(self.place))
        if (now := commit()) not in self.commits:
            self.commits.append(now)
        started, before = time.monotonic(), self.seconds
        with _shared() as shared:
            while (left := started + budget_s - time.monotonic()) > 0:
                wanted = INPUTS_OF_A_WORKER if most is None else min(INPUTS_OF_A_WORKER, most - self.read)
                if wanted <= 0:
                    break
                try:
                    self._one_worker(shared, known, kinds, wanted, left)
                finally:
                    self.seconds = before + time.monotonic() - started
                    self.save()

    @property
    def read(self) -> int:
        """How many inputs were read."""
        return self.next_seed - self.first_seed

    def save(self) -> None:
        """Writes the state whole or not at all."""
        state = {name: value for name, value in vars(self).items() if name != "place"}
        part = self.place / "state.part"
        part.write_text(json.dumps(state, indent=1))
        part.replace(self.place / "state.json")

    def _one_worker(
        self, shared: np.ndarray, known: Known, kinds: tuple[Kind, ...], wanted: int, left_s: float
    ) -> None:
        """Forks a worker, and counts what it reads until it ends, crashes, hangs, or the time is over."""
        first = self.next_seed
        shared[:] = 0
        shared[NEXT] = first
        with tempfile.TemporaryDirectory(prefix="memae-attack-", dir=quick_folder()) as folder:
            pid = os.fork()
            if pid == 0:
                _work(shared, Path(folder), self.place, known, kinds, range(first, first + wanted))
            status = self._watched(pid, shared, left_s)
            reached = int(shared[NEXT])
            self.next_seed = reached
            self._count(shared, kinds)
            if status is not None:  # the input that it was reading is a finding
                kind = kind_of(reached, kinds)
                self._add(kind.name, Found(*status), reached)
                kept = self.place / "inputs" / f"{status[0]}-{kind.name}" / str(reached)
                kept.mkdir(parents=True, exist_ok=True)
                kind.make(random.Random(reached), kept, known)
                self.next_seed = reached + 1
        lines = self.place / "findings.jsonl"
        if lines.exists():
            for line in lines.read_text().splitlines():
                self.findings.append(json.loads(line))
            lines.unlink()

    def _watched(self, pid: int, shared: np.ndarray, left_s: float) -> tuple[str, str] | None:
        """Waits for a worker; what became of the input that it did not come through, if any."""
        end, seed, watch = time.monotonic() + left_s, -1, Watch(pid, HANG_S, ASLEEP_S)
        try:
            while True:
                done, status = os.waitpid(pid, os.WNOHANG)
                if done:
                    return _crash(status)
                if int(shared[NEXT]) != seed:
                    seed = int(shared[NEXT])
                    watch.restart()
                elif why := watch.hangs():
                    watch.end()
                    return "hang", why
                if time.monotonic() > end:
                    watch.end()
                    return None
                time.sleep(LOOK_S)
        except KeyboardInterrupt:
            watch.end()
            raise

    def _count(self, shared: np.ndarray, kinds: tuple[Kind, ...]) -> None:
        table = shared[COUNTS:].reshape(-1, len(OUTCOMES))
        for kind, row in zip(kinds, table[: len(kinds)].tolist(), strict=True):
            counted = self.counts.setdefault(kind.name, dict.fromkeys(OUTCOMES, 0))
            for outcome, number in zip(OUTCOMES, row, strict=True):
                counted[outcome] += number

    def _add(self, kind: str, found: Found, seed: int) -> None:
        self.counts.setdefault(kind, dict.fromkeys(OUTCOMES, 0))[found.outcome] += 1
        self.findings.append({"kind": kind, "seed": seed, "outcome": found.outcome, "why": found.why})
        print(f"{found.outcome}: {kind} of seed {seed}: {found.why}", file=sys.stderr, flush=True)


NEXT, COUNTS = 0, 1  # places in the shared numbers: the next seed, then a row of outcomes for each kind
NUMBERS = COUNTS + 64 * len(OUTCOMES)


def _crash(status: int) -> tuple[str, str] | None:
    """What a worker that ended by itself died of, if it did not come to its end."""
    code = os.waitstatus_to_exitcode(status)
    if code == ATTACK_FAILED:
        raise RuntimeError("a worker failed before or between inputs; its traceback is above")
    if code < 0:
        return "crash", f"ended by signal {-code}"
    return ("crash", f"ended with {code}") if code else None


@contextmanager
def _shared() -> Iterator[np.ndarray]:
    yield np.frombuffer(mmap.mmap(-1, 8 * NUMBERS), dtype=np.int64)


def _work(
    shared: np.ndarray, place: Path, kept: Path, known: Known, kinds: tuple[Kind, ...], seeds: range
) -> None:
    """Reads the inputs of seeds, and ends the process."""
    code = ATTACK_FAILED
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the watcher is told of it, and ends this
        sys.dont_write_bytecode = True
        sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
        with Path(os.devnull).open("w") as nothing:  # libtiff writes there what it finds odd
            os.dup2(nothing.fileno(), 2)
        torch.set_num_threads(1)
        guard = Guard(place)
        table = shared[COUNTS:].reshape(-1, len(OUTCOMES))
        number_of = {kind.name: number for number, kind in enumerate(kinds)}
        _warm_up(guard, known, kinds)
        guard.settle()
        for seed in seeds:
            kind = kind_of(seed, kinds)
            found = guard.attempt(kind, seed, known)
            if found.outcome not in ("read", "refused"):
                _keep(guard, kept, kind, seed, found)
            table[number_of[kind.name], OUTCOMES.index(found.outcome)] += 1
            shared[NEXT] = seed + 1
            if guard.peaked:
                break  # the peak stays, and the next would not be seen
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def _warm_up(guard: Guard, known: Known, kinds: tuple[Kind, ...]) -> None:
    """Reads good input in all ways, so that all that is imported late is there."""
    good = {"csv": "comma", "parquet": "plain-none", "arrow": "plain-lz4", "npy": "images", "npz": "stored",
            "image": "grey.png", "video": "h264.mp4"}  # fmt: skip
    for kind in kinds:
        if kind.name in good:
            suffix = {"image": "png", "video": "mp4"}.get(kind.name, kind.name)
            path = guard.input / f"good.{suffix}"
            path.write_bytes(known.files[kind.name][good[kind.name]])
            for seed in range(WARMING):
                guard.read(kind, seed, path, known)
    command("inspect", known.originals / "models" / "table")
    command("score", known.originals / "models" / "table", known.originals / "checkpointed.csv")
    shutil.copytree(known.originals / "checkpoint", guard.input / "c")
    read_checkpoint(random.Random(0), guard.input / "c", known)


def _keep(guard: Guard, kept: Path, kind: Kind, seed: int, found: Found) -> None:
    """Adds a line about a finding, and copies its input."""
    with (kept / "findings.jsonl").open("a") as file:
        line = {"kind": kind.name, "seed": seed, "outcome": found.outcome, "why": found.why}
        file.write(json.dumps(line) + "\n")
    print(f"{found.outcome}: {kind.name} of seed {seed}: {found.why}", file=sys.stderr, flush=True)
    folder = kept / "inputs" / f"{found.outcome}-{kind.name}"
    if not folder.exists() or len(list(folder.iterdir())) < SHOWN:
        shutil.copytree(guard.input, folder / str(seed), dirs_exist_ok=True)


def originals_in(place: Path) -> Path:
    """The originals of a campaign, made in another process: this one is not to have run torch before it forks.

    They are made anew where the code is another, as a checkpoint is of one config.
    """
    originals, code = place / "originals", _digest_of_code()
    made_by = originals / "made-by"
    if not made_by.exists() or made_by.read_text() != code:
        shutil.rmtree(originals, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "tests.attack.originals", str(originals)], check=True)
        made_by.write_text(code)
    return originals


def commit() -> str:
    """The commit that is attacked, with a mark where files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=7"]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _digest_of_code() -> str:
    digest = hashlib.sha256()
    for file in (*sorted(Path(memae.__file__).parent.rglob("*.py")), Path(__file__).with_name("originals.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def quick_folder() -> str | None:
    """A folder in memory, where there is one."""
    memory = Path("/dev/shm")
    return str(memory) if memory.is_dir() and os.access(memory, os.W_OK) else None
