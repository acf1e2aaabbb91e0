"""Images with their anomaly maps over them, one PNG each."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from memae.errors import ConfigError
from memae.files.atomic import atomic_file, check_writable
from memae.files.image import as_8_bit
from memae.plots.anomaly_map import draw_anomaly_map
from memae.plots.regions import draw_boxes, find_regions
from memae.types import Explanation, Key

__all__ = ["check_maps_folder", "map_path", "save_map"]


def save_map(found: Explanation, threshold: float, path: Path, picture: np.ndarray | None = None) -> None:
    """Saves a PNG of an image with its anomaly map over it, and boxes around the regions of an anomaly.

    Args:
        found: the image explained.
        threshold: of anomaly maps, that the colours are measured by: `Detector.map_threshold`.
        path: of the PNG, replaced if there is one.
        picture: (H, W, 3) uint8 to draw on, of any size; None takes the image as the network saw it.
    """
    assert found.anomaly_map is not None, "only images have anomaly maps"
    drawn = Image.fromarray(_as_seen(found) if picture is None else picture)
    draw_anomaly_map(drawn, found.anomaly_map, threshold)
    if found.regions:  # of an image that is drawn at its own size or as the network saw it
        regions = find_regions(found.anomaly_map, threshold, drawn.height, drawn.width)
        draw_boxes(drawn, [region.box for region in regions])
    with atomic_file(path) as part:
        drawn.save(part, format="png", compress_level=1)  # photographs hardly get smaller with more


def map_path(key: Key) -> Path:
    """The path of an image's map within a folder: the image's own with .png behind it, as `a.jpg.png` for `a.jpg`.

    The suffix of the image stays, as there may be an a.png beside it. A path that leads out of the folder is changed to
    one that does not.
    """
    parts = [part for part in PurePosixPath(str(key)).parts if part != "/"]
    return Path(*("__" if part == ".." else part for part in parts[:-1]), f"{parts[-1]}.png")


def check_maps_folder(folder: Path, sources: Collection[str]) -> None:
    """Raises an error if maps would be written among images, or cannot be written.

    Raises:
        ConfigError: it is a file, or lies in a folder of the sources.
        WriteError: nothing can be written there.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder}: is a file; name a folder")
    for source in sources:
        inside = Path(source).resolve()
        if inside.is_dir() and (inside == folder.resolve() or inside in folder.resolve().parents):
            raise ConfigError(
                f"{folder}: lies in {source}, so the next run would take the maps for images; name a folder "
                "elsewhere"
            )
    check_writable(folder / "a.png")


def _as_seen(found: Explanation) -> np.ndarray:
    assert found.x is not None
    x = found.x if found.x.shape[0] == 3 else found.x[:1].repeat(3, axis=0)
    return np.ascontiguousarray(as_8_bit(x).transpose(1, 2, 0))
