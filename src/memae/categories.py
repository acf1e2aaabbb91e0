"""Several kinds of normal in one model: which category samples are of, as somebody said or as the model takes them."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple, Self

import numpy as np

from memae.errors import ConfigError, DataError

__all__ = ["FOLDERS", "GivenCategories", "HeldOutCategories", "SampleCategories", "folder_of", "one_for_each"]

FOLDERS = "folders"
"""What stands for a column where the first folder of a path is the category."""
FEWEST = 10  # samples of a category: with fewer it may miss a part of the split


class SampleCategories(NamedTuple):
    """The categories of S samples that were scored."""

    names: tuple[str, ...]
    """(K,) of all categories."""
    numbers: np.ndarray
    """(S,) int64, places in `names`."""
    given: np.ndarray
    """(S,) bool: said by its column or folder; False: as the model takes the sample."""

    @property
    def texts(self) -> list[str]:
        """(S,) the name of each."""
        return [self.names[number] for number in self.numbers.tolist()]

    def take(self, rows: slice | np.ndarray) -> SampleCategories:
        """Those of some samples."""
        return SampleCategories(self.names, self.numbers[rows], self.given[rows])

    def alike(self) -> Iterator[tuple[int, bool, np.ndarray]]:
        """Each category that occurs, whether it was given, and bool (S,), the samples of both."""
        for given in (False, True):
            for number in np.unique(self.numbers[self.given == given]).tolist():
                yield number, given, (self.numbers == number) & (self.given == given)

    @classmethod
    def joined(cls, parts: Sequence[SampleCategories | None]) -> SampleCategories | None:
        """Those of all parts, end to end; None where they have none."""
        found = [part for part in parts if part is not None]
        if not found:
            return None
        numbers, given = (np.concatenate(arrays) for arrays in zip(*(part[1:] for part in found), strict=True))
        return cls(found[0].names, numbers, given)


class HeldOutCategories(NamedTuple):
    """The categories of the n held-out samples that a threshold comes from."""

    names: tuple[str, ...]
    given: np.ndarray
    """(n,) int64: the category that was given."""
    taken: np.ndarray
    """(n,) int64: the one that the model takes each sample for."""

    def take(self, rows: np.ndarray) -> HeldOutCategories:
        """Those of an index."""
        return HeldOutCategories(self.names, self.given[rows], self.taken[rows])

    def named_right(self, number: int) -> float:
        """The share of the samples of a category that the model takes for it; NaN without a sample."""
        of = self.given == number
        return float((self.taken[of] == number).mean()) if of.any() else float("nan")

    @classmethod
    def joined(cls, parts: Sequence[HeldOutCategories]) -> HeldOutCategories | None:
        """Those of all folds, end to end; None without categories."""
        if not parts:
            return None
        given, taken = (np.concatenate(arrays) for arrays in zip(*(part[1:] for part in parts), strict=True))
        return cls(parts[0].names, given, taken)


class GivenCategories(NamedTuple):
    """The categories of S samples to train on."""

    column: str | None
    """The column, or "folders", that said them and says them when samples are scored; None: they came as values."""
    names: tuple[str, ...]
    numbers: np.ndarray
    """(S,) int64"""

    def take(self, rows: np.ndarray) -> Self:
        """Those of an index."""
        return self._replace(numbers=self.numbers[rows])

    @classmethod
    def of(cls, values: Sequence[Hashable], samples: int, origin: str, column: str | None = None) -> Self:
        """From one value for each sample; the names are in their order as texts.

        Raises:
            DataError: another number of values than samples, a missing value, a single category, or one that has too
                few samples.
        """
        plain = one_for_each(values, samples, origin).tolist()
        texts = ["" if value is None or value != value else str(value) for value in plain]  # noqa: PLR0124  NaN
        where = f"the category column {column!r}" if column else "`category`"
        if "" in texts:
            raise DataError(
                f"{origin}: {where} has no value for sample {texts.index('')} ({texts.count(''):,} in all); give each "
                "sample a category, or remove it"
            )
        names, numbers, counts = np.unique(np.array(texts, dtype=str), return_inverse=True, return_counts=True)
        if len(names) < 2:
            raise DataError(
                f"{origin}: all samples are of the category {str(names[0])!r}; leave the category out, or give "
                "another kind of normal samples, too"
            )
        if counts.min() < FEWEST:
            few = int(counts.argmin())
            raise DataError(
                f"{origin}: the category {str(names[few])!r} has {int(counts[few]):,} samples, and each needs at least "
                f"{FEWEST}; give more of it, join it with another one, or remove it"
            )
        return cls(column, tuple(map(str, names)), numbers.astype(np.int64))

    @classmethod
    def of_files(cls, category: str | Sequence[Hashable], names: Sequence[Hashable], origin: str) -> Self:
        """Of images: from the first folder of each name, or from one value for each.

        Raises:
            ConfigError: a text other than "folders".
            DataError: see `of`; or an image that lies in no folder.
        """
        if not isinstance(category, str):
            return cls.of(category, len(names), origin)
        if category != FOLDERS:
            raise ConfigError(
                f"{origin}: `category` {category!r}: images have no columns; give {FOLDERS!r}, which takes the folder "
                "of each below what is opened, or one value for each image"
            )
        found = [folder_of(name) for name in names]
        if "" in found:
            raise DataError(
                f"{origin}: {names[found.index('')]} lies in no folder below {origin}, which would be its category; "
                "sort the images into one folder for each kind of normal"
            )
        return cls.of(found, len(found), origin, FOLDERS)


def one_for_each(values: Sequence[Hashable], samples: int, origin: str) -> np.ndarray:
    """(S,) objects: the values.

    Raises:
        DataError: another number of values than samples.
    """
    plain = values.tolist() if isinstance(values, np.ndarray) else list(values)
    if len(plain) != samples:
        raise DataError(
            f"{origin}: `category` holds {len(plain):,} values for {samples:,} samples; give one for each sample, in "
            "their order"
        )
    found = np.empty(samples, dtype=object)
    found[:] = plain
    return found


def folder_of(name: Hashable) -> str:
    """The first folder of a name such as "screws/left/7.png"; "" where it has none."""
    parts = PurePosixPath(name).parts if isinstance(name, str) else ()
    return parts[0] if len(parts) > 1 and parts[0] not in ("/", "..") else ""
