"""A new kind of normal, which a finished model flags: taught with few samples, beside a new training with them.

For each data set and part there is one file for each seed. A part names what the model is fitted on and the new kind:

- mnist: 600 images of a digit are fitted, and another digit becomes normal. The official test images of both are
  judged, and 2,000 of the eight other digits, which stay anomalies.
- kddcup99-attacks: 3,000 rows of normal traffic without one service are fitted, and this service becomes normal. 3,000
  other rows of normal traffic, up to 1,500 of the service and 3,000 attacks are judged.

What is taught are false alarms: samples of the new kind, which are not judged, that the model flags. The bounds of a
teaching are lifted, so that it is measured where it would be refused, too; whether it would be is recorded. A new
training has the same samples among those that it is fitted on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from experiments.markdown import markdown
from experiments.protocols import images
from experiments.protocols.contaminated import PROBLEMS
from experiments.records import RESULTS, Cell
from memae import Detector, datasets
from memae.errors import DataError
from memae.metrics import auroc
from memae.teach import Limits

__all__ = ["LESSONS", "measure_teaching", "teaching_table"]

ROOT = RESULTS / "teaching"
COMMAND = "python -m experiments teaching"
COUNTS = (1, 5, 20)
SEEDS = (0, 1, 2)
ALLOWED = (Limits(), Limits(lost=1.0), Limits(lost=1.0, shift=10.0))  # until one is enough
FITTED_DIGITS, FITTED_ROWS, JUDGED_ROWS, JUDGED_NEW = 600, 3000, 3000, 1500
JUDGED_DIGITS = 2000
TAUGHT_FROM = 500  # samples of the new kind, whose false alarms are taught; at most half of them


@dataclass(frozen=True)
class Lesson:
    """What a model is fitted on, what it may be taught, and what it is judged on."""

    fit: Any
    new: Any
    """Samples of the new kind that may be taught."""
    old_normal: Any
    new_normal: Any
    anomalies: Any
    take: Callable[[Any, np.ndarray], Any]
    join: Callable[[Any, Any], Any]


def _digits(part: str, seed: int) -> Lesson:
    normal, new = map(int, part.split(" then "))
    (train, digits), (test, test_digits) = images.official("train"), images.official("test")
    rng = np.random.default_rng(seed)
    fitted = rng.permutation(np.flatnonzero(digits == normal))[:FITTED_DIGITS]
    others = rng.permutation(np.flatnonzero((test_digits != normal) & (test_digits != new)))[:JUDGED_DIGITS]
    return Lesson(
        train[fitted],
        train[rng.permutation(np.flatnonzero(digits == new))[:TAUGHT_FROM]],
        test[test_digits == normal],
        test[test_digits == new],
        test[others],
        lambda x, rows: x[rows],
        lambda first, second: np.concatenate([first, second]),
    )


def _services(part: str, seed: int) -> Lesson:
    rows, names = datasets.kddcup99()
    service, rng = rows["service"].to_numpy(zero_copy_only=False).astype(str), np.random.default_rng(seed)
    old = rng.permutation(np.flatnonzero((names == "normal") & (service != part)))
    new = rng.permutation(np.flatnonzero((names == "normal") & (service == part)))
    attacks = rng.permutation(np.flatnonzero(names != "normal"))[:JUDGED_ROWS]
    to_teach = min(TAUGHT_FROM, len(new) // 2)

    def taken(chosen: np.ndarray) -> pa.Table:
        return rows.take(pa.array(chosen))

    return Lesson(
        taken(old[:FITTED_ROWS]),
        taken(new[:to_teach]),
        taken(old[FITTED_ROWS:][:JUDGED_ROWS]),
        taken(new[to_teach:][:JUDGED_NEW]),
        taken(attacks),
        lambda x, rows: x.take(pa.array(rows)),
        lambda first, second: pa.concat_tables([first, second]),
    )


LESSONS: dict[str, tuple[Callable[[str, int], Lesson], tuple[str, ...]]] = {
    "mnist": (_digits, ("2 then 6", "4 then 9", "9 then 4")),
    "kddcup99-attacks": (_services, ("urp_i", "finger", "eco_i")),
}
"""By data set: the lesson of a part and a seed, and the parts. None of these had a part in writing `memae.teach`."""


def measure_teaching(data: str, root: Path = ROOT) -> Iterator[tuple[str, dict[str, float]]]:
    """Computes the figures that have no result yet, on one thread; gives each as it is done."""
    problem, (lesson_of, parts) = PROBLEMS[data], LESSONS[data]
    recorded = {"preset": problem.preset, **problem.settings}
    for seed in SEEDS:
        cell = Cell(data, "teaching", seed)
        cell.check(root, recorded)
        for part in parts:
            if all(f"{part}, {name}" in cell.parts(root) for name in _names()):
                continue
            for name, result in _taught(lesson_of(part, seed), problem, seed):
                cell.add(root, f"{part}, {name}", f"{COMMAND} --data {data}", recorded, result)
                yield f"{data}, {part}, seed {seed}: {name}", result["metrics"]


def _names() -> list[str]:
    return ["untouched", *(f"{how} {count}" for count in COUNTS for how in ("taught", "retrained"))]


def _taught(lesson: Lesson, problem: Any, seed: int) -> Iterator[tuple[str, dict[str, Any]]]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with TemporaryDirectory() as folder:
            path, started = Path(folder) / "model", time.process_time()
            model = _fresh(problem, seed).fit(lesson.fit)
            yield "untouched", _result(model, lesson, time.process_time() - started)
            model.save(path)
            flagged = np.flatnonzero(model.detect(lesson.new).is_anomaly)
            if not len(flagged):  # nothing to teach
                return
            for count in COUNTS:
                samples = lesson.take(lesson.new, flagged[:count])
                started = time.process_time()
                model, refused = Detector.load(path, device="cpu", engine="torch"), False
                for limits in ALLOWED:
                    try:
                        model.teach(samples, limits=limits)
                    except DataError:
                        refused = True
                    else:
                        break
                done = time.process_time() - started
                (teaching,) = model.facts.get("teachings") or [
                    {"items": 0, "widened": 0}
                ]  # refused under all limits
                more = {"refused": float(refused), "items": teaching["items"], "widened": teaching["widened"]}
                yield f"taught {count}", _result(model, lesson, done, more)
                started = time.process_time()
                model = _fresh(problem, seed).fit(lesson.join(lesson.fit, samples))
                yield f"retrained {count}", _result(model, lesson, time.process_time() - started)
    finally:
        torch.set_num_threads(threads)


def _fresh(problem: Any, seed: int) -> Detector:
    return Detector(problem.preset, seed=seed, settings=problem.settings, device="cpu", engine="torch")


def _result(
    model: Detector, lesson: Lesson, seconds: float, more: dict[str, float] | None = None
) -> dict[str, Any]:
    old, new, anomalies = (model.score(x).values for x in (lesson.old_normal, lesson.new_normal, lesson.anomalies))
    flags = model.threshold.flags

    def against(normal: np.ndarray) -> float:
        return auroc(np.repeat([False, True], [len(normal), len(anomalies)]), np.append(normal, anomalies))

    metrics = {
        "false_alarms_new": float(flags(new).mean()),
        "false_alarms_old": float(flags(old).mean()),
        "recall": float(flags(anomalies).mean()),
        "auroc_old": against(old),
        "auroc_new": against(new),
        **(more or {}),
    }
    return {
        "metrics": {name: round(float(value), 5) for name, value in metrics.items()},
        "samples": {"old": len(old), "new": len(new), "anomalies": len(anomalies)},
        "core_seconds": round(seconds, 2),
    }


FIGURES = ("false_alarms_new", "false_alarms_old", "recall", "auroc_old", "auroc_new")


def teaching_table(data: str, root: Path = ROOT) -> str:
    """The committed figures of a data set: means over the parts and seeds that had something to teach."""
    files = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((root / data).glob("*/seed-*.json"))]
    found = [
        (way, result)
        for file in files
        for part, _, way, result in ((*name.rpartition(", "), result) for name, result in file["parts"].items())
        if f"{part}, taught {COUNTS[0]}" in file["parts"]
    ]
    rows = []
    for name in _names():
        results = [result for own, result in found if own == name]
        if not results:
            continue
        means = {figure: float(np.mean([result["metrics"][figure] for result in results])) for figure in FIGURES}
        refused = [result["metrics"].get("refused") for result in results]
        items = [result["metrics"].get("items") for result in results]
        rows.append(
            [
                name,
                str(len(results)),
                *(f"{means[figure]:.1%}" for figure in FIGURES[:3]),
                *(f"{means[figure]:.4f}".removeprefix("0") for figure in FIGURES[3:]),
                "–" if items[0] is None else f"{np.mean(items):.1f}",
                "–" if refused[0] is None else f"{sum(refused):.0f} of {len(refused)}",
                f"{np.mean([result['core_seconds'] for result in results]):.1f}",
            ]
        )
    titles = [
        "samples of the new kind", "models", "its false alarms", "false alarms of the old normal", "anomalies found",
        "AUROC, old normal", "AUROC, new kind", "new items", "would be refused", "core seconds",
    ]  # fmt: skip
    return markdown(titles, rows) if rows else "No committed runs."
