"""The picture of a training image that shows what an item stands for."""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F

from memae.memory.item_samples import SIDE_PX, window
from memae.types import Encoded

__all__ = ["picture_around"]


def picture_around(training: Encoded, positions: tuple[int, ...], number: int, place: int) -> np.ndarray:
    """(C, h, w) of the image of a number among (S, C, H, W): 32 x 32 px around a place, or all of it, made as small.

    Args:
        training: encoded images.
        positions: (h, w) places of an image; () where it is asked about as a whole.
        number: of the image.
        place: of the positions, counted along the rows.
    """
    image = training[number : number + 1][0].cpu()
    height, width = image.shape[1:]
    if not positions or positions == (1, 1):
        shrunk = min(1.0, SIDE_PX / max(height, width))
        size = max(1, round(height * shrunk)), max(1, round(width * shrunk))
        small: np.ndarray = F.adaptive_avg_pool2d(image[None], size)[0].numpy()
        return small
    rows, columns = positions
    row, column = divmod(place, columns)
    return window(image, ((2 * row + 1) * height // (2 * rows), (2 * column + 1) * width // (2 * columns)))
