"""Training data of video: all frames at the size of the network, and the clips cut from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from memae.errors import DataError
from memae.files.atomic import temporary_file
from memae.progress import Progress, stage
from memae.types import count
from memae.video.frames import FrameKey, FrameReader, Frames
from memae.video.preprocess import VideoPreprocess

__all__ = ["Clips", "Span", "StoredFrames"]

MOTION_PX = 16  # side of the patches that motion is measured on
STILL_WEIGHT = 0.2  # grey levels: weight of a patch in which nothing moves
PART_FRAMES = 256


class Span(NamedTuple):
    """Frames `start` to `stop` (excluded) of one video, counted through all videos."""

    start: int
    stop: int


@dataclass(frozen=True)
class StoredFrames:
    """The frames of one or more videos in one array, one video after the other.

    They lie in a nameless temporary file. The system keeps it in memory as far as there is space, so hours of video
    fit on a small machine.
    """

    pixels: Tensor
    """(F, H, W) uint8."""
    keys: Sequence[FrameKey]
    """(F,)"""
    videos: tuple[Span, ...]
    origin: str

    @classmethod
    def read(cls, source: FrameReader, progress: Progress | None = None) -> StoredFrames:
        """All frames of a video source; `progress` is told how far the reading is.

        Raises:
            DataError: there are none, or they differ in size.
        """
        keys: list[FrameKey] = []
        videos: list[Span] = []
        size: tuple[int, ...] = ()
        with (
            stage(progress, "reading", "frames", count(source)) as done,
            temporary_file("the frames to train on") as file,
        ):
            for frames in source.chunks(PART_FRAMES):
                size = size or frames.pixels.shape[1:]
                if frames.pixels.shape[1:] != size:
                    raise DataError(f"{frames.origin}: frames of several sizes; ask the source for one")
                goes_on = bool(keys) and keys[-1].video == frames.keys[0].video
                start = videos.pop().start if goes_on else len(keys)
                keys += frames.keys
                videos.append(Span(start, len(keys)))
                file.write(np.ascontiguousarray(frames.pixels).data)
                done(len(frames), frames.keys[-1])
            if not keys:
                raise DataError(f"{source.origin}: holds no frames")
            file.flush()
            pixels = np.memmap(file, dtype=np.uint8, mode="r+", shape=(len(keys), *size))
        return cls(torch.from_numpy(pixels), keys, tuple(videos), source.origin)

    def frames(self, span: Span) -> Frames:
        """A part of one video as a source would give it."""
        part = slice(*span)
        return Frames(self.pixels[part].numpy(), self.keys[part], self.origin)


@dataclass(frozen=True)
class Clips:
    """S clips that are encoded when they are indexed, like a tensor (S, 1, T, H, W)."""

    pixels: Tensor
    """(F, H, W) uint8, on the device that the clips are wanted on."""
    frames: Tensor
    """(S, T) the frames of each clip."""
    preprocess: VideoPreprocess
    corners: Tensor | None = None
    """(S, 2) top and left, px, of the crop of each clip; None is whole frames."""
    side: int = 0
    """Of the crop, px."""
    segments: tuple[Frames, ...] = ()
    """The video that they were cut from, where `memae.video.prepare` gives it."""

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: Any) -> Tensor:
        """The encoded clips (B, 1, T, H, W) float32 of a slice or of an index tensor (B,)."""
        frames = self.frames[index]
        if self.corners is None:
            return self.preprocess.encode_clips(self.pixels[frames])
        along = torch.arange(self.side, device=frames.device)
        rows, columns = (start[:, None] + along for start in self.corners[index].unbind(dim=1))
        return self.preprocess.encode_clips(
            self.pixels[frames[:, :, None, None], rows[:, None, :, None], columns[:, None, None, :]]
        )

    @property
    def device(self) -> torch.device:
        """Where the clips are made."""
        return self.pixels.device

    @property
    def shape(self) -> tuple[int, ...]:
        """(S, 1, T, H, W)."""
        if self.corners is None:
            return (len(self), *self.preprocess.shape)
        return len(self), 1, self.preprocess.clip_length, self.side, self.side

    def to(self, device: torch.device) -> Clips:
        """The same clips, encoded on another device; all frames are copied there once."""
        corners = None if self.corners is None else self.corners.to(device)
        return replace(self, pixels=self.pixels.to(device), frames=self.frames.to(device), corners=corners)

    def crops(self, side: int, each: int, generator: torch.Generator, progress: Progress | None = None) -> Clips:
        """`each` crops of `side` px from every clip, mostly at places with motion.

        Most of what a fixed camera sees stands still, and teaches nothing after the first minute.
        """
        height, width = self.pixels.shape[1:]
        side = min(side, height, width)
        with stage(progress, "looking for motion", "frames", len(self.pixels)) as done:
            moved = []
            for start in range(0, max(1, len(self.pixels) - 1), PART_FRAMES):
                moved.append(
                    _motion(self.pixels[start : start + PART_FRAMES + 1])
                )  # with the next part's first frame
                done(len(moved[-1]))
        motion = torch.cat(moved)
        # the motion between the first and the last frame of each clip, by place
        spans = zip(self.frames.amin(dim=1).tolist(), self.frames.amax(dim=1).tolist(), strict=True)
        weights = torch.stack(
            [motion[start:stop].sum(dim=0).flatten() / max(1, stop - start) for start, stop in spans]
        )
        places = torch.multinomial(weights + STILL_WEIGHT, each, replacement=True, generator=generator).flatten()
        columns = -(-width // MOTION_PX)
        centres = torch.stack([places // columns, places % columns], dim=1) * MOTION_PX + MOTION_PX // 2
        jitter = torch.randint(-MOTION_PX + 4, MOTION_PX - 3, centres.shape, generator=generator)
        most = torch.tensor([height - side, width - side])
        corners = (centres + jitter - side // 2).clamp_min(0).minimum(most)
        return replace(self, frames=self.frames.repeat_interleave(each, dim=0), corners=corners, side=side)


def _motion(pixels: Tensor) -> Tensor:
    """(F - 1, h, w) mean absolute difference to the next frame over patches of MOTION_PX, grey levels."""
    moved = pixels.float().diff(dim=0).abs()
    return F.avg_pool2d(moved[:, None], MOTION_PX, ceil_mode=True, count_include_pad=False)[:, 0]
