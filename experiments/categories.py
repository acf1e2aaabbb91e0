"""One model of several kinds of normal against one model for each kind.

MNIST: the digits 0 to 4 are normal, 2,000 training images of each, and the test images of all digits are scored.
KDDCUP99: normal connections by TCP, UDP and ICMP, at most 4,000 of each to train on; others, and attacks, are scored.
The one model is scored with the category given and with the category that it takes. AUROC of a category is that of its
normal samples against all anomalies, by 1 - p-value where the category is taken, as scores of categories differ.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch

from experiments.records import RESULTS
from memae import Detector
from memae.datasets import kddcup99, mnist
from memae.metrics import auroc

__all__ = ["PROBLEMS", "ROOT", "measure_categories"]

ROOT = RESULTS / "categories"
SEEDS = (0, 1, 2)
RATE = 0.01
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


def measure_categories(data: str, seed: int, epochs: int) -> dict[str, Any]:
    """The figures of one seed, on one thread; written into a result file, too."""
    torch.set_num_threads(1)
    problem, settings = (
        PROBLEMS[data](seed),
        {"train": {"epochs": epochs}, "threshold": {"false_alarm_rate": RATE}},
    )
    started = time.perf_counter()
    together = Detector(seed=seed, settings=settings).fit(problem.training, category=problem.categories.tolist())
    seconds = time.perf_counter() - started
    normal, anomalies = together.detect(problem.normal), together.detect(problem.anomalies)
    assert normal.categories is not None
    taken = np.array(normal.categories.texts)
    found: dict[str, Any] = {
        "data": data, "seed": seed, "epochs": epochs, "one": {"seconds": seconds, "parameters": _size(together)},
        "each": {"seconds": 0.0, "parameters": 0}, "categories": {},
    }  # fmt: skip
    for name in np.unique(problem.categories).tolist():
        own = np.flatnonzero(problem.normal_categories == name)
        started = time.perf_counter()
        alone = Detector(seed=seed, settings=settings).fit(
            problem.take(problem.training, np.flatnonzero(problem.categories == name))
        )
        found["each"]["seconds"] += time.perf_counter() - started
        found["each"]["parameters"] += _size(alone)
        of_own, others = alone.detect(problem.take(problem.normal, own)), alone.score(problem.anomalies).values
        found["categories"][name] = {
            "named_right": float((taken[own] == name).mean()),
            "auroc_one": _auroc(-normal.p_values[own], -anomalies.p_values),
            "auroc_one_by_score": _auroc(normal.scores[own], anomalies.scores),
            "auroc_each": _auroc(of_own.scores, others),
            "false_alarms_one": float(normal.is_anomaly[own].mean()),
            "false_alarms_each": float(of_own.is_anomaly.mean()),
        }
    ROOT.mkdir(parents=True, exist_ok=True)
    text = json.dumps(found, indent=1)
    (ROOT / f"{data}-{seed}.json").write_text(text + "\n", encoding="utf-8")
    return found


def _size(detector: Detector) -> int:
    return int(detector.facts["parameters"])


def _auroc(normal: np.ndarray, anomalous: np.ndarray) -> float:
    labels = np.repeat([False, True], [len(normal), len(anomalous)])
    return float(auroc(labels, np.concatenate([normal, anomalous])))
