"""One model of several kinds of normal against one model for each kind.

MNIST: the digits 0 to 4 are normal, 2,000 training images of each, and the test images of all digits are scored.
KDDCUP99: normal connections by TCP, UDP and ICMP, at most 4,000 of each to train on; others, and attacks, are scored.
Nobody says the category while scoring: the one model takes each sample for one. AUROC of a category is that of its
normal samples against all anomalies, by the score, and for the one model by 1 - p-value, too, as scores of categories
differ.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch

from experiments.markdown import markdown
from experiments.records import RESULTS, provenance, write_result
from memae import Detector
from memae.datasets import kddcup99, mnist
from memae.metrics import auroc

__all__ = ["PROBLEMS", "categories_table", "measure_categories"]

ROOT = RESULTS / "categories"
SEEDS = (0, 1, 2)
SETTINGS: Mapping[str, Mapping[str, Any]] = {"train": {"epochs": 5}, "threshold": {"false_alarm_rate": 0.01}}
EACH, DIGITS, SCORED = 2_000, 5, 4_000
ROWS_EACH = 4_000


class Problem(NamedTuple):
    """Normal samples with their categories to train on, and others to score."""

    training: Any
    categories: np.ndarray
    """(S,) text"""
    normal: Any
    normal_categories: np.ndarray
    anomalies: Any
    take: Callable[[Any, np.ndarray], Any]


def _mnist(seed: int) -> Problem:
    (x, digit), (tested, kind) = mnist("train"), mnist("test")
    drawn = np.random.default_rng(seed)
    rows = np.concatenate([drawn.permutation(np.flatnonzero(digit == one))[:EACH] for one in range(DIGITS)])
    normal, anomalous = np.flatnonzero(kind < DIGITS), np.flatnonzero(kind >= DIGITS)
    return Problem(
        x[rows], digit[rows].astype(str), tested[normal], kind[normal].astype(str), tested[anomalous], _rows
    )


def _kddcup99(seed: int) -> Problem:
    table, labels = kddcup99()
    attack = labels != "normal"
    protocol = np.array(table["protocol_type"].to_pylist(), dtype=str)
    drawn, seen, unseen = np.random.default_rng(seed), [], []
    for one in np.unique(protocol):
        rows = drawn.permutation(np.flatnonzero(~attack & (protocol == one)))
        half = min(ROWS_EACH, len(rows) // 2)
        seen.append(rows[:half])
        unseen.append(rows[half : half + SCORED])
    training, normal = np.concatenate(seen), np.concatenate(unseen)
    anomalous = drawn.permutation(np.flatnonzero(attack))[:SCORED]
    plain = table.drop_columns(["protocol_type"])
    return Problem(
        plain.take(training),
        protocol[training],
        plain.take(normal),
        protocol[normal],
        plain.take(anomalous),
        _rows,
    )


def _rows(x: Any, rows: np.ndarray) -> Any:
    return x.take(rows) if isinstance(x, pa.Table) else x[rows]


PROBLEMS: Mapping[str, Callable[[int], Problem]] = {"mnist": _mnist, "kddcup99": _kddcup99}


def measure_categories(data: str, root: Path = ROOT) -> Iterator[tuple[str, dict[str, Any]]]:
    """Computes the seeds that have no result yet, on one thread; gives each as it is done."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for seed in SEEDS:
            path = root / data / f"seed-{seed}.json"
            if path.exists():
                continue
            problem = PROBLEMS[data](seed)
            origin = {
                "data": data,
                "command": f"python -m experiments categories --data {data}",
                **provenance(seed),
            }
            result = {**origin, "settings": SETTINGS, **_measured(problem, seed)}
            write_result(path, result)
            yield f"{data}, seed {seed}", result["categories"]
    finally:
        torch.set_num_threads(threads)


def _measured(problem: Problem, seed: int) -> dict[str, Any]:
    started, names = time.process_time(), np.unique(problem.categories).tolist()
    together = _fresh(seed).fit(problem.training, category=problem.categories.tolist())
    one = {"core_seconds": round(time.process_time() - started, 2), "parameters": _size(together)}
    each = {"core_seconds": 0.0, "parameters": 0}
    normal, anomalies = together.detect(problem.normal), together.detect(problem.anomalies)
    assert normal.categories is not None
    taken, found = np.array(normal.categories.texts), {}
    for name in names:
        own = np.flatnonzero(problem.normal_categories == name)
        started = time.process_time()
        alone = _fresh(seed).fit(problem.take(problem.training, np.flatnonzero(problem.categories == name)))
        each["core_seconds"] = round(each["core_seconds"] + time.process_time() - started, 2)
        each["parameters"] += _size(alone)
        of_own, others = alone.detect(problem.take(problem.normal, own)), alone.score(problem.anomalies).values
        figures = {
            "named_right": float((taken[own] == name).mean()),
            "auroc_one": _auroc(normal.scores[own], anomalies.scores),
            "auroc_one_by_p_value": _auroc(-normal.p_values[own], -anomalies.p_values),
            "auroc_each": _auroc(of_own.scores, others),
            "false_alarms_one": float(normal.is_anomaly[own].mean()),
            "false_alarms_each": float(of_own.is_anomaly.mean()),
        }
        found[name] = {figure: round(value, 5) for figure, value in figures.items()}
    return {"one": one, "each": each, "categories": found}


def _fresh(seed: int) -> Detector:
    return Detector(seed=seed, settings=SETTINGS, device="cpu", engine="torch")


def _size(detector: Detector) -> int:
    return int(detector.facts["parameters"])


def _auroc(normal: np.ndarray, anomalous: np.ndarray) -> float:
    labels = np.repeat([False, True], [len(normal), len(anomalous)])
    return float(auroc(labels, np.concatenate([normal, anomalous])))


FIGURES = {
    "named_right": "named right",
    "auroc_one": "AUROC, one model",
    "auroc_one_by_p_value": "by p-value",
    "auroc_each": "a model for each",
    "false_alarms_one": "false alarms, one model",
    "false_alarms_each": "a model for each",
}


def categories_table(data: str, root: Path = ROOT) -> str:
    """The committed figures of a data set: means over the seeds, and below them what the models cost."""
    files = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((root / data).glob("seed-*.json"))]
    if not files:
        return "No committed runs."
    rows = [
        [name, *(_mean([file["categories"][name][figure] for file in files]) for figure in FIGURES)]
        for name in files[0]["categories"]
    ]
    costs = {
        way: (
            f"{files[0][way]['parameters']:,} parameters",
            f"{np.mean([file[way]['core_seconds'] for file in files]):.0f} core seconds of training",
        )
        for way in ("one", "each")
    }
    told = f"One model: {', '.join(costs['one'])}; all models for one category: {', '.join(costs['each'])}."
    return markdown(["category", *FIGURES.values()], rows) + f"\n\n{told}"


def _mean(values: list[float]) -> str:
    return f"{np.mean(values):.3f}".removeprefix("0")
