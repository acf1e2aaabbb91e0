"""What the figures show, computed point by point and kept as one file each; drawn by `experiments.drawings`.

The figures show how settings act; they are no results. So they are judged on the validation split of `mnist_tuning`,
one class, after a brief training on some of its images, and no test split is opened.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.methods import METHODS
from experiments.protocols.images import mnist_tuning
from experiments.protocols.metrics import ranking
from experiments.protocols.split import Split
from experiments.records import RESULTS, provenance, write_result
from memae import Detector, datasets
from memae.files.atomic import atomic_file
from memae.types import Explanation

__all__ = ["FIGURES", "Point", "compute_figures", "pictures_of", "points", "results_of"]

FIGURES = RESULTS / "figures"
COMMAND = "python -m experiments figures --compute"

Settings = Mapping[str, Mapping[str, Any]]
Pictures = dict[str, np.ndarray]

NORMAL = 8  # the class of the sweeps and of the training curves
IMAGES = 1500  # of it that these are fitted on
SIZES = (10, 25, 50, 100, 200, 400)
SIZE_SEEDS = (0, 1, 2)
SHRINKAGES = (0.0, 1.0, 2.0, 3.0, 5.0, 10.0)  # multiples of 1/N
SHARPNESS = (1, 3, 10, 30, 100)  # 1/temperature
TRAINED, SHOWN = 5, 9
# of figures of a memory that were kept before 0.2.0
OLD_NAMES = {"items_twin": "items_duplicate", "rescued_share": "fallback_share"}
EXAMPLES = 4  # of each of the two digits
NINES = 1000  # that are ranked against the held-out fives
SCALE = 100  # pictures are kept as whole hundredths of what the network sees

# All that is fitted trains on; the presets keep their last epoch, so that nothing needs to be held out.
ALL_OF_IT: Settings = {"train": {"validation_share": 0.0}, "threshold": {"calibration_share": 0.0}}
PLAIN: Settings = {"memory": {"enabled": False}}
SMALL_BATCHES: Settings = {"train": {"batch_size": 64}}  # as many steps as the whole class makes in batches of 128
BRIEF: Settings = {"train": {"epochs": 10}, "memory": {"warmup_epochs": 3}}
UNIFORM: Settings = {"train": {"epochs": 13}, "memory": {"warmup_epochs": 0, "initialisation": "uniform"}}


@dataclass(frozen=True)
class Point:
    """One fit of a figure."""

    figure: str
    name: str
    preset: str | None
    """None is the method of the point's name, at its only setting."""
    settings: Settings
    seed: int = 0

    def path(self, root: Path) -> Path:
        """Where its result lies."""
        return root / self.figure / f"{self.name}.json"


def points() -> list[Point]:
    """All points of all figures, in the order in which they are computed."""
    digits = [
        Point("digits", "memae", "mnist", ALL_OF_IT),
        Point("digits", "autoencoder", "mnist", _with(ALL_OF_IT, PLAIN)),
    ]
    brief = _with(ALL_OF_IT, SMALL_BATCHES, BRIEF)
    sizes = [
        point
        for seed in SIZE_SEEDS
        for point in (
            *(
                Point("memory-size", f"{n}-seed-{seed}", "mnist", _with(brief, _memory(num_items=n)), seed)
                for n in SIZES
            ),
            Point("memory-size", f"autoencoder-seed-{seed}", "mnist", _with(brief, PLAIN), seed),
        )
    ]
    look_ups = [Point("memory-size", name, None, {}) for name in ("1-nn-cosine", "1-nn-smooth-cosine")]
    sparsity = [
        Point(
            figure,
            f"{shrinkage:g}-by-n-tau-1-by-{sharpness}",
            "mnist",
            _with(settings, _memory(shrinkage=shrinkage, temperature=1 / sharpness)),
        )
        for figure, settings in (("sparsity", brief), ("sparsity-uniform", _with(brief, UNIFORM)))
        for shrinkage in SHRINKAGES
        for sharpness in SHARPNESS
    ]
    training = [
        Point("training", preset, preset, _with(ALL_OF_IT, SMALL_BATCHES))
        for preset in ("mnist", "mnist-paper", "mnist-released")
    ]
    first = len(SIZES) + 1
    return [*digits, *look_ups, *sizes[:first], *sparsity, *training, *sizes[first:]]


def compute_figures(
    root: Path = FIGURES, wanted: Sequence[Point] | None = None
) -> Iterator[tuple[Point, dict[str, Any]]]:
    """Computes the points that have no result file yet; gives each as it is done.

    Raises:
        KeyboardInterrupt: also where a training has caught it and ended early; what was finished is kept.
    """
    for point in points() if wanted is None else wanted:
        path = point.path(root)
        if path.exists():
            continue
        started = time.process_time()
        found, pictures = _MEASURES[point.figure](point)
        result = {
            "figure": point.figure,
            "preset": point.preset,
            "settings": point.settings,
            **found,
            "metrics": {name: round(value, 6) for name, value in found["metrics"].items()},
            "cpu_seconds": round(time.process_time() - started, 1),
            "command": COMMAND,
            **provenance(point.seed),
        }
        if pictures:
            with atomic_file(path.with_suffix(".npz")) as part, part.open("wb") as file:
                np.savez_compressed(file, **pictures)  # type: ignore[arg-type]
        write_result(path, result)
        yield point, result


def results_of(figure: str, root: Path = FIGURES) -> dict[str, dict[str, Any]]:
    """The results of a figure by the names of their points, in the order of the names."""
    kept = sorted((root / figure).glob("*.json"))
    return {path.stem: json.loads(path.read_text(encoding="utf-8"), object_hook=_present_names) for path in kept}


def _present_names(values: dict[str, Any]) -> dict[str, Any]:
    """A part of a kept result, with the figures of its memory under their present names."""
    return {OLD_NAMES.get(name, name): value for name, value in values.items()}


def pictures_of(figure: str, name: str, root: Path = FIGURES) -> Pictures:
    """The arrays beside a result; images are in units of the network again."""
    with np.load(root / figure / f"{name}.npz", allow_pickle=False) as kept:
        return {key: kept[key] / SCALE if kept[key].dtype == np.int16 else kept[key] for key in kept.files}


def _ranked(point: Point) -> tuple[dict[str, Any], Pictures]:
    """How well held-out images are ranked, and how the memory was used in the last epoch."""
    split = _some(mnist_tuning(NORMAL, seed=0))
    if point.preset is None:
        fitted = METHODS[point.name](split.fit, point.seed)
        return {"metrics": ranking(split.labels, fitted.score(split.test)), "data": _sizes(split)}, {}
    detector = _fit(point, split.fit)
    found = {
        "metrics": ranking(split.labels, detector.score(split.test).values),
        "memory": detector.facts["last_epoch"]["memory"],
        "training": _training(detector),
        "data": _sizes(split),
    }
    return found, {}


def _watched(point: Point) -> tuple[dict[str, Any], Pictures]:
    """The use of the memory epoch by epoch; beside it how well the end of it ranks."""
    split = _some(mnist_tuning(NORMAL, seed=0))
    detector = _fit(point, split.fit)
    assert detector.history is not None
    found = {
        "metrics": ranking(split.labels, detector.score(split.test).values),
        "epochs": [
            {"loss": record.loss, **asdict(record.memory)}
            for record in detector.history.records
            if record.memory is not None
        ],
        "training": _training(detector),
        "data": _sizes(split),
    }
    return found, {}


def _pictured(point: Point) -> tuple[dict[str, Any], Pictures]:
    """Trained on fives: the first held-out fives and the first nines, rebuilt; the items of the memory."""
    split = mnist_tuning(TRAINED, seed=0)
    pixels, labels = datasets.mnist("train")
    nines, fives = pixels[labels == SHOWN][:NINES], split.test[~split.labels]
    detector = _fit(point, split.fit)
    shown = detector.explain(np.concatenate([fives[:EXAMPLES], nines[:EXAMPLES]]))
    both = detector.score(np.concatenate([fives, nines])).values
    found = {
        "metrics": {
            **ranking(split.labels, detector.score(split.test).values),
            "auroc_nines": ranking(np.arange(len(both)) >= len(fives), both)["auroc"],
        },
        "scores": [round(sample.score, 4) for sample in shown],
        "digits": [*[TRAINED] * len(fives[:EXAMPLES]), *[SHOWN] * len(nines[:EXAMPLES])],
        "training": _training(detector),
        "data": {"normal": TRAINED, "fit": len(split.fit), "fives": len(fives), "nines": len(nines)},
    }
    pictures = {key: _hundredths(_of(shown, key)) for key in ("x", "reconstruction", "error_map")}
    items = detector.items()
    if items is not None and items.pictures is not None:
        pictures |= {"items": _hundredths(items.pictures[:, 0]), "uses": items.usage_counts}
    return found, pictures


_MEASURES = {
    "memory-size": _ranked,
    "sparsity": _ranked,
    "sparsity-uniform": _ranked,
    "training": _watched,
    "digits": _pictured,
}


def _fit(point: Point, x: np.ndarray) -> Detector:
    detector = Detector(point.preset, seed=point.seed, settings=point.settings).fit(x)
    if detector.facts["interrupted"]:
        raise KeyboardInterrupt  # the loop goes on with what it has; a figure has no use for it
    return detector


def _some(split: Split) -> Split:
    return Split(split.fit[:IMAGES], split.test, split.labels, split.judged)


def _sizes(split: Split) -> dict[str, int]:
    return {
        "normal": NORMAL,
        "fit": len(split.fit),
        "judged": len(split.test),
        "anomalies": int(split.labels.sum()),
    }


def _training(detector: Detector) -> dict[str, Any]:
    """What a caption says of the fit."""
    config = detector.config
    memory = {
        key: value for key, value in config.memory.model_dump().items() if key in ("shrinkage", "temperature")
    }
    items = None if detector.model.memory is None else {"items": detector.model.memory.num_items, **memory}
    warm = config.memory.warmup_epochs if items else 0
    return {"epochs": config.train.epochs, "warm": warm, "memory": items}


def _of(shown: Sequence[Explanation], key: str) -> np.ndarray:
    """(S, H, W) of grey images."""
    pictures = np.stack([getattr(sample, key) for sample in shown])
    return pictures.reshape(len(shown), *pictures.shape[-2:])


def _hundredths(pictures: np.ndarray) -> np.ndarray:
    """Whole numbers pack well, and show what the eye can tell apart."""
    whole: np.ndarray = np.clip(np.rint(SCALE * pictures), -32767, 32767).astype(np.int16)
    return whole


def _memory(**values: Any) -> Settings:
    return {"memory": values}


def _with(*layers: Settings) -> Settings:
    merged: dict[str, dict[str, Any]] = {}
    for layer in layers:
        for section, values in layer.items():
            merged[section] = {**merged.get(section, {}), **values}
    return merged
