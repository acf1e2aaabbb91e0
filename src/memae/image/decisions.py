"""What the normal images decide where the settings leave it open: how they are scaled, and how residuals are smoothed.

Dividing each image by its own brightness helps where brightness is noise, and costs where it is signal. Normal images
alone tell how much their brightness varies; no anomaly is looked at.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from memae.image.arrays import Images
from memae.image.config import ImageScale
from memae.image.preprocess import ImagePreprocess

__all__ = ["fitted", "scale_for", "smooth_px_for"]

IMAGES = 2_000  # that are looked at
DARKEST = 0.05  # the share of the pixels of an image below its dark level
DARK_VARIES = 0.1  # of the contrast: the spread of dark levels from which on black means nothing
BRIGHTNESS_VARIES = 0.05  # of its mean: the spread of the root mean square from which on brightness is noise
CORRELATED = 0.7  # pixels at the distance of the smoothing have this correlation
WIDEST = 1 / 16  # of the longer side, the smoothing
STEP_PX = 0.5  # the smoothing is a multiple of it: small sets of images differ by less


def fitted(
    images: Images, scale: ImageScale | None, smooth_px: float | None, rows: np.ndarray
) -> tuple[ImagePreprocess, float]:
    """The preprocessing of training images and the smoothing of their residuals, px.

    Args:
        images: those to train on, and maybe others.
        scale: of each image; None leaves it to `scale_for`.
        smooth_px: standard deviation of the smoothing; None leaves it to `smooth_px_for`.
        rows: (S,) which of the images to train on.

    Raises:
        DataError: see `ImagePreprocess.fit`.
    """
    some = images.take(rows[:: -(-len(rows) // IMAGES)])
    if scale is None:
        scale = scale_for(ImagePreprocess.fit(images, "none", rows).encode(some))
    preprocess = ImagePreprocess.fit(images, scale, rows)
    return preprocess, smooth_px_for(preprocess.encode(some)) if smooth_px is None else smooth_px


def scale_for(x: Tensor) -> ImageScale:
    """The scale that suits images x (S, C, H, W) whose zero is black.

    - "centred" where the dark level, the 5 % quantile of an image, differs between images by at least a tenth of their
      contrast: black means nothing then, as in most photographs.
    - "unit" where else the root mean square differs by at least a twentieth of its mean: errors, which are squares,
      would differ by a tenth for brightness alone.
    - "shared" where neither varies: an image of another brightness is then an anomaly.
    """
    pixels = x.flatten(1).double().numpy()
    dark, contrast = np.quantile(pixels, DARKEST, axis=1), pixels.std(axis=1)
    if dark.std() >= DARK_VARIES * np.median(contrast):
        return "centred"
    brightness = np.sqrt((pixels**2).mean(axis=1))
    return "unit" if brightness.std() >= BRIGHTNESS_VARIES * brightness.mean() else "shared"


def smooth_px_for(x: Tensor) -> float:
    """Standard deviation of the Gaussian that smooths the residuals of images x (S, C, H, W), px.

    It is the distance at which the correlation of two pixels has fallen to 0.7, to the next half px, and at most a
    sixteenth of the longer side. Structures as fine as that are rebuilt beside their place in normal images too.
    """
    deviation = x - x.mean(dim=0)
    longest, before = max(x.shape[2:]) * WIDEST, 1.0
    for distance in range(1, int(longest) + 2):
        now = _correlation(deviation, distance)
        if now <= CORRELATED:
            longest = min(longest, distance - 1 + (before - CORRELATED) / (before - now))
            break
        before = now
    return round(longest / STEP_PX) * STEP_PX


def _correlation(deviation: Tensor, distance: int) -> float:
    """Of pixels so far apart in a row or a column; 0 where images are no larger or all the same."""
    product = first = second = 0.0
    for axis in (2, 3):
        side = deviation.shape[axis] - distance
        if side > 0:
            a, b = deviation.narrow(axis, 0, side), deviation.narrow(axis, distance, side)
            product, first, second = (
                total + float((p * q).sum()) for total, p, q in ((product, a, b), (first, a, a), (second, b, b))
            )
    return product / (first * second) ** 0.5 if first * second > 0 else 0.0
