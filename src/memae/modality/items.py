"""Any object that has a length and gives samples by their number, whatever library it is of.

A Hugging Face or a torch data set is one, and so is a list of dicts. What a sample is shows in the first one: a picture
(of Pillow, or an array of two or three axes), alone or in a dict; a row (a dict of values, or an array of one axis);
or a pair of such and its label, as torch data sets give them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from memae.errors import DataError
from memae.progress import Count

__all__ = ["Items", "items_of"]

LABEL = "label"
"""What the second of a pair is called."""


class Items:
    """The samples of such an object; it is asked for one after the other, so that not all need be in memory."""

    def __init__(self, x: Any) -> None:
        self._x, self.origin = x, f"the {type(x).__name__}"
        self._picture = _field_of_picture(_unpaired(x[0]), self.origin)

    @property
    def are_pictures(self) -> bool:
        """Whether they are pictures, and no rows."""
        return self._picture is not None

    def __len__(self) -> int:
        return len(self._x)

    def count(self) -> Count:
        """How many there are."""
        return Count(len(self))

    def samples(self) -> Iterator[Any]:
        """Arrays (H, W) or (H, W, C) or (C, H, W) of pictures; dicts of rows."""
        for place in range(len(self)):
            sample = _unpaired(self._x[place])
            yield _row(sample) if self._picture is None else self._array(sample, place)

    def labels(self, name: str) -> np.ndarray:
        """(S,) the values of a field of all samples as text; "label" is also the second of a pair.

        Raises:
            DataError: no such field.
        """
        return np.array([str(_label(self._x[place], name, self.origin)) for place in range(len(self))])

    def _array(self, sample: Any, place: int) -> np.ndarray:
        try:
            picture = sample[self._picture] if self._picture else sample
        except (KeyError, TypeError):
            raise DataError(f"{self.origin}: sample {place} has no {self._picture!r}; give all one form") from None
        return _pixels(picture)


def items_of(x: Any) -> Items | None:
    """The samples of an object that gives them by number; None for any other, such as an array or a list of numbers."""
    if isinstance(x, str | bytes | Mapping) or hasattr(x, "__array__"):
        return None
    if not (hasattr(x, "__len__") and hasattr(x, "__getitem__")) or not len(x):
        return None
    if isinstance(x, list | tuple) and not (isinstance(x[0], Mapping) or _is_pillow(x[0])):
        return None
    return Items(x)


def _unpaired(sample: Any) -> Any:
    return sample[0] if isinstance(sample, tuple | list) and len(sample) and not np.isscalar(sample[0]) else sample


def _field_of_picture(sample: Any, origin: str) -> str | None:
    """The field of a sample that is a picture, "" if it is one itself, None if there is none."""
    if not isinstance(sample, Mapping):
        return "" if _is_picture(sample) else None
    fields = [name for name, value in sample.items() if _is_picture(value)]
    if len(fields) > 1:
        named = ", ".join(map(repr, fields))
        raise DataError(f"{origin}: a sample has several pictures ({named}); leave one, and remove the others")
    return fields[0] if fields else None


def _is_pillow(x: Any) -> bool:
    return hasattr(x, "convert") and hasattr(x, "mode") and hasattr(x, "size")


def _is_picture(x: Any) -> bool:
    return _is_pillow(x) or (hasattr(x, "__array__") and np.asarray(x).ndim in (2, 3))


def _pixels(picture: Any) -> np.ndarray:
    if _is_pillow(picture) and picture.mode not in ("L", "RGB"):
        grey = picture.mode in ("1", "LA") or picture.mode.startswith(("I", "F"))
        deep = picture.mode.startswith(("I", "F"))
        picture = picture if deep else picture.convert("L" if grey else "RGB")
    return np.asarray(picture)


def _row(sample: Any) -> Mapping[str, Any]:
    if isinstance(sample, Mapping):
        return sample
    return {f"x{place}": value for place, value in enumerate(np.asarray(sample).ravel().tolist())}


def _label(sample: Any, name: str, origin: str) -> Any:
    if name == LABEL and isinstance(sample, Sequence) and len(sample) == 2:
        return sample[1]
    if isinstance(sample, Mapping) and name in sample:
        return "" if sample[name] is None else sample[name]
    raise DataError(f"{origin}: no field {name!r} in a sample; name one of its fields, or {LABEL!r} of pairs")
