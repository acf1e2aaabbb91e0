"""Footage of a camera in real files: somebody walks to and fro, and once an intruder comes."""

from pathlib import Path

import numpy as np

from tests.moving_squares import squares
from tests.video_files import write_frames, write_video

FRAMES = 100  # of each video, 25 a second
INTRUDER = range(40, 60)  # the frames of clip.mp4 in which something unusual happens

BRIEF = (
    "video.height=32",
    "video.width=48",
    "video.crop_px=16",
    "video.place_px=8",
    "video.training_stride=4",
    "video.crops_per_clip=2",
    "train.epochs=3",
    "train.batch_size=8",
    "memory.warmup_epochs=1",
    "memory.num_items=12",
)
"""Settings for a model that is trained in seconds and still finds the intruder."""


def scene(seed: int, intruder: range = range(0), frames: int = FRAMES) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (frames, 48, 72, 3) and masks (frames, 48, 72): a square walks, and an intruder flickers above it."""
    grey = squares(frames, 48, 72, speed=1, side=8, seed=seed)
    masks = np.zeros(grey.shape, np.uint8)
    for number in intruder:
        left = 4 + 5 * (number - intruder.start) % 56
        place = (number, slice(4, 16), slice(left, left + 12))
        grey[place], masks[place] = 255 if number % 2 else 20, 255
    return np.repeat(grey[..., None], 3, axis=-1), masks


def write_footage(path: Path) -> Path:
    """normal/ with three files, clip.mp4 with the intruder, calm.mp4 without, and masks/ of these two."""
    for seed in range(3):
        write_video(path / "normal" / f"{seed}.mp4", scene(seed)[0], like="h264.mp4")
    for name, seed, intruder in (("clip", 5, INTRUDER), ("calm", 6, range(0))):
        frames, masks = scene(seed, intruder)
        write_video(path / f"{name}.mp4", frames, like="h264.mp4")
        write_frames(path / "masks" / name, masks, first=0)
    return path
