"""The layout of MVTec AD and its kin: train/good, test/<defect>, ground_truth/<defect>/<name>_mask.png."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

__all__ = ["NORMAL_FOLDER", "Layout", "find_layout"]

NORMAL_FOLDER = "good"


class Layout(NamedTuple):
    """Where its parts lie."""

    train: Path
    test: Path
    masks: Path | None


def find_layout(root: Path) -> Layout | None:
    """The parts of a folder that has train/good and test; None for any other."""
    layout = Layout(root / "train" / NORMAL_FOLDER, root / "test", root / "ground_truth")
    if not (layout.train.is_dir() and layout.test.is_dir()):
        return None
    return layout if layout.masks and layout.masks.is_dir() else layout._replace(masks=None)
