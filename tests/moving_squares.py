"""A still scene with a square that moves through it, and a source of frames from arrays."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from memae.video.frames import FrameKey, Frames


def squares(
    count: int, height: int = 32, width: int = 32, *, speed: int = 1, side: int = 6, seed: int = 0, noise: int = 3
) -> np.ndarray:
    """(count, height, width) uint8: a bright square that runs to and fro in the middle of a still scene."""
    rng = np.random.default_rng(seed)
    rows, columns = np.arange(height)[:, None] / 3, np.arange(width)[None] / 4
    frames = np.repeat((50 + 20 * np.sin(rows) + 20 * np.cos(columns))[None], count, axis=0)
    room, top = width - side, (height - side) // 2
    for number, frame in enumerate(frames):
        at = (number * speed + 7 * seed) % (2 * room)
        left = min(at, 2 * room - at)
        frame[top : top + side, left : left + side] = 200
    return (frames + rng.integers(-noise, noise + 1, frames.shape)).clip(0, 255).astype(np.uint8)


def frames_of(pixels: np.ndarray, video: str = "v", first: int = 0) -> Frames:
    """Frames of 25 a second, as a source gives them."""
    keys = [FrameKey(video, number, number / 25) for number in range(first, first + len(pixels))]
    return Frames(pixels, keys, video)


class Reel:
    """A source of videos that are arrays (F, H, W) by name."""

    modality = "video"
    origin = "the reel"

    def __init__(self, videos: Mapping[str, np.ndarray]) -> None:
        self.videos = videos
        self.most_asked = 0

    def chunks(self, size: int) -> Iterator[Frames]:
        self.most_asked = max(self.most_asked, size)
        for name, pixels in self.videos.items():
            whole = frames_of(pixels, name)
            for start in range(0, len(pixels), size):
                part = slice(start, start + size)
                yield Frames(pixels[part], whole.keys[part], name)

    def labels(self, name: str) -> np.ndarray:
        raise NotImplementedError

    def without(self, names: Sequence[str]) -> "Reel":
        raise NotImplementedError
