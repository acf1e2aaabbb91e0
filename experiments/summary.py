"""Committed cells to means and intervals; never trains."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from scipy.stats import t

from experiments.data import DATA, WHOLE
from experiments.records import RESULTS, cells_in
from experiments.tables import all_tables

__all__ = ["Summary", "Tree", "as_json", "as_text", "summarise"]


@dataclass(frozen=True)
class Summary:
    """A figure over seeds: mean and 95 % interval by Student's t."""

    mean: float
    low: float
    high: float
    seeds: int

    @classmethod
    def of(cls, values: list[float]) -> Summary:
        """The summary of one value a seed; a single seed has no interval (NaN)."""
        mean, n = float(np.mean(values)), len(values)
        if n == 1:
            return cls(mean, math.nan, math.nan, 1)
        half = float(t.ppf(0.975, n - 1)) * float(np.std(values, ddof=1)) / math.sqrt(n)
        return cls(mean, mean - half, mean + half, n)


Figures: TypeAlias = dict[tuple[str, str], float]
"""{(protocol, metric): value} of one fit"""

DataTree: TypeAlias = dict[str, dict[str, dict[str, dict[str, Summary]]]]
"""{data set: {method: {protocol: {metric: Summary}}}}"""

Tree: TypeAlias = dict[str, DataTree]
"""{table: DataTree}"""


def summarise(root: Path = RESULTS / "cells") -> Tree:
    """All committed cells, under each table that shows them.

    For a data set of parts (classes) the value of a seed is the mean over its parts, and only seeds that have them all
    count; each part stands beside it, such as "mnist-8". Protocol "cost" has "fit_seconds" (of one part),
    "score_us_per_sample" and "stored", where they were measured.
    """
    gathered = _gathered(root)
    tree: Tree = {}
    for name, table in all_tables().items():
        tree[name] = {}
        for block, _, method in table.cells():
            parts = DATA[block.data].parts
            single = [] if parts == WHOLE else [f"{block.data}-{part}" for part in parts]
            for data in (block.data, *single):
                if (data, method) in gathered:
                    tree[name].setdefault(data, {})[method] = gathered[data, method]
    return tree


def as_json(tree: Tree) -> str:
    """The tree as JSON; a missing interval is null."""
    return json.dumps(_plain(tree))


def as_text(tree: Tree) -> str:
    """The tree to read: one line a figure."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(file=io.StringIO(), width=120, force_terminal=False)
    for name, data in tree.items():
        for data_name, methods in data.items():
            shown = Table(title=f"{name}: {data_name}", box=box.SIMPLE, title_justify="left")
            for column in ("method", "protocol", "metric", "mean", "95 % interval", "seeds"):
                shown.add_column(
                    column, justify="right" if column in ("mean", "95 % interval", "seeds") else "left"
                )
            for method, protocol, metric, found in _lines(methods):
                interval = "" if math.isnan(found.low) else f"{found.low:.4f} to {found.high:.4f}"
                shown.add_row(method, protocol, metric, f"{found.mean:.4f}", interval, str(found.seeds))
            console.print(shown)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().rstrip() or "No committed cells."


def _lines(methods: Mapping[str, Any]) -> Iterator[tuple[str, str, str, Summary]]:
    for method, protocols in methods.items():
        for protocol, metrics in protocols.items():
            for metric, found in metrics.items():
                yield method, protocol, metric, found


def _gathered(root: Path) -> dict[tuple[str, str], dict[str, dict[str, Summary]]]:
    """{(data set or one part of it, method): {protocol: {metric: Summary}}}"""
    values: dict[tuple[str, str], list[Figures]] = {}
    for cell, found in cells_in(root):
        if cell.data not in DATA:
            continue
        parts = DATA[cell.data].parts
        figures = {part: _figures(found["parts"][part]) for part in parts if part in found["parts"]}
        if len(figures) == len(parts):
            values.setdefault((cell.data, cell.method), []).append(_mean(list(figures.values())))
        if parts != WHOLE:
            for part, figure in figures.items():
                values.setdefault((f"{cell.data}-{part}", cell.method), []).append(figure)
    return {key: _over_seeds(seeds) for key, seeds in values.items()}


def _figures(part: Mapping[str, Any]) -> Figures:
    """The metrics and the cost of one fit."""
    found = {
        (protocol, metric): value
        for protocol, metrics in part["metrics"].items()
        for metric, value in metrics.items()
    }
    fit, score = part["seconds"].get("fit"), part["seconds"].get("score")
    cost = {
        "fit_seconds": fit,
        "score_us_per_sample": None if score is None else 1e6 * score / part["samples"]["test"],
        "stored": part["stored"],
    }
    return {**found, **{("cost", name): float(value) for name, value in cost.items() if value is not None}}


def _mean(parts: list[Figures]) -> Figures:
    """The mean over parts, of the figures that all of them have; of the cost, over those that state it."""
    keys = {key: None for part in parts for key in part}
    found = {}
    for key in keys:
        values = [part[key] for part in parts if key in part]
        if len(values) == len(parts) or key[0] == "cost":
            found[key] = float(np.mean(values))
    return found


def _over_seeds(seeds: list[Figures]) -> dict[str, dict[str, Summary]]:
    tree: dict[str, dict[str, Summary]] = {}
    for key in {key: None for seed in seeds for key in seed}:
        protocol, metric = key
        tree.setdefault(protocol, {})[metric] = Summary.of([seed[key] for seed in seeds if key in seed])
    return tree


def _plain(tree: Any) -> Any:
    if isinstance(tree, Summary):
        return {key: None if isinstance(v, float) and math.isnan(v) else v for key, v in asdict(tree).items()}
    return {key: _plain(value) for key, value in tree.items()}
