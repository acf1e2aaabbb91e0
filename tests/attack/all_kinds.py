"""All kinds of input, with their shares of an attack."""

from __future__ import annotations

from tests.attack import makers, readers
from tests.attack.kinds import Kind

__all__ = ["KINDS"]

KINDS: tuple[Kind, ...] = (
    Kind("csv", 16, makers.make_csv, readers.read_with("table")),
    Kind("parquet", 9, makers.make_parquet, readers.read_with("table")),
    Kind("arrow", 12, makers.make_arrow, readers.read_with("table")),
    Kind("npy", 18, makers.make_npy, readers.read_with("image")),
    Kind("npz", 9, makers.make_npz, readers.read_with("image")),
    Kind("idx", 12, makers.make_idx, readers.read_with("image")),
    Kind("image", 10, makers.make_image, readers.read_with("image")),
    Kind("frames", 2, makers.make_frames, readers.read_with("video", frame_rate=25.0)),
    Kind("truth", 2, makers.make_truth, readers.read_labels),
    Kind("mask", 2, makers.make_mask, readers.read_polygons),
    Kind("list", 0.5, makers.make_list, readers.read_with("image")),
    Kind("video", 0.6, makers.make_video, readers.read_with("video")),
    Kind("playlist", 0.4, makers.make_playlist, readers.read_playlist),
    Kind("settings", 2, makers.make_settings, readers.read_settings),
    Kind("model", 4, makers.make_model, readers.read_model),
    Kind("checkpoint", 0.1, makers.make_checkpoint, readers.read_checkpoint),
)
