"""The demo: MemAE, the plain autoencoder and an untrained network compared on real data, with figures.

Every figure is of samples that no part of the training saw; the threshold comes from normal samples only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from memae import datasets
from memae.detector import Detector
from memae.metrics import auroc
from memae.plots.figures import draw_cells, draw_items, draw_reconstructions
from memae.progress import Progress, stage

__all__ = ["DATA_SETS", "NOTES", "FalseAlarms", "Result", "run_demo"]

WANTED_RATE = 0.05
SHOWN = 3  # normal samples in a figure, and as many anomalies


@dataclass(frozen=True)
class FalseAlarms:
    """Share of normal samples flagged: what the threshold was set for, and what held-out ones saw."""

    wanted: float
    measured: float


@dataclass(frozen=True)
class Result:
    """One data set: AUROC on held-out samples of each model, and the false alarms of MemAE's threshold."""

    memae: float
    autoencoder: float
    untrained: float
    false_alarm_rate: FalseAlarms


@dataclass(frozen=True)
class _Task:
    """A one-class problem: normal samples to fit, and normal and anomalous ones that were held out."""

    title: str
    fit: Any
    normal: Any
    anomalous: Any
    preset: str | None = None


def _digits(seed: int) -> _Task:
    """Handwritten zeros are normal; nine other digits are not."""
    images, labels = datasets.digits()
    fit, held_out = _halves(np.flatnonzero(labels == 0), seed, share=2 / 3)
    return _Task("scikit-learn's digits: 0 is normal", images[fit], images[held_out], images[labels != 0])


def _breast_cancer(seed: int) -> _Task:
    """Benign measurements are normal; malignant ones are not."""
    rows, malignant = datasets.breast_cancer()
    fit, held_out = _halves(np.flatnonzero(~malignant), seed, share=2 / 3)
    take: Callable[[np.ndarray], pa.Table] = rows.take
    return _Task(
        "scikit-learn's breast cancer: benign is normal",
        take(fit), take(held_out), take(np.flatnonzero(malignant)),
    )  # fmt: skip


def _mnist(seed: int) -> _Task:
    """The official split: a model of the training eights, held against the whole test file."""
    train, train_labels = datasets.mnist("train")
    test, labels = datasets.mnist("test")
    return _Task("MNIST: 8 is normal", train[train_labels == 8], test[labels == 8], test[labels != 8], "mnist")


def _kddcup99(seed: int) -> _Task:
    """As the paper has it: attacks, the majority, are the normal data; half of the rows are held out."""
    rows, labels = datasets.kddcup99()
    first, second = _halves(np.arange(len(labels)), seed, share=1 / 2)
    attack = labels != "normal"
    return _Task(
        "KDDCUP99 10 %: attacks are the normal data",
        rows.take(first[attack[first]]), rows.take(second[attack[second]]), rows.take(second[~attack[second]]),
        "kddcup",
    )  # fmt: skip


_TASKS: dict[str, dict[str, Callable[[int], _Task]]] = {
    "bundled": {"images": _digits, "table": _breast_cancer},
    "mnist": {"images": _mnist},
    "kddcup99": {"table": _kddcup99},
}

DATA_SETS = tuple(_TASKS)

NOTES: Mapping[str, tuple[str, ...]] = {
    "bundled": (
        "Images: MemAE rebuilds every image from stored zeros, so other digits get larger errors. The plain "
        "autoencoder has the same narrow code here, and does as well.",
        "Table: the benign rows form one compact cloud, and malignant rows lie farther from its centre. That distance "
        "alone ranks them, so even an untrained network does. A memory has nothing to add on such data.",
    ),
}
"""How to read the figures of a data set, in sentences, by its name."""


def run_demo(
    data: str,
    folder: Path,
    *,
    seed: int = 0,
    announce: Callable[[str], None],
    progress: Progress | None = None,
) -> dict[str, Result]:
    """Runs the one or two tasks of a data set and draws the figures into `folder`.

    Args:
        data: one of `DATA_SETS`.
        folder: of the figures; made if it is not there.
        seed: of the split and the models.
        announce: called with the name of each step.
        progress: called with each event; see `memae.progress`.

    Raises:
        DataError: the data set is not on this machine.
    """
    return {kind: _run(kind, make(seed), folder, seed, announce, progress) for kind, make in _TASKS[data].items()}


def _run(
    kind: str,
    task: _Task,
    folder: Path,
    seed: int,
    announce: Callable[[str], None],
    progress: Progress | None,
) -> Result:
    def fit(what: str, settings: Mapping[str, Any]) -> Detector:
        announce(f"{task.title}: {what}")
        wanted = {"threshold": {"false_alarm_rate": WANTED_RATE}}
        return Detector(task.preset, seed=seed, settings={**wanted, **settings}).fit(task.fit, progress=progress)

    memae = fit("MemAE", {})
    plain = fit("plain autoencoder", {"memory": {"enabled": False}})
    untrained = fit("untrained network", {"train": {"epochs": 0}})
    detectors = {"memae": memae, "autoencoder": plain, "untrained": untrained}
    scores = {name: _held_out(detector, task, progress) for name, detector in detectors.items()}
    labels = np.r_[np.zeros(len(scores["memae"][0]), bool), np.ones(len(scores["memae"][1]), bool)]
    with stage(progress, "drawing", "pictures"):
        _draw(kind, task, memae, plain, folder)
    return Result(
        **{name: auroc(labels, np.concatenate(parts)) for name, parts in scores.items()},
        false_alarm_rate=FalseAlarms(WANTED_RATE, float(memae.threshold.flags(scores["memae"][0]).mean())),
    )


def _held_out(detector: Detector, task: _Task, progress: Progress | None) -> tuple[np.ndarray, ...]:
    return tuple(detector.score(part, progress=progress).values for part in (task.normal, task.anomalous))


def _draw(kind: str, task: _Task, memae: Detector, plain: Detector, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    samples = [(_some(task.normal, SHOWN), "normal"), (_some(task.anomalous, SHOWN), "anomaly")]
    for name, detector in (("memae", memae), ("autoencoder", plain)):
        found = [(e, what) for part, what in samples for e in detector.explain(part)]
        captions = [f"{what}\nscore {e.score:.3g}\np {e.p_value:.2g}" for e, what in found]
        shown = [e for e, _ in found]
        if kind == "images":
            draw_reconstructions(shown, captions, folder / f"images-{name}.png")
        else:
            flat = [caption.replace("\n", ", ") for caption in captions]
            draw_cells(shown, flat, folder / f"table-{name}.png")
    items = memae.items()
    if items and items.pictures is not None:
        draw_items(items, folder / "images-items.png")


def _halves(index: np.ndarray, seed: int, *, share: float) -> tuple[np.ndarray, np.ndarray]:
    order = np.random.default_rng(seed).permutation(index)
    cut = round(len(order) * share)
    return order[:cut], order[cut:]


def _some(samples: Any, count: int) -> Any:
    """`count` samples spread over the whole."""
    rows = np.linspace(0, len(samples) - 1, count).astype(int)
    return samples.take(rows) if isinstance(samples, pa.Table) else samples[rows]
