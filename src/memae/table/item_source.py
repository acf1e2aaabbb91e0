"""Rows of any object that gives them by number, such as a data set of Hugging Face or of torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import pyarrow as pa

from memae.errors import DataError, first_line
from memae.modality.items import Items
from memae.progress import Count
from memae.table.source import ColumnSource

__all__ = ["ItemRows"]

ROWS = 10_000  # at most, made into a table at a time


class ItemRows(ColumnSource):
    """The rows; the key of each is its number. A first pass over all finds the types of the columns.

    Raises:
        DataError: rows that lack a column, or a column of several types.
    """

    def __init__(self, items: Items) -> None:
        self._items, self.origin = items, items.origin
        self._keys = range(len(items))
        try:
            self._schema = pa.unify_schemas(
                [table.schema for table in self._tables(None)], promote_options="permissive"
            )
        except (pa.ArrowException, TypeError) as error:
            raise DataError(
                f"{self.origin}: a column mixes types ({first_line(error)}); give each column one type"
            ) from None
        self._names = self._schema.names

    def count(self) -> Count:
        """How many rows."""
        return self._items.count()

    def _read(self, names: Sequence[str], size: int) -> Iterator[pa.Table]:
        return (table.select(names) for table in self._tables(self._schema))

    def _tables(self, schema: pa.Schema | None) -> Iterator[pa.Table]:
        samples = self._items.samples()
        while rows := list(islice(samples, ROWS)):
            yield pa.Table.from_pylist(rows, schema)
