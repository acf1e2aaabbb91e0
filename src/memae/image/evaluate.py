"""Compares scores and anomaly maps of images with labels and masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from memae.errors import ConfigError, DataError
from memae.files.image import UnreadableError, read_bright
from memae.image.paths import IMAGE_SUFFIXES, NORMAL_FOLDER, find_images, find_mvtec
from memae.image.source import ImageSource
from memae.metrics.curves import Curves, ScoreHistogram, area_share
from memae.metrics.intervals import Estimate, bootstrap
from memae.metrics.kinds import kinds_table
from memae.metrics.labels import Labels, read_labels
from memae.metrics.samples import Evaluation, SampleMeter
from memae.metrics.tables import ResultTable, rows_of
from memae.modality import Judged
from memae.modality.groups import groups_of_files
from memae.progress import Progress
from memae.types import Key

__all__ = [
    "ImageEvaluation",
    "ImageMasks",
    "ImageMeter",
    "PixelEvaluation",
    "PixelMeter",
    "evaluate",
    "read_masks",
]

MOST_FALSE = 0.3  # AUPRO is taken up to this share of normal pixels
MASK_ENDING = "_mask"
LOSSY_MASK = 127  # of 255: in a JPEG or WebP mask black is not quite black
FEWEST_RESAMPLES, MOST_RESAMPLES = 20, 200
BOOTSTRAP_CELLS = 200_000_000  # entries of histograms weighed in all
TOUCHING = np.ones((3, 3), dtype=bool)  # by a side or a corner


@dataclass(frozen=True)
class PixelEvaluation:
    """Anomaly maps compared with masks; intervals are over images."""

    images: int
    regions: int
    """Connected regions of the masks; pixels that touch at a corner are connected."""
    pixel_auroc: Estimate
    """All pixels of all images in one ranking, so a large defect counts more than a small one."""
    aupro: Estimate
    """Mean share of a region that is found, over false positive rates from 0 to 0.3, scaled to 0 ... 1: each region
    counts the same (Bergmann et al., IJCV 2021)."""


@dataclass(frozen=True)
class ImageEvaluation(Evaluation):
    """Scores and verdicts of images compared with labels, and their maps with masks."""

    pixels: PixelEvaluation
    kind_pixels: Mapping[str, PixelEvaluation]
    """By the name of each of `kinds`: the maps of its images and of normal ones; kinds without marks are missing."""

    def table(self) -> ResultTable:
        """A table with one row for each figure and its 95 % interval; below it a row for each kind of anomaly."""
        table = super().table()
        pixels = rows_of(self.pixels, {"pixel_auroc": "pixel AUROC", "aupro": "AUPRO"})
        return table._replace(rows=[*table.rows, *pixels])

    def _kinds_table(self) -> ResultTable:
        of_kind = [self.kind_pixels.get(kind.name) for kind in self.kinds]
        aurocs = [f"{found.pixel_auroc.value:.3f}" if found else "-" for found in of_kind]
        aupros = [f"{found.aupro.value:.3f}" if found else "-" for found in of_kind]
        return kinds_table(self.kinds, [("pixel AUROC", aurocs), ("AUPRO", aupros)])


@dataclass(frozen=True)
class ImageMasks:
    """The mask file of each image that has one, by its key."""

    files: Mapping[str, Path]

    def read(self, key: str, size: tuple[int, int]) -> np.ndarray:
        """(H, W) bool, True = anomalous; all False where there is no mask.

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

    def labels(self, keys: Sequence[str], folder: Path) -> Labels:
        """Labels derived from the masks of a folder: an image is anomalous if its mask marks any pixel.

        Raises:
            DataError: all images are normal, or all anomalous.
        """
        anomalous = np.array([key in self.files and bool(_marked(self.files[key]).any()) for key in keys])
        if anomalous.all() or not anomalous.any():
            raise DataError(f"{folder}: an evaluation needs images with and without marks in their masks")
        return Labels(anomalous, np.ones(len(keys), dtype=bool))


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
    for key, is_anomalous in zip(keys, () if anomalous is None else anomalous.tolist(), strict=False):
        if is_anomalous and key not in files:
            wanted = _stem(key) + MASK_ENDING + IMAGE_SUFFIXES[0]
            raise DataError(f"{folder}: holds no mask of {key}; add {wanted}")
    return ImageMasks(files)


class PixelMeter:
    """Compares maps with masks image by image; it keeps a histogram of each image and no pixels.

    Errors that differ by less than 0.4 % may count as equal, see `memae.metrics.curves.ScoreHistogram`.
    """

    def __init__(self) -> None:
        self._bins: list[np.ndarray] = []
        self._amounts: list[np.ndarray] = []
        self._regions: list[int] = []

    def add(self, errors: np.ndarray, mask: np.ndarray) -> None:
        """One image: its map (h, w), which is resized to its mask (H, W) bool."""
        errors = np.asarray(errors, dtype=np.float32)
        if errors.shape != mask.shape:
            size = (mask.shape[1], mask.shape[0])
            errors = np.asarray(Image.fromarray(errors).resize(size, Image.Resampling.BILINEAR))
        numbered, regions = ndimage.label(mask, structure=TOUCHING)
        shares = mask / np.bincount(numbered.ravel(), minlength=regions + 1)[numbered]  # each region adds up to 1
        histogram = ScoreHistogram(3)
        histogram.add(errors, ~mask, mask, shares)
        bins, amounts = histogram.entries()
        self._bins.append(bins)
        self._amounts.append(amounts)
        self._regions.append(int(regions))

    def result(
        self, seed: int = 0, *, chosen: Sequence[int] | None = None, groups: np.ndarray | None = None
    ) -> PixelEvaluation:
        """The figures over images.

        Args:
            seed: of the bootstrap.
            chosen: the places of the images, in the order in which they were added; None is all.
            groups: (I,) whole numbers, the group of each of them; None: each image is its own.

        Raises:
            DataError: no mask marks anything, or all masks mark everything.
        """
        chosen = range(len(self._bins)) if chosen is None else chosen
        bins, amounts = [self._bins[place] for place in chosen], [self._amounts[place] for place in chosen]
        if not all(np.sum([of_image[kind].sum() for of_image in amounts]) for kind in (0, 1)):
            raise DataError("the masks mark no pixel, or every one; figures of pixels need both kinds")
        group = np.arange(len(bins)) if groups is None else np.unique(groups, return_inverse=True)[1]
        owners = np.repeat(group, [len(of_image) for of_image in bins])
        count = int(group.max()) + 1
        regions = np.bincount(group, [self._regions[place] for place in chosen], count)
        curves = Curves(np.concatenate(bins), np.concatenate(amounts, axis=1), owners, count)

        def figures(resamples: np.ndarray) -> np.ndarray:
            false, found, covered = curves(resamples)
            roc = area_share(false, found, false[-1], found[-1])
            return np.stack([roc, area_share(false, covered, MOST_FALSE * false[-1], resamples @ regions)], axis=1)

        marked = len(np.unique(group[[self._regions[place] > 0 for place in chosen]]))
        resamples = int(np.clip(BOOTSTRAP_CELLS // len(owners), FEWEST_RESAMPLES, MOST_RESAMPLES))
        options: Any = {"bearing": [marked, marked], "seed": seed, "resamples": resamples}
        auroc, aupro = bootstrap(figures, count, cells=curves.thresholds, **options)
        assert auroc and aupro, "both kinds of pixels are there"
        return PixelEvaluation(len(bins), int(regions.sum()), auroc, aupro)


class ImageMeter(SampleMeter):
    """Compares predictions of images with labels, and their maps with masks, part by part.

    Args:
        source: the images; maps and masks are compared at the size of the image.
        labels: of the images.
        masks: theirs, where there are any.
        groups: as for `SampleMeter`.
    """

    def __init__(
        self,
        source: ImageSource,
        labels: Labels,
        masks: ImageMasks | None = None,
        groups: np.ndarray | None = None,
    ) -> None:
        super().__init__(labels, source.origin, groups)
        self._source, self._masks, self._pixels = source, masks, PixelMeter()
        self._mapped: list[Key] = []
        self.takes_maps = masks is not None

    @classmethod
    def of(
        cls,
        source: ImageSource,
        *,
        root: Path | None = None,
        label_column: str | None = None,
        normal: Sequence[str] = (),
        labels: Path | None = None,
        group: Any = None,
        skip_bad: bool = False,
    ) -> ImageMeter:
        """The meter with the labels and masks of images in files.

        A folder in the layout of MVTec AD needs no more: its folders name the labels, and its masks are found. Masks
        alone will do, too: then an image is anomalous if its mask marks anything.

        Args:
            source: the images.
            root: the folder that they were opened from, which may have the layout of MVTec AD.
            label_column: "folder", where the images lie in one folder for each label.
            normal: the labels that mean normal.
            labels: a folder of masks, see `read_masks`.
            group: what belongs together, see `memae.modality.groups`; intervals are then over groups.
            skip_bad: as for `memae.metrics.read_labels`.

        Raises:
            ConfigError: nothing says which images are normal.
            DataError: labels or masks that do not fit the images.
        """
        if labels and not labels.is_dir():
            raise ConfigError(
                f"`labels` {labels}: is no folder; the masks of images lie in one, see docs/images.md"
            )
        mvtec = find_mvtec(root) if root else None
        if mvtec:
            label_column, normal, labels = (
                label_column or "folder",
                normal or [NORMAL_FOLDER],
                labels or mvtec.masks,
            )
        groups = None if group is None else groups_of_files(group, source.keys, source.origin, source.paths)
        if labels and label_column is None and not normal:
            masks = read_masks(labels, source.keys)
            return cls(source, masks.labels(source.keys, labels), masks, groups)
        known = read_labels(source, label_column, normal, skip_bad=skip_bad)
        return cls(source, known, read_masks(labels, source.keys, known.anomalous) if labels else None, groups)

    def add_map(self, key: Key, errors: np.ndarray) -> None:
        """Compares the anomaly map (h, w) of an image with its mask.

        Raises:
            DataError: a mask that cannot be read, or of another size than its image.
        """
        if self._masks is not None:
            self._pixels.add(errors, self._masks.read(str(key), self._source.size_of(key)))
            self._mapped.append(key)

    def result(
        self,
        *,
        wanted_false_alarm_rate: float,
        thresholds: Mapping[float, float] | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Evaluation:
        """The figures of all images, an `ImageEvaluation` if there are masks; see `SampleMeter.result`.

        Raises:
            DataError: another number of images than of labels, or labels or pixels of one kind only.
        """
        scores = super().result(
            wanted_false_alarm_rate=wanted_false_alarm_rate, thresholds=thresholds, seed=seed, progress=progress
        )
        if not self._masks:
            return scores
        place = {key: row for row, key in enumerate(self._keys)}
        rows = np.array([place[key] for key in self._mapped])
        pixels = self._pixels.result(seed, groups=None if self._groups is None else self._groups[rows])
        of_kinds = self._kind_pixels([kind.name for kind in scores.kinds], rows, seed)
        return ImageEvaluation(**vars(scores), pixels=pixels, kind_pixels=of_kinds)

    def _kind_pixels(self, kinds: Sequence[str], rows: np.ndarray, seed: int) -> dict[str, PixelEvaluation]:
        """Of each kind that has marks: its images and the normal ones; `rows` (I,) are those of the added maps."""
        found = {}
        for kind in kinds:
            assert self._labels.kinds is not None, "it names the kinds"
            counted = (self._labels.kinds == kind) | (self._labels.known & ~self._labels.anomalous)
            chosen = np.flatnonzero(counted[rows])
            groups = None if self._groups is None else self._groups[rows[chosen]]
            with suppress(DataError):  # all masks of the kind are empty
                found[kind] = self._pixels.result(seed, chosen=chosen.tolist(), groups=groups)
        return found


def _marked(file: Path) -> np.ndarray:
    try:
        return read_bright(file, lossy_black=LOSSY_MASK)
    except UnreadableError as error:
        raise DataError(f"{file}: not a readable mask ({error}); mend it") from None


def _stem(key: str) -> str:
    return PurePosixPath(key).with_suffix("").as_posix()


def evaluate(detector: Any, source: Any, options: Mapping[str, Any], progress: Progress | None) -> Judged:
    """See `memae.modality.Modality.evaluate`; options: those, and `skip_bad`, `drop`, `root`."""
    column, skip_bad = options.get("label_column"), bool(options.get("skip_bad"))
    normal, labels, group = options.get("normal") or (), options.get("labels"), options.get("group")
    meter: SampleMeter
    if isinstance(source, ImageSource):
        meter = ImageMeter.of(
            source,
            root=options.get("root"),
            label_column=column,
            normal=normal,
            labels=labels,
            group=group,
            skip_bad=skip_bad,
        )
    elif labels:
        raise ConfigError(
            "`labels`: masks are of images in files; leave them out, and name the column of the labels"
        )
    else:
        known = read_labels(source, column, normal, skip_bad=skip_bad)
        groups = None if group is None else groups_of_files(group, range(len(known.known)), source.origin)
        meter = SampleMeter(known, source.origin, groups)
    samples = source.without([*((column,) if column else ()), *options.get("drop", ())])
    return meter.judge(detector, samples, skip_bad=skip_bad, progress=progress)
