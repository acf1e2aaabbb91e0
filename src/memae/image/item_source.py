"""Pictures of any object that gives them by number, such as a data set of Hugging Face or of torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from memae.errors import DataError
from memae.image.arrays import ArraySource, Images
from memae.modality.items import Items
from memae.progress import Count

__all__ = ["ItemPictures"]


class ItemPictures:
    """Pictures of one size; the key of each is its number."""

    modality: str = "image"

    def __init__(self, items: Items) -> None:
        self._items, self.origin = items, items.origin

    def count(self) -> Count:
        """How many."""
        return self._items.count()

    def chunks(self, size: int) -> Iterator[Images]:
        """At most `size` pictures at a time.

        Raises:
            DataError: pictures of several sizes, or of a shape that is none of a picture.
        """
        start, samples, first = 0, self._items.samples(), None
        while part := list(islice(samples, min(size, len(self._items)))):
            first = part[0].shape if first is None else first
            for place, picture in enumerate(part, start):
                if picture.shape != first:
                    shapes = " and ".join(" x ".join(map(str, shape)) for shape in (first, picture.shape))
                    raise DataError(
                        f"{self.origin}: pictures of {shapes} (sample {place}); resize all to one size"
                    )
            (images,) = ArraySource.of(np.stack(part), self.origin).chunks(len(part))
            yield Images(images.pixels, range(start, start + len(part)), self.origin)
            start += len(part)

    def labels(self, name: str) -> np.ndarray:
        """(S,) the values of a field as text."""
        return self._items.labels(name)

    def without(self, names: Sequence[str]) -> ItemPictures:
        """The same pictures: no other field counts."""
        return self
