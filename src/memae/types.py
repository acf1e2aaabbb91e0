"""What flows between the parts: samples with their keys, encoded samples, predictions and what explains them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, Self, TypeAlias, runtime_checkable

import numpy as np

from memae.categories import SampleCategories
from memae.deprecated import renamed_attribute
from memae.drift import Drift
from memae.errors import ArtifactError, DataError
from memae.notebook import verdicts_html
from memae.progress import Count

if TYPE_CHECKING:
    import torch
    from torch import Tensor


__all__ = [
    "EVERYTHING",
    "FAR",
    "Box",
    "Cell",
    "Encoded",
    "Explained",
    "Explanation",
    "ItemUse",
    "Key",
    "Prediction",
    "Region",
    "Samples",
    "Scores",
    "Skipped",
    "Source",
    "Verdict",
    "Verdicts",
    "batches",
    "check_scores",
    "count",
    "fitting",
    "readable",
    "unreadable_at",
]

Key: TypeAlias = Hashable
"""A path, a row number or an index label; it travels to the last row of the output."""

EVERYTHING = 1 << 62
"""A chunk size that means: all samples in one chunk."""


class Skipped(NamedTuple):
    """A bad sample that was left out, as the user asked for."""

    key: Key
    reason: str


class Samples(Protocol):
    """S samples in their own units, as a source gives them."""

    @property
    def keys(self) -> Sequence[Key]:
        """(S,) what the user knows each sample by."""
        ...

    @property
    def origin(self) -> str:
        """The file or argument that they came from, for messages."""
        ...

    @property
    def unreadable(self) -> Mapping[int, str]:
        """Samples that hold nothing, as they could not be read, and why; only a source that skips bad ones has them."""
        ...

    def take(self, rows: np.ndarray) -> Self:
        """The samples of an index (B,)."""
        ...

    def __len__(self) -> int: ...


@runtime_checkable
class Source(Protocol):
    """Samples in chunks, so that memory does not grow with the length of the input."""

    origin: str

    @property
    def modality(self) -> str:
        """The name of the kind of data."""
        ...

    def chunks(self, size: int) -> Iterator[Any]:
        """At most `size` samples at a time, in order, each time from the start."""
        ...

    def labels(self, name: str) -> np.ndarray:
        """(S,) labels as text, from a column, array, folder or file of that name; only an evaluation asks."""
        ...

    def without(self, names: Sequence[str]) -> Source:
        """The same samples without these columns."""
        ...


@runtime_checkable
class Divisible(Protocol):
    """A source of files, which can be scored in parts, each in another process or on another machine."""

    def parts(self) -> Sequence[Source]:
        """The same samples under the same keys as several sources, in order; each can be pickled.

        A machine that one is sent to needs the same files at the same paths. A part may hold bad samples alone, which
        in a whole source is an error, or none at all.
        """
        ...


@runtime_checkable
class _Counted(Protocol):
    def count(self) -> Count | None: ...


def count(source: object) -> Count | None:
    """How many samples a source says that it holds; None where it cannot say."""
    return source.count() if isinstance(source, _Counted) else None


def unreadable_at(samples: Samples, rows: np.ndarray) -> dict[int, str]:
    """The unreadable samples among those of an index (B,), by their place in it."""
    bad = samples.unreadable
    return {place: bad[row] for place, row in enumerate(rows.tolist()) if row in bad} if bad else {}


def readable(samples: Any) -> tuple[Any, tuple[Skipped, ...]]:
    """The samples without those that could not be read, and these.

    Raises:
        DataError: none can be read.
    """
    if not samples.unreadable:
        return samples, ()
    good = np.ones(len(samples), dtype=bool)
    good[list(samples.unreadable)] = False
    skipped = tuple(Skipped(samples.keys[row], why) for row, why in samples.unreadable.items())
    if not good.any():
        raise DataError(f"{samples.origin}: holds no sample that can be read; the first {skipped[0].reason}")
    return samples.take(np.flatnonzero(good)), skipped


class Box(NamedTuple):
    """A rectangle in px of a picture as displayed; right and bottom are the first px outside of it."""

    left: int
    top: int
    right: int
    bottom: int


class Region(NamedTuple):
    """A connected place of an anomaly map above a threshold."""

    box: Box
    area_px: int
    """Of the place itself, of which the box may hold more."""
    peak: float
    """The highest value of the map in it."""


FAR = 1e12  # encoded values are cut here, so that float32 still holds their squares and each score is finite


class Encoded(Protocol):
    """Encoded samples that batches are indexed out of: a tensor (S, ...), or what behaves like one."""

    @property
    def device(self) -> torch.device:
        """Where batches come to be."""
        ...

    @property
    def shape(self) -> Sequence[int]:
        """(S, ...)"""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Tensor:
        """The samples (B, ...) of a slice or an index tensor."""
        ...

    def to(self, device: torch.device, /) -> Encoded:
        """The same samples on another device."""
        ...


def batches(x: Encoded, size: int) -> Iterator[Tensor]:
    """All of `x` in order, at most `size` samples at a time."""
    for start in range(0, len(x), size):
        yield x[start : start + size]


def fitting(x: Encoded, limit: int) -> int:
    """How many encoded samples of float32 fit in `limit` bytes, at least one."""
    return max(1, limit // (4 * prod(x.shape[1:])))


Explained: TypeAlias = Literal["none", "anomalies", "all"]


@dataclass(frozen=True, slots=True)
class ItemUse:
    """One item's part in rebuilding a sample."""

    item: int
    weight: float
    """Its share of the sample's reads; the weights of all items add up to 1."""


@dataclass(frozen=True)
class Cell:
    """One column of one row, as given and as the model reconstructed it."""

    column: str
    seen: float | str
    expected: float | str
    error: float
    """The column's part of the score; the parts of all columns add up to the score."""


@dataclass(frozen=True)
class Explanation:
    """One sample, its reconstruction, and the memory items behind it."""

    key: Key
    score: float
    p_value: float | None
    """Conformal p-value; None for a model without a threshold."""
    items: tuple[ItemUse, ...] = ()
    """The memory items that it was rebuilt from, largest weight first; empty for a plain autoencoder."""
    cells: tuple[Cell, ...] = ()
    """Tables: each column as seen and as expected, largest error first; their errors add up to the score."""
    x: np.ndarray | None = None
    """Images: (C, H, W) as the network saw it, after per-image scaling. Video: (1, H, W), the frame in its clip."""
    reconstruction: np.ndarray | None = None
    """Images: (C, H, W) as the network rebuilt it; None where it rebuilds features. Video: (1, H, W)."""
    error_map: np.ndarray | None = None
    """(H, W) squared error, the mean over the channels; of images with `image.relative` as a multiple of the mean
    training error of its patch."""
    anomaly_map: np.ndarray | None = None
    """Images: (h, w) mean errors of patches, smoothed: what the score "max" is the maximum of and maps are drawn from.
    Of an image that was cut into tiles it is that of the whole image; x, reconstruction, error_map and items are then
    those of the tile with its maximum."""
    tile_at: tuple[int, int] | None = None
    """First row and column of that tile, px."""
    regions: tuple[Region, ...] = ()
    """Images whose score is the maximum of their map: the places above the threshold, strongest first, at most 10, with
    boxes in px of the image at its own size."""
    part: str | None = None
    """Video: "motion" or "appearance", whichever part of the model set the score. x, reconstruction and error_map are
    those of motion."""
    category: str | None = None
    """See `Verdict.category`."""

    heat = renamed_attribute("anomaly_map")


@dataclass(frozen=True)
class Scores:
    """One score for each sample."""

    values: np.ndarray
    """(S,) float64, higher = more anomalous: the mean squared error over the encoded sample; for images and video see
    the settings `image.pool` and `video.score`."""
    keys: Sequence[Key]
    """(S,) the path, row number or index label of each sample."""
    skipped: tuple[Skipped, ...] = ()
    """Bad samples, if the caller asked to skip them; their score is NaN."""
    categories: SampleCategories | None = None
    """Of each sample, where the model knows several kinds of normal."""

    def __len__(self) -> int:
        return len(self.values)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """The values, for numpy: `np.asarray(scores)`."""
        return np.array(self.values, dtype=dtype) if copy else np.asarray(self.values, dtype=dtype)


class Prediction(NamedTuple):
    """Some samples, in the order of the source."""

    keys: Sequence[Key]
    scores: np.ndarray
    """(S,) float64, higher = more anomalous; NaN of a sample that was skipped."""
    skipped: tuple[Skipped, ...] = ()
    explanations: tuple[Explanation, ...] = ()
    regions: Mapping[Key, tuple[Region, ...]] | None = None
    """Of the anomalies, see `Explanation.regions`; None where scores are not of places."""
    categories: SampleCategories | None = None


def check_scores(
    keys: Sequence[Key], scores: np.ndarray, unscored: Callable[[Key], bool] = lambda _: False
) -> None:
    """Raises an error for a score that is NaN or infinite, which would come out as normal.

    Args:
        keys: (S,) of the samples.
        scores: (S,)
        unscored: whether the sample of a key was left out, so that its score is NaN.

    Raises:
        ArtifactError: there is such a score.
    """
    for row in np.flatnonzero(~np.isfinite(scores)).tolist():
        if not (np.isnan(scores[row]) and unscored(keys[row])):
            raise ArtifactError(
                f"the model gives the sample {keys[row]!s} the score {scores[row]}, which says nothing: its weights "
                "are damaged or far too large; copy the model again, or train it again"
            )


def merged(
    parts: Iterable[Mapping[Key, tuple[Region, ...]] | None],
) -> dict[Key, tuple[Region, ...]]:
    """The regions of all parts."""
    return {key: found for part in parts if part for key, found in part.items()}


class Verdict(NamedTuple):
    """The decision on one sample."""

    key: Key
    score: float
    p_value: float
    """Conformal p-value: the share of normal samples that score at least as high."""
    is_anomaly: bool
    category: str | None = None
    """The kind of normal that the sample was given or taken for, where the model knows several."""


@dataclass(frozen=True)
class Verdicts:
    """Decisions on S samples; iterate for one `Verdict` each."""

    keys: Sequence[Key]
    scores: np.ndarray
    """(S,) float64; higher = more anomalous. NaN of a sample that was skipped."""
    p_values: np.ndarray
    """(S,) float64; NaN of a sample that was skipped."""
    is_anomaly: np.ndarray
    """(S,) bool: the score is above the threshold."""
    threshold: float
    skipped: tuple[Skipped, ...] = ()
    """The bad samples, where the caller asked to skip them."""
    explanations: tuple[Explanation, ...] = ()
    """Of the samples that were to be explained, in their order."""
    regions: Mapping[Key, tuple[Region, ...]] | None = None
    """Of the anomalies, by key: the places that made them so, see `Explanation.regions`; None where scores are not of
    places."""
    drift: Drift | None = None
    """How all samples of the pass so far compare with the held-out normal ones; None while there are too few."""
    categories: SampleCategories | None = None
    """Of each sample, where the model knows several kinds of normal; each is then decided by the threshold of its own,
    and `threshold` is that of all together."""

    @classmethod
    def joined(cls, parts: Sequence[Verdicts]) -> Self:
        """Those of all parts, of which there is at least one, as one."""
        return cls(
            keys=[key for part in parts for key in part.keys],
            scores=np.concatenate([part.scores for part in parts]),
            p_values=np.concatenate([part.p_values for part in parts]),
            is_anomaly=np.concatenate([part.is_anomaly for part in parts]),
            threshold=parts[0].threshold,
            skipped=tuple(bad for part in parts for bad in part.skipped),
            explanations=tuple(one for part in parts for one in part.explanations),
            regions=None if parts[0].regions is None else merged(part.regions for part in parts),
            drift=parts[-1].drift,
            categories=SampleCategories.joined([part.categories for part in parts]),
        )

    @classmethod
    def of(cls, found: Prediction, threshold: Any, drift: Drift | None = None) -> Self:
        """The decisions on predicted samples at a threshold."""
        p_values = threshold.p_values(found.scores, found.categories)
        p_values[np.isnan(found.scores)] = np.nan
        flags = threshold.flags(found.scores, found.categories)
        about = found.skipped, found.explanations, found.regions, drift, found.categories
        return cls(found.keys, found.scores, p_values, flags, threshold.value, *about)

    def _repr_html_(self) -> str:
        return verdicts_html(self)

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[Verdict]:
        named = [None] * len(self) if self.categories is None else self.categories.texts
        columns = self.scores.tolist(), self.p_values.tolist(), self.is_anomaly.tolist(), named
        for row in zip(self.keys, *columns, strict=True):
            yield Verdict(*row)
