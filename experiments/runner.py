"""Fills the missing cells of the evidence, one committed JSON file a cell and seed; may be stopped at any time."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from experiments import ped2, protocols
from experiments.methods import METHODS
from experiments.protocols import Split
from memae.demo import run_demo
from memae.files import atomic_file

__all__ = ["RESULTS", "Cell", "cells", "demo_path", "provenance", "run_bundled_demo", "run_cell", "write_result"]

RESULTS = Path(__file__).parent / "results"

NEURAL = ("memae", "memae-paper", "memae-released", "autoencoder", "autoencoder-paper", "untrained")
LOOK_UPS = ("1-nn l2", "1-nn cosine", "1-nn centred cosine", "pca-30")
KDD_LOOK_UPS = ("exact match", "pca-30", "isolation forest", "1-nn l2")


@dataclass(frozen=True)
class Cell:
    """One fit of the evidence: a method on a data set with one seed, judged under every protocol of the data."""

    data: str
    """Such as "mnist-8" or "kddcup99"."""
    method: str
    seed: int

    @property
    def path(self) -> Path:
        """Where its result lies."""
        return RESULTS / "first_light" / self.data / self.method.replace(" ", "-") / f"seed-{self.seed}.json"

    def split(self) -> Split:
        """The data and its protocols."""
        if self.data == "kddcup99":
            return protocols.kddcup(self.seed)
        return protocols.mnist(int(self.data.removeprefix("mnist-")), self.seed)


def cells(seeds: int) -> Iterator[Cell]:
    """All cells of the evidence, seed by seed; what needs a GPU is left out where there is none."""
    for seed in range(seeds):
        for method in ped2.METHODS:
            if method not in ped2.GPU_METHODS or torch.cuda.is_available():
                yield Cell("ped2", method, seed)
        for data, look_ups in (("kddcup99", KDD_LOOK_UPS), ("mnist-8", LOOK_UPS), ("mnist-2", LOOK_UPS)):
            for method in NEURAL + look_ups:
                yield Cell(data, method, seed)


def run_cell(cell: Cell) -> dict[str, Any]:
    """Computes a cell and writes its file."""
    if cell.data == "ped2":
        return _run_ped2(cell)
    split = cell.split()
    judge = protocols.kddcup_metrics if cell.data == "kddcup99" else protocols.auroc_metrics
    started = time.perf_counter()
    scores, facts = METHODS[cell.method](split, cell.seed)
    seconds = time.perf_counter() - started
    result = {
        "metrics": {
            protocol: {name: round(v, 6) for name, v in judge(split.labels[rows], scores[rows]).items()}
            for protocol, rows in split.judged.items()
        },
        "seconds": round(seconds, 2),
        "samples": {"fit": len(split.fit), "test": len(split.test), "anomalies": int(split.labels.sum())},
        "command": f"python -m experiments run --data {cell.data} --method '{cell.method}'",
        **provenance(cell.seed),
        "facts": facts,
    }
    write_result(cell.path, result)
    return result


def _run_ped2(cell: Cell) -> dict[str, Any]:
    started = time.perf_counter()
    metrics, facts = ped2.run_method(cell.method, cell.seed)
    result = {
        "metrics": metrics,
        "seconds": round(time.perf_counter() - started, 2),
        "command": f"python -m experiments run --data ped2 --method '{cell.method}'",
        **provenance(cell.seed),
        "facts": facts,
    }
    write_result(cell.path, result)
    return result


def demo_path(seed: int) -> Path:
    """Where the figures of `memae demo --seed` lie."""
    return RESULTS / "demo" / f"seed-{seed}.json"


def run_bundled_demo(seed: int) -> dict[str, Any]:
    """Runs the demo on its bundled data and writes its figures; the pictures are thrown away."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        found = run_demo("bundled", Path(folder), seed=seed, announce=lambda _: None, monitor=lambda: None)
    figures = {kind: asdict(result) for kind, result in found.items()}
    result = {
        **figures,
        "seconds": round(time.perf_counter() - started, 2),
        "command": f"memae demo --json --seed {seed}",
        **provenance(seed),
    }
    write_result(demo_path(seed), result)
    return figures


def provenance(seed: int) -> dict[str, Any]:
    """What every result file says of its origin."""
    return {"seed": seed, "commit": _commit(), "hardware": _hardware()}


def write_result(path: Path, result: dict[str, Any]) -> None:
    """Writes a result file, whole or not at all."""
    with atomic_file(path) as part:
        part.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _commit() -> str:
    git = partial(subprocess.run, capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
    commit = git(["git", "rev-parse", "--short", "HEAD"]).stdout.strip()
    changed = git(["git", "status", "--porcelain", "--", "../src", "*.py"]).stdout.strip()
    return commit + ("+changes" if changed else "")


def _hardware() -> str:
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{os.cpu_count()} x {platform.machine()} cores ({torch.get_num_threads()} threads), {gpu}"
