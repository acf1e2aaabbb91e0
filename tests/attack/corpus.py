"""Hostile inputs that were found once: each is read in many ways by a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tests.attack.all_kinds import KINDS
from tests.attack.campaign import ASLEEP_S, HANG_S, LOOK_S, OUTCOMES, quick_folder
from tests.attack.guard import Found, Guard
from tests.attack.kinds import Known, emptied
from tests.attack.watch import Watch

__all__ = ["CORPUS", "Entry", "entries", "replayed"]

CORPUS = Path(__file__).with_name("corpus")
READINGS = 12  # of each input, in ways that a seed decides


@dataclass(frozen=True)
class Entry:
    """One input."""

    name: str
    """Of its folder, in the folder of its kind."""
    kind: str
    opened: str
    """What is opened, below that folder."""
    found: str
    """What came of it, and where."""

    @property
    def folder(self) -> Path:
        """Where its files lie."""
        return CORPUS / self.kind / self.name


def entries() -> list[Entry]:
    """All of them, as index.json says."""
    return [Entry(**entry) for entry in json.loads((CORPUS / "index.json").read_text(encoding="utf-8"))]


def replayed(entry: Entry, known: Known) -> Found:
    """The first finding of an input, or how it was read at last."""
    reading, writing = os.pipe()
    with tempfile.TemporaryDirectory(prefix="memae-corpus-", dir=quick_folder()) as folder:
        if not (pid := os.fork()):
            _replay(entry, Path(folder), known, writing)
        os.close(writing)
        watch = Watch(pid, HANG_S, ASLEEP_S)
        status = 0
        while not (done := os.waitpid(pid, os.WNOHANG))[0]:
            if why := watch.hangs():
                watch.end()
                return Found("hang", why)
            time.sleep(LOOK_S / 10)
        status = os.waitstatus_to_exitcode(done[1])
    with os.fdopen(reading) as answer:
        told: Any = json.loads(answer.read() or "null")
    if told is None:
        return Found("crash", f"ended with {status}")
    return Found(*told)


def _replay(entry: Entry, place: Path, known: Known, answer: int) -> None:
    """Reads it, says what came of it, and ends the process."""
    try:
        torch.set_num_threads(1)
        guard = Guard(place)
        kind = next(kind for kind in KINDS if kind.name == entry.kind)
        found = Found("read")
        for seed in range(READINGS):
            shutil.copytree(entry.folder, emptied(guard.input), dirs_exist_ok=True)
            found = guard.read(kind, seed, guard.input / entry.opened, known)
            if found.outcome not in OUTCOMES[:2]:
                break
        os.write(answer, json.dumps([found.outcome, found.why[:2000]]).encode())
    finally:
        os._exit(0)


def findings(known: Known) -> Iterator[tuple[Entry, Found]]:
    """What is found again."""
    for entry in entries():
        found = replayed(entry, known)
        if found.outcome not in OUTCOMES[:2]:
            yield entry, found
