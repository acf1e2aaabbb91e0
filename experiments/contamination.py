"""What a few unlabelled anomalies among the normal data cost, without and with `contamination` in the settings.

For each data set of `protocols.contaminated`, way to train and seed there is one file, which grows by one fit at a
time. The figures of a fit are the AUROC, and at three thresholds the share of normal test samples that is flagged
(beside the wanted rate) and the share of anomalies that is flagged, the recall. The thresholds are that of all held-out
scores, that of `threshold.contamination` at the true share of anomalies, and that at 5 %, which is too much for most.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.markdown import markdown
from experiments.protocols.contaminated import PROBLEMS, Contaminated, Problem
from experiments.records import RESULTS, Cell
from memae import Detector, Threshold
from memae.metrics import auroc

__all__ = ["ROOT", "SHARES", "TRAININGS", "contamination_table", "measure"]

ROOT = RESULTS / "contamination"
SHARES = (0.0, 0.01, 0.02, 0.05)
SEEDS = (0, 1, 2)
COMMAND = "python -m experiments contamination"
OVERSTATED = 0.05

TRAININGS: Mapping[str, Callable[[float], float | None]] = {
    "all": lambda share: 0.0,
    "trimmed": lambda share: share or None,
    "overtrimmed": lambda share: OVERSTATED if share < OVERSTATED else None,
}
"""`train.contamination` at a share of anomalies; None: it is as in another way to train."""
TITLES = {
    "all": "all samples",
    "trimmed": "the true share left out",
    "overtrimmed": "5 % left out",
}
THRESHOLDS = {"all": "all scores", "trimmed": "the true share left out", "overtrimmed": "5 % left out"}


def measure(data: str, training: str, root: Path = ROOT) -> Iterator[tuple[str, dict[str, float]]]:
    """Computes the fits that have no result yet, on one thread; gives each as it is done."""
    problem = PROBLEMS[data]
    recorded = {"preset": problem.preset, **problem.settings}
    for seed in SEEDS:
        cell = Cell(data, training, seed)
        cell.check(root, recorded)
        for part in problem.parts:
            for share in SHARES:
                name, stated = f"{part} at {share:g}", TRAININGS[training](share)
                if stated is None or name in cell.parts(root):
                    continue
                result = _fitted(problem, part, share, seed, stated)
                cell.add(root, name, f"{COMMAND} --data {data} --training {training}", recorded, result)
                yield f"{data}, {training}, seed {seed}: {name}", result["metrics"]


def _fitted(problem: Problem, part: str, share: float, seed: int, stated: float) -> dict[str, Any]:
    threads, started = torch.get_num_threads(), time.process_time()
    train = {**problem.settings.get("train", {}), "contamination": stated}
    torch.set_num_threads(1)
    try:
        with problem.data(part, share, seed) as data:
            settings = {**problem.settings, "train": train}
            detector = Detector(problem.preset, seed=seed, settings=settings, device="cpu", engine="torch")
            detector.fit(data.fit)
            fit_s = time.process_time() - started
            metrics = _judged(detector, data, share)
    finally:
        torch.set_num_threads(threads)
    return {
        "metrics": {name: round(float(value), 5) for name, value in metrics.items()},
        "samples": {
            "normal": data.normal,
            "anomalies": data.anomalies,
            "calibration": detector.facts["samples"]["calibration"],
            "judged_normal": int((~data.labels).sum()),
            "judged_anomalies": int(data.labels.sum()),
        },
        "core_seconds": {"fit": round(fit_s, 2), "all": round(time.process_time() - started, 2)},
    }


def _judged(detector: Detector, data: Contaminated, share: float) -> dict[str, float]:
    """AUROC, wanted rate, and at each threshold the share of normal samples and of anomalies that are flagged."""
    scores, fitted = detector.score(data.test, skip_bad=True).values, detector.threshold
    kept = np.isfinite(scores)  # photographs of another shape than the model's have no score
    scores, labels = scores[kept], data.labels[kept]
    metrics = {"auroc": auroc(labels, scores), "wanted": fitted.false_alarm_rate}
    for name, contamination in {"all": 0.0, "trimmed": share, "overtrimmed": OVERSTATED}.items():
        section = detector.config.threshold.model_copy(update={"contamination": contamination})
        flags = Threshold.by(section, fitted.calibration, fitted.groups).flags(scores)
        metrics |= {f"flagged_{name}": float(flags[~labels].mean()), f"recall_{name}": float(flags[labels].mean())}
    return metrics


def contamination_table(data: str, root: Path = ROOT) -> str:
    """The committed figures of a data set: means over parts and seeds for each share, training and threshold."""
    rows = []
    for share in SHARES:
        for training, title in TITLES.items():
            found = _metrics(root / data / training, share)
            for threshold, how in THRESHOLDS.items():
                again = not share if threshold == "trimmed" else share == OVERSTATED and threshold == "overtrimmed"
                if found and not again:
                    mean = {name: float(np.mean([metrics[name] for metrics in found])) for name in found[0]}
                    names = ("auroc", "wanted", f"flagged_{threshold}", f"recall_{threshold}")
                    shown = (f"{mean[name]:.4f}".removeprefix("0") for name in names)
                    rows.append([f"{share:.0%}", title, how, *shown, str(len(found))])
    titles = ["anomalies", "training", "threshold", "AUROC", "wanted", "normal samples flagged", "recall", "fits"]
    return markdown(titles, rows) if rows else "No committed runs."


def _metrics(folder: Path, share: float) -> list[dict[str, float]]:
    files = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("seed-*.json"))]
    parts = [(name, result) for file in files for name, result in file["parts"].items()]
    return [result["metrics"] for name, result in parts if name.endswith(f" at {share:g}")]
