"""Clips of grey frames as the network sees them."""

from __future__ import annotations

from typing import Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from memae.errors import DataError
from memae.video.steady import steady_differences

__all__ = ["ClipInput", "VideoPreprocess"]

MOST_CLIP_PX = 64_000_000  # of all frames of a clip

ClipInput = Literal["frames", "differences"]


class VideoPreprocess(BaseModel):
    """How clips of 8-bit grey frames become the input of a network; stored with the model.

    "frames" scales grey levels to x in [-1, 1], as the released code of MemAE does. "differences" takes the
    difference of each scaled frame from the one before it, times `gain`; the first frame of a clip, which has none
    before it, takes the difference of the second. Where the camera stands still, only what moves remains.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["video"] = "video"
    clip_length: int = Field(ge=1)
    """Frames."""
    height: int = Field(ge=1)
    """Of a frame, px."""
    width: int = Field(ge=1)
    """Of a frame, px."""
    input: ClipInput
    gain: float = Field(4.0, gt=0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.input == "differences" and self.clip_length < 2:
            raise DataError("video.clip_length = 1: a clip of 'differences' has at least two frames; use 'frames'")
        if self.clip_length * self.height * self.width > MOST_CLIP_PX:
            raise DataError(
                f"a network for clips of {self.clip_length} frames of {self.width} x {self.height} px takes more "
                f"memory than there should be; at most {MOST_CLIP_PX:,} px are seen at once: make the frames smaller"
            )
        return self

    @property
    def shape(self) -> tuple[int, ...]:
        """(1, T, H, W) of one encoded clip."""
        return 1, self.clip_length, self.height, self.width

    def encode_clips(self, pixels: Tensor, steady: bool = False) -> Tensor:
        """(B, T, H, W) uint8 to (B, 1, T, H, W) float32, on the device of the pixels.

        Args:
            pixels: of whole frames or of crops.
            steady: takes the shaking of the camera out of differences; for whole frames.
        """
        x = pixels.float().div_(127.5).sub_(1.0)
        if self.input == "differences":
            moved = (steady_differences(x) if steady else x.diff(dim=1)).mul_(self.gain)
            x = torch.cat([moved[:, :1], moved], dim=1)
        # A copy with strides of its own: torch takes a lone channel of odd strides for channels-last, and its CPU
        # convolutions then write out of bounds (seen with torch 2.13).
        return x.unsqueeze(1).to(memory_format=torch.contiguous_format, copy=True)
