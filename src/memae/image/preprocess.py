"""Encodes images as float tensors; fitted on the training images and stored with the model.

The range of the source becomes [0, 1], then each image may be scaled by its own brightness.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any, Literal, Self

import numpy as np
import torch
from pydantic import BaseModel, Field, model_validator
from torch import Tensor

from memae.errors import DataError
from memae.files.image import MOST_PX
from memae.image.arrays import Images
from memae.image.config import ImageScale
from memae.image.extent import Extent, Fit
from memae.types import FAR

__all__ = ["ImagePreprocess", "levels_of"]

PIECE_BYTES = 256 << 20  # of float32 pixels looked at at a time
ENCODED_BYTES = 1 << 20  # and encoded at a time: each of the steps would go through main memory
LEAST_8_BIT_RANGE = 16.0  # of pixels in training: with less they were no grey levels from 0 to 255


class ImagePreprocess(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """Pixels (S, C, H, W) to x = (pixels - low) / (high - low), then scaled image by image.

    scale "unit" divides each image by its root mean square, "centred" subtracts its mean first: brightness and
    contrast then carry no meaning, and a faint anomaly weighs as much as a bright one. "shared" divides all images by
    the root mean square of the training images, so brightness keeps its meaning.
    """

    kind: Literal["image"] = "image"
    channels: int = Field(ge=1, le=4)
    height: int = Field(ge=1)
    width: int = Field(ge=1)
    low: float
    high: float
    scale: ImageScale
    floor: float = Field(
        ge=0,
        description="least divisor of one image, so that a blank one stays finite; with the scale 'shared' that of all",
    )
    overlap: int | None = Field(
        None,
        ge=0,
        description="px that tiles share at least, where images are cut into tiles of this height and width",
    )
    keep_aspect: bool = Field(
        False, description="images of another shape lie within this height and width, and are not stretched to it"
    )
    extent: Extent | None = Field(None, description="of the training images, where they came in files of any size")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.height * self.width > MOST_PX:
            raise DataError(
                f"a network for images of {self.width} x {self.height} px takes more memory than there should be, and "
                f"at most {MOST_PX:,} px are seen at once; make the images smaller, or cut them into tiles"
            )
        if not self.low < self.high:
            raise ValueError(f"low = {self.low:g} is not below high = {self.high:g}")
        if self.overlap is not None and not self.overlap < self.height == self.width:
            raise ValueError(f"tiles of {self.width} x {self.height} px share {self.overlap} px")
        return self

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) of one encoded sample."""
        return self.channels, self.height, self.width

    @property
    def fit_of_images(self) -> Fit:
        """How images of any size come to this height and width."""
        if self.overlap is not None:
            return "tiled"
        return "kept" if self.keep_aspect else "stretched"

    def misfit(self, size: tuple[int, int]) -> str | None:
        """Why an image of a size (height, width) px is too far from the training images to be scored; None if not."""
        return (self.extent or Extent()).misfit(size, (self.height, self.width), self.fit_of_images)

    def remark(self, size: tuple[int, int]) -> str | None:
        """Why the score of an image of a size (height, width) px means less than that of others; None if not."""
        return (self.extent or Extent()).remark(size, (self.height, self.width), self.fit_of_images)

    @classmethod
    def fit(cls, images: Images, scale: ImageScale, rows: np.ndarray | None = None) -> ImagePreprocess:
        """Learns the value range from training images: 0 to 255 for uint8, least to greatest value else.

        Args:
            images: those to train on, and maybe others.
            scale: of each image by its own brightness.
            rows: (S,) which of the images to train on; None is all.

        Raises:
            DataError: every pixel is the same, or one is NaN or infinite.
        """
        pixels = images.pixels
        rows = np.arange(len(pixels)) if rows is None else rows
        level = float(pixels[rows[0]].flat[0])
        if pixels.dtype == np.uint8:
            low, high = 0.0, 255.0
            constant = all((part == level).all() for part in _pieces(pixels, rows))
        else:
            low, high = np.inf, -np.inf
            for part in _pieces(pixels, rows):
                low, high = float(np.minimum(low, part.min())), float(np.maximum(high, part.max()))
            if not np.isfinite(high - low):
                _check_finite(images)
            constant = low == high
        if constant:
            raise DataError(_constant(images.origin, level))
        _, channels, height, width = pixels.shape
        bare = cls(channels=channels, height=height, width=width, low=low, high=high, scale=scale, floor=0.0)
        some = _pieces(pixels, rows[:: max(1, len(rows) // 10_000)])
        sizes = torch.cat([_size(bare._shifted(_tensor(part), torch.empty(part.shape))) for part in some])
        return bare.model_copy(update={"floor": _floor(sizes.double().numpy() / (high - low), scale)})

    @classmethod
    def fit_tiles(
        cls,
        levels: np.ndarray,
        channels: int,
        tile: int,
        overlap: int,
        scale: ImageScale,
        origin: str,
        *,
        deep: bool,
    ) -> ImagePreprocess:
        """As `fit`, for images that are cut into square tiles; learns from the levels (S, 4) of those to train on.

        Args:
            levels: of each image; see `levels_of`.
            channels: of each image.
            tile: side of a tile, px.
            overlap: px that tiles share at least.
            scale: of each image by its own brightness, before it is cut.
            origin: of the images, for messages.
            deep: the pixels are not of 8 bits.

        Raises:
            DataError: every pixel is the same.
        """
        low, high = float(levels[:, 0].min()), float(levels[:, 1].max())
        if low == high:
            raise DataError(_constant(origin, low))
        low, high = (low, high) if deep else (0.0, 255.0)
        bare = cls(
            channels=channels, height=tile, width=tile, low=low, high=high, scale=scale, floor=0.0, overlap=overlap
        )
        return bare.model_copy(update={"floor": _floor(bare._spreads(levels), scale)})

    def checked_levels(self, pixels: np.ndarray, origin: str) -> np.ndarray:
        """(4,) the levels of an image (C, H, W) at its own size, before it is cut into tiles.

        Raises:
            DataError: another number of channels or range than the model was trained on, or a NaN or infinite pixel.
        """
        if len(pixels) != self.channels:
            raise DataError(
                f"{origin}: an image of {len(pixels)} channels, but the model was trained on {self.channels}; "
                "convert it"
            )
        self._check_range(pixels.dtype, origin)
        return levels_of(pixels, origin)

    def encode_levelled(self, pixels: np.ndarray, levels: np.ndarray) -> Tensor:
        """(B, C, tile, tile) float32 of tiles, each scaled by the levels (B, 4) of the image that it was cut from."""
        shift, divisor = (
            torch.from_numpy(part.astype(np.float32))[:, None, None, None] for part in self._scaling(levels)
        )
        return _floats(pixels).sub_(shift).div_(divisor).clamp_(-FAR, FAR)

    def _scaling(self, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(S,) the level that the network sees as 0, and (S,) how far above it the one is that it sees as 1, of whole
        images by their levels (S, 4)."""
        low = levels[:, 2] if self.scale == "centred" else np.full(len(levels), self.low)
        return low, (self.high - self.low) * self._divisors(levels)

    def _divisors(self, levels: np.ndarray) -> np.ndarray:
        """(S,) what whole images are divided by, as a share of the range, from their levels (S, 4)."""
        if self.scale in ("none", "shared"):
            return np.full(len(levels), 1.0 if self.scale == "none" else self.floor)
        divisors: np.ndarray = np.maximum(self._spreads(levels), self.floor)
        return divisors

    def _spreads(self, levels: np.ndarray) -> np.ndarray:
        """(S,) the value of `_size` for whole images, as a share of the range, from their levels (S, 4)."""
        span = self.high - self.low
        mean, square = (levels[:, 2] - self.low) / span, levels[:, 3]
        square = (square - 2 * self.low * levels[:, 2] + self.low**2) / span**2
        return np.sqrt(np.maximum(square - mean**2 if self.scale == "centred" else square, 0))

    def encode(self, samples: Images) -> Tensor:
        """(S, C, H, W) float32; NaN where there is no image, see `Images.sizes`.

        Raises:
            DataError: no images, another size or channel count, or a NaN or infinite pixel.
        """
        pixels = self._checked(samples)
        x = torch.empty(pixels.shape)
        if samples.sizes is not None:
            for planes, (height, width), out in zip(pixels, samples.sizes.tolist(), x, strict=True):
                out.fill_(torch.nan)
                self._scaled(_tensor(planes[None, :, :height, :width]), out[None, :, :height, :width])
            return x
        for some in _blocks(pixels, len(pixels), ENCODED_BYTES):
            self._scaled(_tensor(pixels[some]), x[some])
        return x

    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) float32 of pixels (B, C, H, W) of the model's size and range, without any check."""
        return self._scaled(pixels, torch.empty(pixels.shape))

    def _checked(self, samples: Images) -> np.ndarray:
        """(S, C, H, W) the pixels of images that fit."""
        pixels = samples.pixels
        if pixels.shape[1:] != self.shape:
            raise DataError(
                f"{samples.origin}: images of shape {_shape(pixels.shape[1:])} (channels x height x width), but "
                f"the model was trained on {_shape(self.shape)}; resize or convert them"
            )
        _check_finite(samples)
        self._check_range(pixels.dtype, samples.origin)
        return pixels

    def _check_range(self, dtype: np.dtype[Any], origin: str) -> None:
        """Refuses 8-bit images if the model was trained on pixels of another range: their scores would mean nothing."""
        if dtype == np.uint8 and self.high - self.low < LEAST_8_BIT_RANGE:
            raise DataError(
                f"{origin}: 8-bit images of 0 to 255, and the model was trained on pixels of {self.low:g} to "
                f"{self.high:g}; scale them to that range, or train on images like these"
            )

    def _scaled(self, pixels: Tensor, out: Tensor) -> Tensor:
        """Writes pixels (B, C, H, W) to `out` as the network sees them."""
        x, span = self._shifted(pixels, out), self.high - self.low
        if self.scale in ("none", "shared"):
            x /= span if self.scale == "none" else self.floor * span
        else:
            x /= _size(x).clamp_min_(self.floor * span)
        return x

    def _shifted(self, pixels: Tensor, out: Tensor) -> Tensor:
        """Writes pixels (B, C, H, W), shifted so that 0 is the zero of their scale, to `out`; without the divisor."""
        x = out.copy_(pixels)
        if self.low:
            x -= self.low
        if pixels.dtype != torch.uint8:
            most = FAR * (self.high - self.low)
            x.clamp_(-most, most)
        if self.scale == "centred":
            x -= x.mean(dim=(1, 2, 3), keepdim=True)
        return x


def _size(x: Tensor) -> Tensor:
    """(B, 1, 1, 1): the root mean square of each image (B, C, H, W), line by line: long sums are far off in float32."""
    lines = torch.linalg.vector_norm(x, dim=3, keepdim=True)
    squares: Tensor = lines.square_().mean(dim=(1, 2), keepdim=True)
    return squares.div_(x.shape[3]).sqrt_()


def levels_of(pixels: np.ndarray, origin: str) -> np.ndarray:
    """(4,) float64 of an image (C, H, W): its least and greatest pixel, their mean, and their mean square.

    Raises:
        DataError: a NaN or infinite pixel.
    """
    blocks = np.array_split(pixels, -(-4 * pixels.size // PIECE_BYTES), axis=1)
    total, squares = 0.0, 0.0
    for block in blocks:
        values = block.astype(np.float64).ravel()
        total, squares = total + float(values.sum()), squares + float(values @ values)
    levels = np.array([pixels.min(), pixels.max(), total / pixels.size, squares / pixels.size])
    if not np.isfinite(levels).all():
        raise DataError(f"{origin} holds NaN or infinite pixels; mend or remove it")
    return levels


def _floats(pixels: np.ndarray) -> Tensor:
    # A copy of its own, with the strides written anew: numpy gives a lone channel any stride it likes, torch
    # takes that for channels-last, and its CPU convolutions then write out of bounds (seen with torch 2.13).
    return _tensor(pixels).to(torch.float32, memory_format=torch.contiguous_format, copy=True)


def _tensor(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(np.require(pixels, requirements="W"))  # torch warns about what cannot be written to


def _floor(sizes: np.ndarray, scale: ImageScale) -> float:
    """The least divisor of an image: a twentieth of the median size, or, "shared", their root mean square."""
    return max(1e-3, float(np.sqrt((sizes**2).mean()) if scale == "shared" else 0.05 * np.median(sizes)))


def _constant(origin: str, level: float) -> str:
    return f"{origin}: every pixel is {level:g}; a model of constant images has nothing to learn"


def _pieces(pixels: np.ndarray, rows: np.ndarray) -> Iterator[np.ndarray]:
    """These rows of pixels (S, C, H, W), a few at a time: they may lie on the disk."""
    for some in _blocks(pixels, len(rows), PIECE_BYTES):
        yield pixels[rows[some]]


def _blocks(pixels: np.ndarray, count: int, most_bytes: int) -> Iterator[slice]:
    """Slices of `count` images of the size of `pixels` (S, C, H, W), of at most so many bytes of float32 each."""
    size = max(1, most_bytes // (4 * prod(pixels.shape[1:])))
    return (slice(start, start + size) for start in range(0, count, size))


def _check_finite(images: Images) -> None:
    if images.pixels.dtype == np.uint8:
        return
    finite = np.isfinite(images.pixels).reshape(len(images), -1).all(axis=1)
    if not finite.all():
        key = images.keys[int(np.argmin(finite))]
        raise DataError(f"{images.origin}: image {key} holds NaN or infinite pixels; mend or remove it")


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(str(size) for size in shape)
