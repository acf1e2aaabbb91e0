"""Computes an error map, an anomaly map and one score from the reconstruction of an image.

The residual may be smoothed before it is squared; the error map is averaged over patches, may be taken as multiples of
the mean training error of each patch, and gives way to the deviation of filter responses where that is greater. It is
smoothed to the anomaly map, whose maximum is the score "max".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from memae.autoencoder import Reconstruction
from memae.engine.scoring import Measured, Scorer
from memae.image.config import ImageConfig, Pool
from memae.image.filters import FilterStatistics
from memae.image.maps import anomaly_map, has_gaps, patch_means, smoothed, smoothed_map
from memae.image.tiles import Tiles
from memae.losses import squared_error
from memae.modality import Artifact
from memae.threshold import Threshold

__all__ = [
    "ErrorMap",
    "ImageReference",
    "JoinedMap",
    "MapSettings",
    "map_settings",
    "map_threshold",
]

SMALLEST = 1e-12  # mean training error that is divided by
FLOOR = 0.1  # of the mean training error: where training left almost no error, rounding is no anomaly
FORMER_MAP_THRESHOLD = 4.0  # thresholds of an image: the map threshold of models that were saved without one


@dataclass(frozen=True)
class MapSettings:
    """How the residual of a rebuilt image becomes its error map, its anomaly map and its score."""

    smooth_px: float = 0.0
    """Standard deviation of the Gaussian that smooths the residual (B, C, H, W) before it is squared, px."""
    pool: Pool | None = None
    """What of the maps is the score; None is the mean of the error map."""
    patch_px: int = 1
    """Side of the patches whose mean errors the anomaly map is made of, px."""
    training_error: Tensor | None = None
    """(h, w) float32: the mean squared error that the training images have in each patch. Where it is given, maps and
    scores are multiples of it."""
    filters: FilterStatistics | None = None
    """Of the training images. Where they are given, a patch counts by the worse of its error and its deviation."""
    by_distance: bool = False
    """Whether the score is the distance to the nearest items, and not of the maps."""

    def __call__(self, x: Tensor, rebuilt: Reconstruction) -> ErrorMap:
        """Of encoded images (B, C, H, W) and their reconstruction."""
        errors = self.errors(x, rebuilt)
        patches = self.patches(errors)
        if self.filters is not None:
            patches = torch.maximum(patches, self.filters.at_patches(x, self.patch_px))
        return ErrorMap(rebuilt, errors, patches, self.pool, self.by_distance)

    def errors(self, x: Tensor, rebuilt: Reconstruction) -> Tensor:
        """(B, H, W): the squared error, the mean over the channels, or its multiple of the mean training error."""
        if rebuilt.target is not None:
            nowhere = x[:, 0].isnan()
            found = _feature_errors(rebuilt.target, rebuilt.x, x.shape[2:])
            return self._relative(found, 1).masked_fill_(nowhere, torch.nan)
        return self._relative(self._pixel_errors(x, rebuilt.x), x.shape[1])

    def _pixel_errors(self, x: Tensor, rebuilt: Tensor) -> Tensor:
        """(B, H, W): the squared error, the sum over the channels."""
        if self.smooth_px:
            x, rebuilt = smoothed(x, rebuilt, self.smooth_px)
        first, *others = zip(x.unbind(dim=1), rebuilt.unbind(dim=1), strict=True)
        found = squared_error(*first)
        for channel in others:  # plane by plane: the library's mean goes through the channels px by px
            found += squared_error(*channel)
        return found

    def _relative(self, found: Tensor, channels: int) -> Tensor:
        """Sums of errors (B, H, W) over so many channels as their mean, or as multiples of the mean training error."""
        divisor = self._divisor
        if divisor is None:
            return found.div_(channels)
        for axis, size in enumerate(found.shape[1:]):
            divisor = divisor.repeat_interleave(self.patch_px, axis).narrow(axis, 0, size)
        return found.div_((divisor * channels).to(found))

    def patches(self, errors: Tensor) -> Tensor:
        """(B, h, w): the means of error maps (B, H, W) over patches, at their ends over the px that are left.

        NaN, where there is no image, does not count; a patch of nothing else is NaN.
        """
        if self.patch_px == 1:
            return errors
        means = partial(F.avg_pool2d, kernel_size=self.patch_px, ceil_mode=True)
        nowhere = errors.isnan()
        return means(errors.nan_to_num(0.0)) / means((~nowhere).float()) if has_gaps(nowhere) else means(errors)

    @property
    def _divisor(self) -> Tensor | None:
        if self.training_error is None:
            return None
        return (self.training_error + FLOOR * self.training_error.mean()).clamp_min(SMALLEST)


@dataclass(frozen=True)
class ErrorMap(Measured):
    """The errors, maps and scores of a batch of B images."""

    errors: Tensor
    """(B, H, W) the squared error, the mean over the channels, or its multiple of the mean training error. NaN where
    there is no image."""
    patches: Tensor
    """(B, h, w) the mean errors of the patches."""
    pool: Pool | None = None
    """What of the maps is the score; None is the mean of the error map."""
    by_distance: bool = False
    """Whether the score is the distance to the nearest items, and not of the maps."""

    @property
    def device_scores(self) -> Tensor:
        """(B,): the score of each image."""
        if self.by_distance:
            return self.distances
        if self.pool == "max":
            maps = self.anomaly_maps
            nowhere = maps.isnan()
            return (maps.masked_fill(nowhere, -torch.inf) if has_gaps(nowhere) else maps).amax(dim=(1, 2))
        errors = self.errors.flatten(1)
        return errors.nanmean(1) if has_gaps(errors.isnan()) else errors.mean(1)

    @property
    def anomaly_maps(self) -> Tensor:
        """(B, h, w): the anomaly maps, on the device of the model."""
        return smoothed_map(self.patches)

    @property
    def maps(self) -> np.ndarray:
        """(B, H, W) float32: the error maps."""
        maps: np.ndarray = self.errors.cpu().numpy()
        return maps


@dataclass(frozen=True)
class ImageReference:
    """The statistics of normal images that a model of images stores."""

    maxima: np.ndarray
    """(n,) the maximum of the anomaly map of each image that the threshold was set from; empty in old models."""
    training_error: Tensor | None = None
    """(h, w) float32 with `image.relative`: the mean squared error of the training images in each patch."""
    filters: FilterStatistics | None = None
    """With `image.filters`: what the training images respond at each place."""

    def tensors(self) -> dict[str, Tensor]:
        """The arrays of the reference, by their names in a model file."""
        found = {"calibration_peaks": torch.from_numpy(self.maxima)} if len(self.maxima) else {}
        if self.training_error is not None:
            found["usual_error"] = self.training_error.cpu().contiguous()
        return found | (self.filters.tensors() if self.filters else {})

    @classmethod
    def load(cls, tensors: Mapping[str, Tensor], settings: ImageConfig, shape: tuple[int, ...]) -> ImageReference:
        """Reads the reference from the tensors of a model file of images (C, H, W).

        Raises:
            KeyError: one is missing.
            ValueError: one is of another shape.
        """
        maxima = tensors["calibration_peaks"].numpy() if "calibration_peaks" in tensors else np.empty(0)
        if maxima.ndim != 1 or maxima.dtype.kind != "f":
            raise ValueError(f"'calibration_peaks' is of shape {maxima.shape} and type {maxima.dtype}")
        if "calibration_groups" in tensors and len(maxima) != len(tensors["calibration_groups"]):
            raise ValueError(f"{len(maxima)} 'calibration_peaks' have another number of groups")
        if not settings.relative:
            return cls(maxima)
        patches = tuple(-(-side // (settings.patch_px or 1)) for side in shape[1:])
        error = tensors["usual_error"]
        if error.shape != patches or error.dtype != torch.float32 or bool((error < 0).any()):
            raise ValueError(f"'usual_error' is of shape {tuple(error.shape)}, and the settings ask for {patches}")
        filters = FilterStatistics.load(tensors, shape) if settings.filters else None
        return cls(maxima, error, filters)


def _feature_errors(target: Tensor, rebuilt: Tensor, size: Sequence[int]) -> Tensor:
    """(B, H, W): the squared error of features (B, C, h, w), the sum over the channels, enlarged to an image's size."""
    errors, there = squared_error(target, rebuilt).sum(dim=1, keepdim=True), target.any(dim=1, keepdim=True)
    enlarged = partial(F.interpolate, size=list(size), mode="bilinear", align_corners=False)
    if not there.all():  # only places with an image say something of the px around them
        there = there.to(errors)
        return (enlarged(errors * there) / enlarged(there).clamp_min(SMALLEST))[:, 0]
    return enlarged(errors)[:, 0]


def map_settings(artifact: Artifact) -> MapSettings:
    """How a fitted model scores images."""
    settings, reference = ImageConfig.of(artifact.config), artifact.reference
    training_error, filters = (reference.training_error, reference.filters) if reference else (None, None)
    return MapSettings(
        settings.smooth_px or 0.0,
        settings.pool,
        settings.patch_px or 1,
        training_error,
        filters,
        artifact.config.memory.score == "distance",
    )


def map_threshold(artifact: Artifact) -> float:
    """The value of an anomaly map above which a place is anomalous.

    It is the (1 - false-alarm rate) quantile of the maximum over held-out normal images. Maps are drawn by it.
    """
    threshold = artifact.threshold
    assert threshold is not None, "who draws maps has looked for a threshold"
    maxima = artifact.reference.maxima
    if not len(maxima):
        return FORMER_MAP_THRESHOLD * threshold.value
    return Threshold.fit(maxima, threshold.false_alarm_rate, threshold.groups, threshold.confidence).value


@dataclass(frozen=True)
class JoinedMap:
    """The error map of one image that was cut into tiles, as `memae.image.tiles` joins it."""

    errors: np.ndarray
    """(H, W) float32, the mean over the channels."""
    tile_px: int
    """The longer side of a tile."""
    patch_px: int = 1
    """Side of the patches of the anomaly map, px; they lie from the first px of the image on."""
    item_shares: np.ndarray | None = None
    """(N,) shares of the items in the reads of all tiles, if they were looked at."""

    @classmethod
    def of(cls, scorer: Scorer[ErrorMap], tiles: Tiles, patch_px: int, *, looked_at: bool = False) -> JoinedMap:
        """Joins the error maps of all tiles of one image; `looked_at` asks for its item shares."""
        tiling, shares = tiles.tiling, []
        joined, places = tiling.empty(), iter(tiling.places.tolist())
        for part in scorer.batches(tiles):
            if looked_at and (found := part.item_shares(np.arange(len(part.errors)))) is not None:
                shares.append(found)
            for errors, (row, column) in zip(part.maps, places, strict=False):
                tiling.add(joined, row, column, errors)
        mean = np.concatenate(shares).mean(axis=0) if shares else None
        return cls(tiling.trimmed(joined), max(tiles.shape[2:]), patch_px, mean)

    def score(self, pool: Pool | None) -> float:
        """The score of the image."""
        return float(self.anomaly_map.max() if pool == "max" else self.errors.mean(dtype=np.float64))

    @cached_property
    def anomaly_map(self) -> np.ndarray:
        """(h, w) of patches; smoothed as if it were the map of a tile."""
        return anomaly_map(patch_means(self.errors, self.patch_px), -(-self.tile_px // self.patch_px))

    @property
    def maximum_px(self) -> tuple[int, int]:
        """Row and column of the middle of the patch where the anomaly map has its maximum."""
        found = self.anomaly_map
        row, column = (int(place) for place in np.unravel_index(int(found.argmax()), found.shape))
        return row * self.patch_px + self.patch_px // 2, column * self.patch_px + self.patch_px // 2
