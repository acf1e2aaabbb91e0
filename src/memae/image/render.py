"""Files of single images: the image with its anomaly map over it, the map as numbers, and the mask of its regions.

The three functions that save take the same, so that one pass writes what is wanted.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from memae.errors import ConfigError
from memae.files.atomic import atomic_file, check_writable
from memae.files.image import as_8_bit
from memae.plots.anomaly_map import draw_anomaly_map
from memae.plots.regions import draw_boxes, find_regions
from memae.types import Explanation, Key

__all__ = ["STEPS", "check_maps_folder", "map_path", "save_map", "save_mask", "save_overlay"]

STEPS = 4096
"""The number of a pixel that stands for the threshold of maps; 65,535 then is 16 times the threshold."""
MOST = 65_535  # of 16 bits


def save_overlay(found: Explanation, threshold: float, path: Path, picture: np.ndarray | None = None) -> None:
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
    _save(drawn, path)


def save_map(found: Explanation, threshold: float, path: Path, picture: np.ndarray | None = None) -> None:
    """Saves the anomaly map as a 16-bit PNG of the size of the image, in score units.

    A number times `scale` is the value of the map. All maps of a model have one scale: the threshold is 4,096. What
    exceeds 16 times the threshold is written as 65,535, and NaN as 0. The texts of the PNG are `unit`, in words, and
    as numbers `scale`, `threshold` and `maximum`, the highest value of the map. A px has the value of the patch that it
    lies in. Arguments as of `save_overlay`; `picture` gives the size alone.
    """
    assert found.anomaly_map is not None, "only images have anomaly maps"
    scale = (threshold if threshold > 0 else 1.0) / STEPS
    steps = np.nan_to_num(np.round(found.anomaly_map.astype(np.float64) / scale)).clip(0, MOST).astype(np.uint16)
    texts = PngInfo()
    texts.add_text("unit", "score units; the value of a px times scale is the value of the anomaly map")
    for name, value in (("scale", scale), ("threshold", threshold), ("maximum", np.nanmax(found.anomaly_map))):
        texts.add_text(name, repr(float(value)))
    _save(Image.fromarray(_enlarged(steps, found, picture)), path, texts)


def save_mask(found: Explanation, threshold: float, path: Path, picture: np.ndarray | None = None) -> None:
    """Saves an 8-bit PNG of the size of the image: 255 where the anomaly map exceeds the threshold, else 0.

    Arguments as of `save_overlay`; `picture` gives the size alone.
    """
    assert found.anomaly_map is not None, "only images have anomaly maps"
    above = np.where(found.anomaly_map > threshold, 255, 0).astype(np.uint8)
    _save(Image.fromarray(_enlarged(above, found, picture)), path)


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


def _save(drawn: Image.Image, path: Path, texts: PngInfo | None = None) -> None:
    with atomic_file(path) as part:
        # photographs hardly get smaller with more
        drawn.save(part, format="png", compress_level=1, pnginfo=texts)


def _enlarged(values: np.ndarray, found: Explanation, picture: np.ndarray | None) -> np.ndarray:
    """(H, W) of the image: each px has the value of the patch of a map (h, w) in which it lies, as boxes count them."""
    if picture is not None:
        height, width = picture.shape[:2]
    elif found.tile_at is None and found.x is not None:
        height, width = found.x.shape[1:]
    else:  # x is but a tile of the image
        height, width = values.shape
    rows, columns = (np.arange(size) * of // size for size, of in zip((height, width), values.shape, strict=True))
    enlarged: np.ndarray = values[rows[:, None], columns]
    return enlarged


def _as_seen(found: Explanation) -> np.ndarray:
    assert found.x is not None
    x = found.x if found.x.shape[0] == 3 else found.x[:1].repeat(3, axis=0)
    return np.ascontiguousarray(as_8_bit(x).transpose(1, 2, 0))
