"""The figures of `memae demo` over several seeds."""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from experiments.records import RESULTS, provenance, write_result
from memae.demo import run_demo

__all__ = ["demo_path", "run_bundled_demo"]


def demo_path(seed: int) -> Path:
    """Where the figures of `memae demo --seed` lie."""
    return RESULTS / "demo" / f"seed-{seed}.json"


def run_bundled_demo(seed: int) -> dict[str, Any]:
    """Runs the demo on its bundled data and writes its figures; the pictures are thrown away."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        found = run_demo("bundled", Path(folder), seed=seed, announce=lambda _: None)
    figures = {kind: asdict(result) for kind, result in found.items()}
    result = {
        **figures,
        "seconds": round(time.perf_counter() - started, 2),
        "command": f"memae demo --json --seed {seed}",
        **provenance(seed),
    }
    write_result(demo_path(seed), result)
    return figures
