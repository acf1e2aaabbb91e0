"""Ten small one-class tables of ADBench: half of the normal rows are fitted, all others are the test."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from experiments.protocols.metrics import ranking
from experiments.protocols.split import Metrics, Split
from memae import datasets
from memae.errors import DataError

__all__ = ["CHOSEN_ON", "CONFIRM", "TABLES", "judge", "load", "split"]

CHOSEN_ON = ("14_glass", "18_Ionosphere", "28_pendigits", "30_satellite", "38_thyroid", "40_vowels", "6_cardio")
"""The default was chosen on rows of these."""
CONFIRM = ("22_magic.gamma", "2_annthyroid", "45_wine")
"""These were not opened before the default stood."""
TABLES = {name.split("_")[1]: name for name in (*CHOSEN_ON, *CONFIRM)}


def load(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows (S, D) float32 and whether each is an anomaly (S,), of a file of the data folder.

    Raises:
        DataError: the file is not there.
    """
    path = datasets.data_root() / "tables" / f"{name}.npz"
    if not path.exists():
        raise DataError(f"{path}: no such file; set MEMAE_DATA to the folder that holds tables/")
    with np.load(path, allow_pickle=False) as loaded:
        return loaded["X"].astype(np.float32), loaded["y"].ravel() == 1


def split(part: str, seed: int) -> Split:
    """A table by its short name; the seed draws the half that is fitted."""
    rows, anomalous = load(TABLES[part])
    normal_rows = np.random.default_rng(seed).permutation(np.flatnonzero(~anomalous))
    half = len(normal_rows) // 2
    tested = np.concatenate([normal_rows[half:], np.flatnonzero(anomalous)])
    return Split(rows[normal_rows[:half]], rows[tested], anomalous[tested], {"full": np.arange(len(tested))})


def judge(split: Split, scores: np.ndarray, fit_scores: Callable[[], np.ndarray]) -> Metrics:
    """The ranking of the test rows."""
    return {protocol: ranking(split.labels[rows], scores[rows]) for protocol, rows in split.judged.items()}
