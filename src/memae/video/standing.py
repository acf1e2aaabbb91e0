"""What stands still in front of a fixed camera: the median of the last seconds, free of light and of a shaken camera.

Each sampled frame becomes its log contrast, so that light that is smooth over the frame cancels:

    f = log(x + c) - local mean of log(x + c)

It is moved back onto the reference (phase correlation), and the median over the last seconds, `PERSISTENCE_S` where
normal video is long enough, leaves out what only passes. Who walks towards the camera stays on the same pixels for
longer, so the change within these seconds is given too. All of it comes from the past alone, and memory is constant.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np
from scipy.fft import irfft2, rfft2
from scipy.ndimage import uniform_filter

__all__ = ["PERSISTENCE_S", "SAMPLES", "Standing", "StandingView", "log_contrast"]

PERSISTENCE_S = 4.0  # of which something stands still for more than a half
SAMPLES = 12  # in that time
FEWEST = 3  # samples of a median, whatever the frame rate
VARIANCE_OF_MAD = np.float32(2.2)  # the variance of Gaussian noise is 2.2 times its squared median deviation
DARK = 16.0  # c, grey levels: below it noise would fill the logarithm
NEIGHBOURHOOD = 0.25  # side of the local mean, as a share of the height
BETTER = 0.98  # a shift must leave less than this of the difference to the reference
MOST_SHIFT = 0.05  # of the camera, as a share of the height; a larger one counts as moved


def log_contrast(pixels: np.ndarray) -> np.ndarray:
    """(H, W) float32: a grey frame (H, W) uint8 without smooth light; 0.1 is about 10 % brighter than around."""
    bright = np.log(pixels.astype(np.float32) + DARK)
    contrast: np.ndarray = bright - uniform_filter(
        bright, max(3, round(NEIGHBOURHOOD * pixels.shape[0])), mode="nearest"
    )
    return contrast


class Standing(NamedTuple):
    """What stands still."""

    view: np.ndarray
    """(H, W) float32 log contrast: the median of the samples."""
    change: np.ndarray
    """(H, W) float32: the squared change of the samples, as robust as a median: 2.2 (median of |sample - view|)^2."""


class StandingView:
    """Takes the frames of a video in order and gives what stands still.

    Args:
        reference: (H, W) log contrast of the usual view, which frames are moved onto.
        persistence_s: how far back the median goes.
    """

    def __init__(self, reference: np.ndarray, persistence_s: float = PERSISTENCE_S) -> None:
        self._reference, self._still = reference, _Stabiliser(reference)
        self._samples_per_s = SAMPLES / persistence_s
        self.reset()

    def reset(self) -> None:
        """Forgets all frames, for another video."""
        self._samples: deque[tuple[int, np.ndarray]] = deque()

    def push(self, pixels: np.ndarray, time_s: float) -> bool:
        """Adds the next frame (H, W) uint8; whether it was sampled, so that `standing` may have changed."""
        slot = int(time_s * self._samples_per_s + 1e-6)
        if self._samples and slot < self._samples[-1][0]:
            self.reset()  # a clock that was set back
        if self._samples and slot == self._samples[-1][0]:
            return False
        self._samples.append((slot, self._still(log_contrast(pixels))))
        while len(self._samples) > FEWEST and self._samples[0][0] <= slot - SAMPLES:
            self._samples.popleft()
        return True

    def standing(self) -> Standing | None:
        """What stands still; None until half of the persistence was seen."""
        slots = [slot for slot, _ in self._samples]
        if len(slots) < FEWEST or slots[-1] - slots[0] < SAMPLES // 2:
            return None
        # what was not seen yet counts as usual: who passes at the beginning of a video does not stand
        covered = slots[-1] - slots[0] + 1
        unseen = max(0, SAMPLES - covered) * len(slots) // covered
        seen = np.stack([view for _, view in self._samples] + [self._reference] * unseen)
        view = _middle(seen)
        return Standing(view, VARIANCE_OF_MAD * _middle(np.abs(seen - view)) ** 2)


def _middle(samples: np.ndarray) -> np.ndarray:
    """The median over samples (S, H, W), of an even number the upper one.

    It takes the largest out until the median is the largest: for so few samples four times as fast as np.partition.
    """
    rest: list[np.ndarray] = list(samples)
    largest = rest[0]
    while len(rest) > len(samples) // 2:
        largest = rest.pop()
        for place, other in enumerate(rest):
            rest[place], largest = np.minimum(other, largest), np.maximum(other, largest)
    return largest


class _Stabiliser:
    """Moves views back onto a reference, by the shift of the whole frame to parts of a px."""

    def __init__(self, reference: np.ndarray) -> None:
        height, width = reference.shape
        self._window = np.outer(np.hanning(height), np.hanning(width)).astype(np.float32)
        self._plain = reference
        self._reference = np.conj(rfft2(reference * self._window))
        self._most = max(1, round(MOST_SHIFT * height))

    def __call__(self, view: np.ndarray) -> np.ndarray:
        moved = _moved(view, *self._shift(view))
        # a plain scene or a crowd may mislead the correlation: the shift must help most of the frame
        apart, after = np.abs(view - self._plain), np.abs(moved - self._plain)
        most = 3 * float(np.median(apart))
        helps = np.minimum(after, most).mean() < BETTER * np.minimum(apart, most).mean()
        return moved if helps else view

    def _shift(self, view: np.ndarray) -> tuple[float, float]:
        """How far a view lies below and to the right of the reference, px."""
        cross = rfft2(view * self._window) * self._reference
        cross /= np.abs(cross) + 1e-6
        most, side = self._most, 2 * self._most + 1
        likeness = np.roll(irfft2(cross, s=view.shape), (most, most), (0, 1))[:side, :side]
        row, column = divmod(int(likeness.argmax()), side)
        return (
            row - most + _vertex(likeness[:, column], row),
            column - most + _vertex(likeness[row], column),
        )


def _vertex(values: np.ndarray, peak: int) -> float:
    """Where a parabola through a peak and its neighbours is highest, from the peak on, -0.5 to 0.5."""
    if not 0 < peak < len(values) - 1:
        return 0.0
    before, here, after = (float(value) for value in values[peak - 1 : peak + 2])
    bend = before - 2 * here + after
    return float(np.clip(0.5 * (before - after) / bend, -0.5, 0.5)) if bend else 0.0


def _moved(view: np.ndarray, down: float, right: float) -> np.ndarray:
    """A view moved up and to the left, bilinear; its edge is repeated."""
    rows, columns = int(np.floor(down)), int(np.floor(right))
    low, far = np.float32(down - rows), np.float32(right - columns)
    height, width = view.shape
    margin = max(abs(rows), abs(columns)) + 1
    padded = np.pad(view, margin, mode="edge")

    def at(row: int, column: int) -> np.ndarray:
        return padded[margin + row : margin + row + height, margin + column : margin + column + width]

    upper = (1 - far) * at(rows, columns) + far * at(rows, columns + 1)
    lower = (1 - far) * at(rows + 1, columns) + far * at(rows + 1, columns + 1)
    moved: np.ndarray = (1 - low) * upper + low * lower
    return moved
