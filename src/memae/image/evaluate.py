"""How well error maps find the places that masks mark: pixel AUROC, and AUPRO, the overlap region by region."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image
from scipy import ndimage

from memae.errors import DataError
from memae.image.decode import UnreadableError, read_original
from memae.image.paths import IMAGE_SUFFIXES, find_images
from memae.metrics import LEVEL, Estimate

__all__ = ["ImageMasks", "PixelEvaluation", "PixelMeter", "read_masks"]

MOST_FALSE = 0.3  # AUPRO is taken up to this share of normal pixels
MASK_ENDING = "_mask"
LOSSY_MASK = 127  # of 255: in a JPEG or WebP mask black is not quite black
BIN_SHIFT = 15  # of the 31 bits of a float32 >= 0, which leaves 8 of its fraction: 0.4 %
RESAMPLES, FEWEST_RESAMPLES = 200, 20
BOOTSTRAP_CELLS = 200_000_000  # entries of histograms weighed in all
_EIGHT = np.ones((3, 3), dtype=bool)  # neighbours by a side or a corner


@dataclass(frozen=True)
class PixelEvaluation:
    """Maps held against masks; intervals are over images."""

    images: int
    regions: int
    """Connected places in the masks; pixels that touch by a corner are connected."""
    pixel_auroc: Estimate
    """All pixels of all images in one ranking, so a large defect counts more than a small one."""
    aupro: Estimate
    """Mean share of a region that is found, over shares of false pixels from 0 to 0.3, scaled to 0 ... 1: each region
    counts the same (Bergmann et al., IJCV 2021)."""


@dataclass(frozen=True)
class ImageMasks:
    """The mask file of each image that has one, by its key."""

    files: Mapping[str, Path]

    def read(self, key: str, size: tuple[int, int]) -> np.ndarray:
        """(H, W) bool, True = anomalous; nothing is where there is no mask.

        Args:
            key: of the image.
            size: (height, width) px of the image.

        Raises:
            DataError: an unreadable mask, or one of another size than its image.
        """
        file = self.files.get(key)
        if file is None:
            return np.zeros(size, dtype=bool)
        marked = _marked(file)
        if marked.shape != size:
            raise DataError(
                f"{file}: the mask has {marked.shape[1]} x {marked.shape[0]} px, and its image {key} {size[1]} x "
                f"{size[0]} (width x height); a mask has the size of its image"
            )
        return marked

    def marks(self, key: str) -> bool:
        """Whether the image of a key has a mask that marks anything."""
        return key in self.files and bool(_marked(self.files[key]).any())


def read_masks(folder: Path, keys: Sequence[str], anomalous: np.ndarray | None = None) -> ImageMasks:
    """The masks of images: files below a folder, at the path of the image, as <name>_mask or <name>, of any format.

    Args:
        folder: of the masks.
        keys: (S,) the path of each image below its own folder.
        anomalous: (S,) bool; each such image must have a mask. None takes images without a mask for normal.

    Raises:
        DataError: no masks, one without an image, a second one of an image, or none of an anomalous image.
    """
    names: dict[str, list[str]] = {}
    for key in keys:
        names.setdefault(_stem(key), []).append(key)
    files: dict[str, Path] = {}
    for mask in find_images([folder]):
        stem = _stem(mask.key)
        found = names.get(stem) or names.get(stem.removesuffix(MASK_ENDING))
        if not found:
            raise DataError(f"{mask.path}: is a mask of no image; name it as its image, or take it away")
        if len(found) > 1:
            raise DataError(f"{mask.path}: could be the mask of {found[0]} and of {found[1]}; rename one image")
        if found[0] in files:
            raise DataError(f"{mask.path}: {found[0]} has the mask {files[found[0]]} too; leave one of the two")
        files[found[0]] = mask.path
    if anomalous is not None:
        for key, is_anomalous in zip(keys, anomalous.tolist(), strict=True):
            if is_anomalous and key not in files:
                wanted = PurePosixPath(_stem(key) + MASK_ENDING).as_posix()
                raise DataError(f"{folder}: holds no mask of {key}; add {wanted}{IMAGE_SUFFIXES[0]}")
    return ImageMasks(files)


class PixelMeter:
    """Takes maps and masks image by image and gives the figures; an image leaves histograms behind and no pixels.

    Errors that differ by less than 0.4 % may count as equal.
    """

    def __init__(self) -> None:
        self._images: list[_Histogram] = []

    def add(self, errors: np.ndarray, mask: np.ndarray) -> None:
        """One image: its error map (h, w), 0 or more, and its mask (H, W) bool, to whose size the map is brought."""
        fitted = np.asarray(errors, dtype=np.float32)
        if fitted.shape != mask.shape:
            size = (mask.shape[1], mask.shape[0])
            fitted = np.asarray(Image.fromarray(fitted).resize(size, Image.Resampling.BILINEAR))
        self._images.append(_Histogram.of(np.maximum(fitted, 0), mask))

    def result(self, seed: int = 0) -> PixelEvaluation:
        """The figures over all images.

        Raises:
            DataError: no mask marks anything, or one marks everything.
        """
        images = self._images
        if not sum(image.regions for image in images) or not sum(int(image.normal.sum()) for image in images):
            raise DataError("the masks mark no pixel, or every one; figures of pixels need both kinds")
        owner = np.repeat(np.arange(len(images)), [len(image.bins) for image in images])
        levels, place = np.unique(np.concatenate([image.bins for image in images]), return_inverse=True)
        place = len(levels) - 1 - place  # the highest error first
        normal, anomalous, covered = (
            np.concatenate([getattr(image, name) for image in images])
            for name in ("normal", "anomalous", "covered")
        )
        regions = np.array([image.regions for image in images])

        def figures(weights: np.ndarray) -> tuple[float, float]:
            each = weights[owner]
            false, true, overlap = (
                np.cumsum(np.bincount(place, each * part, len(levels))) for part in (normal, anomalous, covered)
            )
            rate = np.concatenate([[0], false / false[-1]])
            roc = _area(rate, np.concatenate([[0], true / true[-1]]))
            return roc, _area_up_to(rate, np.concatenate([[0], overlap / (weights @ regions)]), MOST_FALSE)

        generator = np.random.default_rng(seed)
        drawn = []
        for _ in range(int(np.clip(BOOTSTRAP_CELLS // max(1, len(owner)), FEWEST_RESAMPLES, RESAMPLES))):
            weights = np.bincount(generator.integers(len(images), size=len(images)), minlength=len(images))
            some = weights > 0
            if regions[some].any() and any(images[i].normal.any() for i in np.flatnonzero(some)):
                drawn.append(figures(weights))
        tail = (1 - LEVEL) / 2
        lows, highs = np.quantile(np.array(drawn), [tail, 1 - tail], axis=0)
        auroc, aupro = (
            Estimate(value, float(low), float(high))
            for value, low, high in zip(figures(np.ones(len(images))), lows, highs, strict=True)
        )
        return PixelEvaluation(len(images), int(regions.sum()), auroc, aupro)


@dataclass(frozen=True)
class _Histogram:
    """One image by bins of its errors; only those that occur."""

    bins: np.ndarray
    normal: np.ndarray
    """(K,) pixels outside the mask."""
    anomalous: np.ndarray
    """(K,) pixels inside."""
    covered: np.ndarray
    """(K,) shares of a region, added up over the regions."""
    regions: int

    @classmethod
    def of(cls, errors: np.ndarray, mask: np.ndarray) -> _Histogram:
        # from 0 up, the bits of float32 numbers are in the order of their values
        bins, place = np.unique(np.ascontiguousarray(errors).view(np.uint32) >> BIN_SHIFT, return_inverse=True)
        numbered, regions = ndimage.label(mask, structure=_EIGHT)
        sizes = np.bincount(numbered.ravel(), minlength=regions + 1)
        shares = np.where(numbered.ravel() > 0, 1 / np.maximum(sizes, 1)[numbered.ravel()], 0.0)
        flat, place = mask.ravel(), place.ravel()
        return cls(
            bins,
            np.bincount(place, ~flat, len(bins)),
            np.bincount(place, flat, len(bins)),
            np.bincount(place, shares, len(bins)),
            int(regions),
        )


def _area_up_to(x: np.ndarray, y: np.ndarray, most: float) -> float:
    """The mean height of a curve (P,) from x = 0 to `most`; x begins at 0 and never falls."""
    inside = x <= most
    end = float(np.interp(most, x, y)) if not inside.all() else float(y[-1])
    return _area(np.append(x[inside], most), np.append(y[inside], end)) / most


def _area(x: np.ndarray, y: np.ndarray) -> float:
    return float((np.diff(x) * (y[1:] + y[:-1])).sum() / 2)


def _marked(file: Path) -> np.ndarray:
    try:
        values = read_original(file).max(axis=2)
    except UnreadableError as error:
        raise DataError(f"{file}: not a readable mask ({error}); mend it") from None
    marked: np.ndarray = values > (LOSSY_MASK if file.suffix.lower() in (".jpg", ".jpeg", ".webp") else 0)
    return marked


def _stem(key: str) -> str:
    return PurePosixPath(key).with_suffix("").as_posix()
