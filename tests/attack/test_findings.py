"""The attack notices what it looks for: each fault is put there, and found."""

import json
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memae.errors import DataError
from tests.attack import guard
from tests.attack.canary import Trip
from tests.attack.guard import Found, Guard
from tests.attack.kinds import Kind
from tests.attack.mutate import mutated
from tests.attack.readers import WrongAnswerError
from tests.attack.record import PAGE, RESULT, tables, with_tables
from tests.attack.watch import Watch

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs fork and /proc")


def came_of(place: Path, read: Callable[[Path], Any]) -> Found:
    """What the guard says of an input that is read so, in a forked process of its own."""

    def make(rng: random.Random, folder: Path, known: Any) -> Path:
        (folder / "in").write_bytes(b"hostile")
        return folder / "in"

    reading, writing = os.pipe()
    if not (pid := os.fork()):
        try:
            guard = Guard(place / "own", limited=False)
            known: Any = None
            found = guard.attempt(Kind("any", 1, make, lambda rng, path, known: read(path)), 0, known)
            os.write(writing, json.dumps([found.outcome, found.why]).encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(pid, 0)
    with os.fdopen(reading) as answer:
        return Found(*json.loads(answer.read()))


def raising(error: Exception) -> Callable[[Path], None]:
    def read(path: Path) -> None:
        raise error

    return read


@pytest.mark.parametrize(
    ("read", "outcome"),
    [
        (Path.read_bytes, "read"),
        (raising(DataError("in: is no table")), "refused"),
        (raising(ValueError("of numpy")), "traceback"),
        (raising(RecursionError("deep")), "traceback"),
        (raising(WrongAnswerError("NaN")), "wrong"),
        (lambda path: pickle.loads(pickle.dumps(Trip())), "code"),
        (lambda path: subprocess.run(["gs", str(path)], check=True), "code"),
        (lambda path: path.with_name("out").write_bytes(b""), "read"),
        (lambda path: path.parents[2].joinpath("out").write_bytes(b""), "outside"),
    ],
    ids=[
        "read",
        "refused",
        "traceback",
        "recursion",
        "wrong",
        "pickle",
        "ghostscript",
        "write within",
        "write outside",
    ],
)
def test_the_guard_tells_what_came_of_an_input(tmp_path: Path, read: Callable[[Path], Any], outcome: str) -> None:
    assert came_of(tmp_path, read).outcome == outcome


def test_the_guard_tells_memory_that_was_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "MOST_BYTES", 64 << 20)
    # the peak of a forked process begins with that of its parent
    beyond = guard._peak_bytes() + (128 << 20)
    assert came_of(tmp_path, lambda path: np.ones(beyond, np.uint8)).outcome == "memory"
    assert came_of(tmp_path, lambda path: np.ones(8, np.uint8)).outcome == "read"


@pytest.mark.parametrize(("busy", "said"), [(True, "s of CPU time"), (False, "s asleep")])
def test_a_process_that_hangs_is_noticed_and_ended(busy: bool, said: str) -> None:
    if not (pid := os.fork()):
        while True:
            if not busy:
                time.sleep(60)
    watch, why = Watch(pid, busy_s=0.3, idle_s=0.3), ""
    while not why:
        why = watch.hangs()
        time.sleep(0.01)
    assert why.endswith(said)
    assert os.waitstatus_to_exitcode(watch.end()) == -signal.SIGKILL


def test_a_seed_decides_all_of_a_change() -> None:
    content = bytes(range(200))
    changed = [mutated(random.Random(seed), content, [content]) for seed in range(300)]
    assert changed == [mutated(random.Random(seed), content, [content]) for seed in range(300)]
    assert len(set(changed)) > 250
    assert sum(change == content for change in changed) < 30


@pytest.mark.skipif(not RESULT.exists(), reason="no attack has been recorded")
def test_the_page_has_the_tables_of_the_recorded_result() -> None:
    page, result = PAGE.read_text(encoding="utf-8"), json.loads(RESULT.read_text(encoding="utf-8"))
    assert tables(result) in page
    assert with_tables(page, result) == page
