"""Processes killed in the middle of a write: before each fsync, rename and remove, and at random moments."""

from __future__ import annotations

import json
import math
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.attack.campaign import commit
from tests.attack.faults import Ended, faulty, import_all

__all__ = ["Expected", "Kills", "Scenario", "command", "content", "folder_for", "names", "scenarios"]

OLD, NEW, OUT = "flows.model", "new.model", "flows.csv"
EACH, RANDOM = ", before each call", ", at random"  # ways to kill, behind the name of a scenario
FIT = (
    "fit",
    OUT,
    "--set",
    "train.epochs=4",
    "--set",
    "memory.num_items=8",
    "--set",
    "train.patience=0",
    "--device",
    "cpu",
)
SCORE = ("score", OLD, OUT, "--device", "cpu", "--engine", "torch")


@dataclass(frozen=True)
class Scenario:
    """Something that is done in a folder, and what must be there whenever it was killed."""

    name: str
    words: tuple[str, ...]
    """Of the command line."""
    made: tuple[str, ...]
    """Files and model directories that it writes, each whole or not at all."""
    keeps: tuple[str, ...] = ()
    """Those of them that were there before, and are never gone."""
    resumed: bool = False
    """A training, which is gone on with after a kill."""


def scenarios() -> tuple[Scenario, ...]:
    """All of them."""
    outs = ("scores.csv", "scores.parquet", "scores.jsonl")
    why = ("--out", outs[0], "--explain", "why.jsonl")
    return (
        *(Scenario(f"score to {out}", (*SCORE, "--out", out), (out,), (out,)) for out in outs),
        Scenario("explain", (*SCORE, *why), (outs[0], "why.jsonl"), (outs[0],)),
        Scenario("fit over a model", (*FIT, "--out", OLD), (OLD,), (OLD,), resumed=True),
        Scenario("fit to a new place", (*FIT, "--out", NEW), (NEW,), resumed=True),
    )


@dataclass
class Kills:
    """Counts of kills and of what they left; goes on where it was.

    Args:
        place: of its state.
        originals: with a model and its rows.
    """

    place: Path
    originals: Path
    done: dict[str, int] = field(default_factory=dict)
    """Kills by scenario and way."""
    points: dict[str, int] = field(default_factory=dict)
    """The fsyncs, renames and removes of each scenario."""
    findings: list[dict[str, Any]] = field(default_factory=list)
    commits: list[str] = field(default_factory=list)
    """That were attacked, in turn."""

    @classmethod
    def at(cls, place: Path, originals: Path) -> Kills:
        """Those of a folder, or new ones."""
        state = place / "kills.json"
        return cls(place, originals, **(json.loads(state.read_text()) if state.exists() else {}))

    @property
    def total(self) -> int:
        """Kills in all."""
        return sum(self.done.values())

    def save(self) -> None:
        """Writes the state whole or not at all."""
        part = self.place / "kills.part"
        part.write_text(
            json.dumps(
                {"commits": self.commits, "done": self.done, "points": self.points, "findings": self.findings},
                indent=1,
            )
        )
        part.replace(self.place / "kills.json")

    def run(self, most: int, budget_s: float, chosen: tuple[Scenario, ...], seed: int = 0) -> None:
        """Kills before each call that changes a file, and then at random moments until there were so many."""
        end = time.monotonic() + budget_s
        if (now := commit()) not in self.commits:
            self.commits.append(now)
        points: list[tuple[Expected, int]] = []
        for scenario in chosen:
            expected = Expected.of(scenario, self.originals)
            self.points[scenario.name] = expected.steps
            points += [(expected, kill_at) for kill_at in range(1, 1 + expected.steps)]
        random.Random(seed).shuffle(points)  # so that a few are of all scenarios
        first = sum(count for way, count in self.done.items() if way.endswith(EACH))
        for expected, kill_at in points[first:]:
            if time.monotonic() > end or self.total >= most:
                return
            self._kill(expected, expected.scenario.name + EACH, kill_at=kill_at)
        trained = [Expected.of(scenario, self.originals) for scenario in chosen if scenario.resumed]
        for number in range(sum(count for way, count in self.done.items() if way.endswith(RANDOM)), most):
            if time.monotonic() > end or self.total >= most or not trained:
                return
            expected = trained[number % len(trained)]
            moment = random.Random(seed + number).random() * expected.cpu_s
            self._kill(expected, expected.scenario.name + RANDOM, kill_after_cpu_s=moment)

    def _kill(self, expected: Expected, way: str, **fault: Any) -> None:
        for why in expected.after_kill(**fault):
            self.findings.append({"way": way, "fault": fault, "why": why})
            print(f"{way} {fault}: {why}", file=sys.stderr, flush=True)
        self.done[way] = self.done.get(way, 0) + 1
        self.save()


class Expected:
    """A scenario with what it makes where nobody kills it."""

    _known: dict[tuple[str, Path], Expected] = {}  # noqa: RUF012  shared by all on purpose

    @classmethod
    def of(cls, scenario: Scenario, originals: Path) -> Expected:
        """Computed once."""
        if (key := (scenario.name, originals)) not in cls._known:
            cls._known[key] = cls(scenario, originals)
        return cls._known[key]

    def __init__(self, scenario: Scenario, originals: Path) -> None:
        self.scenario, self._originals, self._resumable_at = scenario, originals, math.inf
        with folder_for(scenario, originals) as folder:
            import_all(self._do(folder).imported)
        with folder_for(scenario, originals) as folder:
            self.before = {name: content(folder / name) for name in scenario.keeps}
            ended = self._do(folder)
            self.cpu_s, self.steps = ended.cpu_s, ended.steps
            if ended.code:
                raise RuntimeError(f"{scenario.name} fails without a kill: {ended.said}")
            self.made = {name: content(folder / name) for name in scenario.made}
            self.names = names(folder)

    def after_kill(self, **fault: Any) -> Iterator[str]:
        """Kills once, and says what is wrong with what is left, and with what is made of it afterwards."""
        with folder_for(self.scenario, self._originals) as folder:
            ended = self._do(folder, **fault)
            if not ended.killed and ended.code:
                yield f"ended with {ended.code}: {ended.said[-2000:]}"
            for name in self.scenario.made:
                now = content(folder / name)
                if now is None and name in self.scenario.keeps:
                    yield f"{name} is gone; there are {names(folder)}"
                elif now not in (None, self.made[name], self.before.get(name)):
                    yield f"{name} is neither old nor new: {now}"
            trained = (
                self.scenario.resumed
                and content(folder / self.scenario.made[0]) == self.made[self.scenario.made[0]]
            )
            again, resumed = self._again(folder)
            at = fault.get("kill_at", 0)
            if resumed and at:
                self._resumable_at = min(self._resumable_at, at)
            elif at > self._resumable_at and not trained:
                yield f"the training so far is lost, which was there when it was killed at {self._resumable_at}"
            if again.code:
                yield f"the same once more ended with {again.code}: {again.said[-2000:]}"
            for name in self.scenario.made:
                if (now := content(folder / name)) != self.made[name]:
                    yield f"{name} is another after the same once more: {now}"
            if (there := names(folder)) != self.names:
                yield f"left over after the same once more: {sorted(set(there) ^ set(self.names))}"

    def _again(self, folder: Path) -> tuple[Ended, bool]:
        """What a person would do: resume, or, told that there is nothing to resume, begin anew; and which it was."""
        if self.scenario.resumed:
            ended = self._do(folder, "--resume")
            if "holds no training to resume" not in ended.said:
                return ended, True
        return self._do(folder), False

    def _do(self, folder: Path, *more: str, **fault: Any) -> Ended:
        return faulty(lambda: command(*self.scenario.words, *more), folder, **fault)


def command(*words: str) -> None:
    """Calls the command line in this process."""
    from memae.cli import main

    sys.argv = ["memae", *words]
    main()


@contextmanager
def folder_for(scenario: Scenario, originals: Path) -> Iterator[Path]:
    """A folder with rows, a model, and old scores where the scenario writes over them."""
    with tempfile.TemporaryDirectory(prefix="memae-kills-") as kept:
        folder = Path(kept)
        shutil.copy(originals / "checkpointed.csv", folder / OUT)
        shutil.copytree(originals / "models" / "table", folder / OLD)
        for name in scenario.keeps:
            if name != OLD:
                (folder / name).write_text("old")
        yield folder


def names(folder: Path) -> list[str]:
    """All that lies in a folder."""
    return sorted(path.name for path in folder.iterdir())


def content(path: Path) -> str | None:
    """What is at a path, as text that is equal where the content is: of a model, all but the time that it took."""
    import hashlib

    from memae.artifact import load_artifact
    from memae.errors import MemaeError

    if path.is_dir():
        try:
            artifact = load_artifact(path)
        except MemaeError as error:
            return f"no model: {error}"
        digest = hashlib.sha256(artifact.uses.tobytes())
        if artifact.threshold:
            digest.update(artifact.threshold.calibration.tobytes())
        for name, tensor in artifact.model.state_dict().items():
            digest.update(name.encode() + tensor.numpy().tobytes())
        return f"model {digest.hexdigest()}"
    if path.exists():
        return f"file {hashlib.sha256(path.read_bytes()).hexdigest()}"
    return None
