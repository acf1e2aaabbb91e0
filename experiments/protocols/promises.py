"""Splits that a false-alarm rate is measured on: some groups to fit on, normal samples of others, and anomalies.

Each split is drawn by its number. Where samples have no group, each is its own, and the rows are shuffled.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from experiments.protocols import small_tables
from memae import datasets

__all__ = ["SPLITS", "Draw", "Splits"]

MNIST_CLASS, MNIST_IMAGES = 8, 2000
KDD_ROWS, SERVICE_ROWS = 20_000, 2_000
FITTED = 2 / 3  # of the tiles
ALL_ITS_OWN = "each sample"


@dataclass(frozen=True)
class Draw:
    """One split."""

    fit: Any
    """Normal samples of some groups, as `memae.Detector.fit` takes them."""
    group: str | Sequence[Hashable] | None
    """What `fit` is told of their groups."""
    fit_groups: int
    normal: Any
    """Normal samples of groups that are not in `fit`."""
    normal_groups: np.ndarray
    """(n,) the group of each of them."""
    anomalies: Any


@dataclass(frozen=True)
class Splits:
    """A data set of samples that do not come one after the other."""

    draw: Callable[[int], Draw]
    """From the number of the split."""
    title: str
    unit: str
    """What a sample is called, in the plural."""
    grouped_by: str
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Of the detector, beside the defaults."""
    note: str = ""
    """What a reader should know."""


def _table(name: str, seed: int) -> Draw:
    """A table of ADBench: half of the normal rows are fitted, the other half is measured."""
    rows, anomalous = small_tables.load(small_tables.TABLES[name])
    normal = np.random.default_rng(seed).permutation(np.flatnonzero(~anomalous))
    fitted, measured = np.array_split(normal, 2)
    return _ungrouped(rows[fitted], rows[measured], rows[anomalous])


def _digits(seed: int) -> Draw:
    """Images of one class of MNIST, from both official parts together."""
    parts = [datasets.mnist(part) for part in ("train", "test")]
    pixels, labels = (np.concatenate(each) for each in zip(*parts, strict=True))
    order = np.random.default_rng(seed).permutation(len(labels))
    normal, anomalous = order[labels[order] == MNIST_CLASS], order[labels[order] != MNIST_CLASS]
    fitted, measured = np.array_split(normal[: 2 * MNIST_IMAGES], 2)
    return _ungrouped(pixels[fitted], pixels[measured], pixels[anomalous[:MNIST_IMAGES]])


def _ungrouped(fitted: np.ndarray, measured: np.ndarray, anomalies: np.ndarray) -> Draw:
    return Draw(fitted, None, len(fitted), measured, np.arange(len(measured)), anomalies)


def _tiles(seed: int, told: bool) -> Draw:
    """Photographs of magnetic tiles; the good ones show tiles several times, and a split draws which are fitted."""
    root = datasets.data_root() / "magnetic_tile"
    with (root / "groups.csv").open(newline="", encoding="utf-8") as file:
        of_file = {root / row["file"]: row["group"] for row in csv.DictReader(file)}
    good = [path for path, tile in sorted(of_file.items()) if tile and path.parent.name == "good"]
    tiles = np.array([of_file[path] for path in good])
    names = np.random.default_rng(seed).permutation(np.unique(tiles))
    fitted = np.isin(tiles, names[: round(FITTED * len(names))])
    return Draw(
        fit=_chosen(good, fitted),
        group=tiles[fitted].tolist() if told else None,
        fit_groups=len(np.unique(tiles[fitted])),
        normal=_chosen(good, ~fitted),
        normal_groups=tiles[~fitted],
        anomalies=[path for path in sorted(of_file) if path.parent.name != "good"],
    )


def _chosen(paths: Sequence[Path], chosen: np.ndarray) -> list[Path]:
    return [path for path, taken in zip(paths, chosen, strict=True) if taken]


@lru_cache(maxsize=1)
def _kdd() -> tuple[pa.Table, np.ndarray, np.ndarray]:
    """Rows, whether each is an attack, and its service."""
    rows, labels = datasets.kddcup99()
    return rows, labels != "normal", np.array(rows["service"].to_pylist())


def _kdd_rows(seed: int) -> Draw:
    """Rows of normal traffic, shuffled."""
    rows, attack, _ = _kdd()
    order = np.random.default_rng(seed).permutation(len(attack))
    normal, attacks = order[~attack[order]], order[attack[order]]
    fitted, measured = normal[:KDD_ROWS], normal[KDD_ROWS : 2 * KDD_ROWS]
    anomalies = rows.take(attacks[:KDD_ROWS])
    return Draw(rows.take(fitted), None, len(fitted), rows.take(measured), np.arange(len(measured)), anomalies)


def _kdd_services(seed: int) -> Draw:
    """Rows of normal traffic of half of the services; measured are those of the other half."""
    rows, attack, services = _kdd()
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(attack))
    normal = order[~attack[order]]
    names = generator.permutation(np.unique(services[normal]))
    kept = np.concatenate([normal[services[normal] == name][:SERVICE_ROWS] for name in names])
    inside = np.isin(services[kept], names[: len(names) // 2])
    fitted, measured = kept[inside], kept[~inside]
    return Draw(
        fit=rows.take(fitted),
        group="service",
        fit_groups=len(names) // 2,
        normal=rows.take(measured),
        normal_groups=services[measured],
        anomalies=rows.take(order[attack[order]][:KDD_ROWS]),
    )


BRIEF_IMAGES = {"train": {"epochs": 5}}
TILES = {"train": {"epochs": 2}, "memory": {"warmup_epochs": 2}, "image": {"size_px": 96}}

SPLITS: dict[str, Splits] = {
    **{
        f"table-{name}": Splits(lambda seed, name=name: _table(name, seed), f"table {name}", "rows", ALL_ITS_OWN)  # type: ignore[misc]
        for name in small_tables.TABLES
    },
    f"mnist-{MNIST_CLASS}": Splits(
        _digits,
        f"MNIST, class {MNIST_CLASS}",
        "images",
        ALL_ITS_OWN,
        BRIEF_IMAGES,
        f"{MNIST_IMAGES:,} images to fit on, 5 epochs",
    ),
    "magnetic-tile": Splits(
        lambda seed: _tiles(seed, told=True), "magnetic tiles", "images", "tile", TILES, "2 epochs at 96 px"
    ),
    "magnetic-tile-untold": Splits(
        lambda seed: _tiles(seed, told=False),
        "magnetic tiles, `fit` not told the tiles",
        "images",
        "tile",
        TILES,
        "2 epochs at 96 px",
    ),
    "kddcup99-rows": Splits(
        _kdd_rows,
        "KDDCUP99, rows shuffled",
        "rows",
        ALL_ITS_OWN,
        {"train": {"epochs": 5}},
        f"{KDD_ROWS:,} rows, 5 epochs; equal rows stand on both sides",
    ),
    "kddcup99-services": Splits(
        _kdd_services,
        "KDDCUP99, by service",
        "rows",
        "service",
        {"train": {"epochs": 5}},
        f"at most {SERVICE_ROWS:,} rows of a service, 5 epochs",
    ),
}
