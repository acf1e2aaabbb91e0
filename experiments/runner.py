"""Computes the missing cells of a table; may be stopped at any time, and loses at most the part under way."""

from __future__ import annotations

import re
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, TypeVar

import torch

from experiments.data import DATA
from experiments.records import Cell
from experiments.tables import Table, all_tables

__all__ = ["Job", "Say", "compute", "failure", "plan", "run_all", "seconds_of"]

_UNITS = {"s": 1, "m": 60, "h": 3600}

Say: TypeAlias = Callable[[str], None]
Found = TypeVar("Found")


@dataclass(frozen=True)
class Job:
    """The missing parts of a cell."""

    cell: Cell
    parts: tuple[str, ...]
    command: str
    """That computes the whole cell."""


def seconds_of(budget: str) -> float:
    """Seconds of a duration such as "90s", "60m", "2h" or "1.5h".

    Raises:
        ValueError: it has no unit, or is no number.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh])", budget.strip())
    if not found:
        raise ValueError(f"budget {budget!r}: give a number and s, m or h, such as 90s, 60m or 2h")
    return float(found[1]) * _UNITS[found[2]]


def plan(
    name: str,
    root: Path,
    data: str | None = None,
    methods: Collection[str] = (),
    seeds: int | None = None,
    parts: Collection[str] = (),
    say: Say = lambda _: None,
) -> tuple[list[Job], int]:
    """What a table lacks: seed by seed, within a seed in the order of the table. Also says how many cells it has.

    Args:
        name: of the table.
        root: the folder of cells.
        data: only this data set.
        methods: only these; a slow one is left out unless it is named so. Left out, all.
        seeds: 0 to so many; left out, those of the table.
        parts: only these; left out, all.
        say: is told which methods are left out, and why.

    Raises:
        ValueError: there is no such table, data set, method or part.
    """
    table = _one_of(all_tables(), name, "table")
    _check_words(name, table, data, methods, parts)
    found, seen = [], set()
    wanted = list(_wanted(table, data, methods, say))
    count = table.seeds if seeds is None else seeds
    for seed in range(count):
        for data_name, method_name in wanted:
            cell = Cell(data_name, method_name, seed)
            if cell in seen:
                continue
            seen.add(cell)
            there = cell.parts(root)
            missing = [p for p in DATA[data_name].parts if p not in there and (not parts or p in parts)]
            if missing:
                words = f"run {name} --data {data_name} --method {method_name} --seeds {seed + 1}"
                found.append(Job(cell, tuple(missing), f"python -m experiments {words}"))
    return found, len(seen)


def compute(job: Job, root: Path, deadline: float, say: Say) -> bool:
    """Computes the missing parts of a cell, and writes its file after each; False if the deadline came before the end.

    Args:
        job: what is missing.
        root: the folder of cells.
        deadline: `time.time()` after which no part is started.
        say: is told of each part that is done.

    Raises:
        CellError: the file was made with other settings.
        KeyboardInterrupt: also where the method has caught it and ended early.
    """
    for part in job.parts:
        if time.time() > deadline:
            return False
        if part in job.cell.parts(root):
            continue  # another process was faster
        outcome = DATA[job.cell.data].compute(job.cell.method, part, job.cell.seed)
        if outcome.facts.get("interrupted"):
            raise KeyboardInterrupt  # the training loop keeps its best epoch and goes on; a cell is no place for that
        job.cell.add(root, part, job.command, outcome.settings, outcome.as_json())
        figures = ", ".join(f"{protocol} {_main(metrics)}" for protocol, metrics in outcome.metrics.items())
        name = "" if part == "all" else f" class {part}"
        seconds = outcome.seconds["fit"] + outcome.seconds["score"]
        say(f"{job.cell}{name}: {figures}, {seconds:.1f} s")
    return True


def run_all(jobs: Sequence[Job], root: Path, deadline: float, say: Say) -> list[str]:
    """Computes jobs one after the other in this process; the failed ones, each with its error. Others go on."""
    failed: list[str] = []
    for place, job in enumerate(jobs):
        try:
            if not compute(job, root, deadline, say):
                say(f"budget spent; {len(jobs) - place} cells are left")
                break
        except Exception as error:
            failed.append(failure(job, error))
            say(f"FAILED {failed[-1]}")
    return failed


def failure(job: Job, error: Exception) -> str:
    """One line on an error, and where it was raised."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{job.cell}: {type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"


def _main(metrics: Mapping[str, float]) -> str:
    """The figure that the paper names: F1 where something is flagged, else the AUROC."""
    name = "f1" if "f1" in metrics else "auroc" if "auroc" in metrics else next(iter(metrics))
    return f"{name} {metrics[name]:.4f}"


def _wanted(table: Table, data: str | None, methods: Collection[str], say: Say) -> Iterator[tuple[str, str]]:
    for block, row, name in table.cells():
        if data not in (None, block.data) or (methods and name not in methods):
            continue
        if block.data in row.gpu and not torch.cuda.is_available():
            say(f"{block.data} {name}: left out, it needs a GPU")
        elif row.slow and not methods:
            say(f"{block.data} {name}: left out, it takes hours; name it with --method {name}")
        else:
            yield block.data, name


def _check_words(
    name: str, table: Table, data: str | None, methods: Collection[str], parts: Collection[str]
) -> None:
    blocks = {block.data: block for block in table.blocks}
    if data is not None:
        _one_of(blocks, data, f"data set in {name}")
    chosen = [data] if data is not None else list(blocks)
    there = {method for block, _, method in table.cells() if block.data in chosen}
    for method in methods:
        _one_of(dict.fromkeys(there), method, f"method in {name} for {', '.join(chosen)}")
    known = {part for block in chosen for part in DATA[block].parts}
    for part in parts:
        _one_of(dict.fromkeys(known), part, f"part of {', '.join(chosen)}")


def _one_of(known: Mapping[str, Found], name: str, what: str) -> Found:
    if name not in known:
        raise ValueError(f"{name!r}: no such {what}; there is {', '.join(sorted(known))}")
    return known[name]
