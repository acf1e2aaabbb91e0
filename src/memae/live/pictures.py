"""Pictures of a watch: the frame of a camera for the page, and what the memory rebuilt of the peak of an event."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from memae.files.atomic import atomic_file
from memae.plots.anomaly_map import draw_anomaly_map
from memae.plots.regions import draw_boxes, find_regions
from memae.video.decode import DecodedPicture
from memae.video.pipeline import MapLevels

__all__ = ["as_jpeg", "save_rebuilt"]

JPEG_QUALITY = 80
PANEL_WIDTH = 320  # px, at least
GAP = 8  # px between two panels


def as_jpeg(picture: DecodedPicture, anomalies: tuple[np.ndarray, MapLevels] | None = None) -> bytes:
    """A frame as JPEG; any thread may ask for it.

    Args:
        picture: the frame.
        anomalies: its anomaly map (h, w), and the levels of it that its colours and boxes are drawn by.
    """
    from av.video.reformatter import VideoReformatter

    drawn = Image.fromarray(picture._replace(painter=VideoReformatter()).rgb())
    if anomalies:
        anomaly_map, levels = anomalies
        draw_anomaly_map(drawn, anomaly_map, levels.on)
        regions = find_regions(anomaly_map, levels.off, drawn.height, drawn.width)
        draw_boxes(drawn, [one.box for one in regions if one.peak >= levels.on])
    file = BytesIO()
    drawn.save(file, "JPEG", quality=JPEG_QUALITY)
    return file.getvalue()


def save_rebuilt(path: Path, seen: np.ndarray, rebuilt: np.ndarray) -> None:
    """Saves a PNG of a frame as the network saw it, beside what it rebuilt of it, in the same shades of grey.

    Args:
        path: of the PNG, replaced if there is one.
        seen: (H, W); 0 is grey, which stands for no motion where the network sees differences of frames.
        rebuilt: (H, W)

    Raises:
        WriteError: it cannot be written.
    """
    most = max(float(np.abs(seen).max()), 1e-6)
    height, width = seen.shape
    zoom = -(-PANEL_WIDTH // width)
    page = Image.new("L", (2 * zoom * width + GAP, zoom * height), 24)
    for place, part in enumerate((seen, rebuilt)):
        grey = np.round(127.5 + 127.5 * np.clip(part / most, -1, 1)).astype(np.uint8)
        panel = Image.fromarray(grey).resize((zoom * width, zoom * height), Image.Resampling.NEAREST)
        page.paste(panel, (place * (zoom * width + GAP), 0))
    with atomic_file(path) as part_path:
        page.save(part_path, format="png")
