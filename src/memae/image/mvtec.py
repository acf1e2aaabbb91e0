"""Folders laid out like MVTec AD: train/good, test/<defect>, ground_truth/<defect>/<name>_mask.png."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

__all__ = ["NORMAL_FOLDER", "MVTecFolders", "find_mvtec"]

NORMAL_FOLDER = "good"


class MVTecFolders(NamedTuple):
    """The parts of such a folder."""

    train: Path
    test: Path
    masks: Path | None


def find_mvtec(root: Path) -> MVTecFolders | None:
    """The parts of a folder that has train/good and test; None for any other."""
    train, test, masks = root / "train" / NORMAL_FOLDER, root / "test", root / "ground_truth"
    if not (train.is_dir() and test.is_dir()):
        return None
    return MVTecFolders(train, test, masks if masks.is_dir() else None)
