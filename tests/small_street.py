"""A street for tests of what stands still: a textured ground, a block that walks across, and changes on demand."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter, shift

from memae.video.frames import FrameKey, Frames

HEIGHT, WIDTH, RATE = 64, 96, 10
GROUND = 120 + 60 * gaussian_filter(np.random.default_rng(0).normal(size=(HEIGHT, WIDTH)), 1.5)


def street(
    seconds: float,
    seed: int = 0,
    *,
    thing_s: float | None = None,
    walker_stops_s: float | None = None,
    gain: tuple[float, float] = (1.0, 1.0),
    shake_px: float = 0.0,
    noise: float = 2.0,
    rate: float = RATE,
    video: str = "street",
) -> Frames:
    """Frames of (64, 96) px.

    Args:
        seconds: how long.
        seed: of noise and walker.
        thing_s: from when on a bag of 8 px stands at row 40, column 20.
        walker_stops_s: from when on the walker stands still.
        gain: of the light in the first and the second half.
        shake_px: standard deviation of the place of the camera.
        noise: grey levels.
        rate: frames a second.
        video: its name.
    """
    generator = np.random.default_rng([1, seed])
    count = round(seconds * rate)
    pixels = np.empty((count, HEIGHT, WIDTH), dtype=np.uint8)
    at = float(generator.uniform(0, WIDTH))
    for number in range(count):
        time_s = number / rate
        picture = GROUND.copy()
        if thing_s is not None and time_s >= thing_s:
            picture[40:48, 20:28] = 30
        if walker_stops_s is None or time_s < walker_stops_s:
            at = (at + 12 / rate) % WIDTH
        left = int(at)
        picture[20:34, left : left + 5] = 215
        picture *= gain[2 * number >= count]
        if shake_px:
            picture = shift(picture, generator.normal(0, shake_px, 2), order=1, mode="nearest")
        pixels[number] = (picture + generator.normal(0, noise, picture.shape)).round().clip(0, 255)
    keys = [FrameKey(video, number, number / rate) for number in range(count)]
    return Frames(pixels, keys, video)
