"""Defects of magnetic tiles, photographs split by tile: our default, a look-up with more items, and trivial scores.

For each method and seed there is one file. `train/good` is fitted and tells which photographs show one tile; all of
`test` is ranked. The test labels are for these figures alone.
"""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from experiments.markdown import markdown
from experiments.methods.look_up import nearest_neighbour
from experiments.records import RESULTS, provenance, write_result
from memae import Detector, datasets
from memae.metrics import auroc

__all__ = ["METHODS", "TILES", "measure_tiles", "tiles_table"]

TILES = RESULTS / "magnetic_tile"
SEEDS = 3
THUMBNAIL_PX = 32
# a read at so low a temperature is its nearest item, so this is a look-up among drawn patches
LOOK_UP = {"memory": {"num_items": 8000, "initialisation": "data", "temperature": 1e-3}}
SETTINGS: dict[str, dict[str, Any]] = {"features": {}, "features-look-up": LOOK_UP}
METHODS = {
    "features": "**MemAE** over frozen features (our default), 1,000 items",
    "features-look-up": "the same, nearest of 8,000 patches",
    "1-nn": f"1-NN by cosine, {THUMBNAIL_PX} x {THUMBNAIL_PX} px",
    "darkness": "mean darkness of the image",
}


def measure_tiles(method: str, seeds: int = SEEDS, root: Path = TILES) -> Iterator[dict[str, Any]]:
    """Computes the seeds of a method that have no file yet; gives each result as it is done.

    Args:
        method: one of `METHODS`; the trivial ones have no randomness, and one seed.
        seeds: how many.
        root: folder of the results.
    """
    for seed in range(seeds if method in SETTINGS else 1):
        path = root / method / f"seed-{seed}.json"
        if path.exists():
            continue
        started = time.perf_counter()
        found = _of_detector(SETTINGS[method], seed) if method in SETTINGS else {"auroc": _trivial(method)}
        result = {
            "data": "magnetic_tile",
            "method": method,
            "command": f"python -m experiments tiles --method {method}",
            **provenance(seed),
            **found,
            "seconds": round(time.perf_counter() - started, 1),
        }
        write_result(path, result)
        yield result


def _of_detector(settings: dict[str, Any], seed: int) -> dict[str, Any]:
    data = datasets.data_root() / "magnetic_tile"
    started = time.perf_counter()
    detector = Detector("features", seed=seed, settings=settings, device="cpu").fit(data, group=_groups(data))
    fitted_s = time.perf_counter() - started
    options = {"root": data, "skip_bad": True, "drop": ()}
    judged = detector.modality.evaluate(detector, detector.open(data), options, None)
    return {
        "settings": settings,
        "config": detector.config.model_dump(mode="json"),
        "input": detector.preprocess.shape,
        "samples": detector.facts["samples"],
        "fit_seconds": round(fitted_s, 1),
        "left_out": len(judged.left_out),
        "figures": judged.result.figures(),
    }


def _groups(data: Path) -> list[str]:
    """The tile of each image of `train/good`, in the order in which a folder is read."""
    with (data / "groups.csv").open(newline="", encoding="utf-8") as file:
        of_file = {row["file"]: row["group"] for row in csv.DictReader(file)}
    return [of_file[f"train/good/{path.name}"] for path in _images(data / "train" / "good")]


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".png", ".bmp"))


def _trivial(method: str) -> float:
    """The AUROC of a score that takes no training."""
    data = datasets.data_root() / "magnetic_tile"
    ranked = _images(data / "test")
    labels = np.array([path.parent.name != "good" for path in ranked])
    x = _thumbnails(ranked)
    if method == "darkness":
        return auroc(labels, -x.mean(axis=(1, 2)))
    look_up = nearest_neighbour("cosine")(_thumbnails(_images(data / "train" / "good")), 0)
    return auroc(labels, look_up.score(x))


def _thumbnails(paths: list[Path]) -> np.ndarray:
    """(S, 32, 32) uint8 grey of images, stretched to a square."""
    size = (THUMBNAIL_PX, THUMBNAIL_PX)
    opened = (Image.open(path, formats=["JPEG", "PNG"]) for path in paths)
    return np.stack([np.asarray(image.convert("L").resize(size, Image.Resampling.BOX)) for image in opened])


def tiles_table(root: Path = TILES) -> str:
    """The committed results: the mean over the seeds, and the least and the greatest."""
    rows = []
    for method, title in METHODS.items():
        results = [json.loads(p.read_text(encoding="utf-8")) for p in sorted((root / method).glob("seed-*.json"))]
        if not results:
            continue
        cells = [title, *(_range(results, name) for name in ("auroc", "pixel_auroc", "aupro", "recall"))]
        fitted = [result["fit_seconds"] for result in results if "fit_seconds" in result]
        rows.append([*cells, f"{np.mean(fitted):.0f}" if fitted else "–", str(len(results))])
    titles = ["score", "AUROC", "pixel AUROC", "AUPRO", "recall at the threshold", "fit, s", "seeds"]
    return markdown(titles, rows) if rows else "No committed runs."


def _range(results: list[dict[str, Any]], name: str) -> str:
    values = [_figure(result, name) for result in results]
    if None in values:
        return "–"
    mean, least, most = np.mean(values), min(values), max(values)
    return f"{mean:.3f}" if len(values) == 1 else f"{mean:.3f} ({least:.3f} to {most:.3f})"


def _figure(result: dict[str, Any], name: str) -> Any:
    figures = result.get("figures", {})
    found = {**result, **figures, **figures.get("pixels", {})}.get(name)
    return found["value"] if isinstance(found, dict) else found
