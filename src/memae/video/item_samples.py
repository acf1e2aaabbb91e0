"""The real footage that an item of a memory of motion stands for."""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F

from memae.memory.item_samples import SIDE_PX, window
from memae.video.dataset import Clips

__all__ = ["footage_around"]


def footage_around(clips: Clips, positions: tuple[int, ...], number: int, place: int) -> np.ndarray:
    """(1, h, w) uint8 of a clip, as it was filmed: around a place (t, h, w), or a whole frame made as small."""
    whole = positions or (1, 1, 1)
    time, row, column = np.unravel_index(place, whole)
    frames = clips.frames[number]
    frame = clips.pixels[frames[(2 * int(time) + 1) * len(frames) // (2 * whole[0])]][None].cpu()
    if not positions:
        shrunk = SIDE_PX / max(frame.shape[1:])
        size = max(1, round(frame.shape[1] * shrunk)), max(1, round(frame.shape[2] * shrunk))
        small: np.ndarray = F.adaptive_avg_pool2d(frame[None].float(), size)[0].byte().numpy()
        return small
    height, width = frame.shape[1:]
    middle = (2 * int(row) + 1) * height // (2 * whole[1]), (2 * int(column) + 1) * width // (2 * whole[2])
    cut: np.ndarray = np.nan_to_num(window(frame.float(), middle)).astype(np.uint8)
    return cut
