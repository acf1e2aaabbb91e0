"""Prepares normal rows for training: the schema fitted to the training part, and three parts of encoded rows.

Three passes over the rows find what the columns hold, fit the scales to the training part, and encode. The first pass
keeps the rows in memory; where they are too many, each pass reads the source again, and the encoded rows lie in a file.
Both ways give the same parts, the same schema and the same rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import torch
from torch import Tensor

from memae.categories import GivenCategories, one_for_each
from memae.config import Config
from memae.errors import ConfigError, DataError
from memae.modality import FitOptions, Prepared
from memae.modality.groups import groups_of_values
from memae.progress import Progress, fold_name, stage, within
from memae.table.config import TableConfig
from memae.table.dataset import Rows
from memae.table.fit_schema import TableSummary, check_varied, survey
from memae.table.near_duplicates import COMPARED, SEEN, near_duplicate_note
from memae.table.notes import column_notes, written_notes
from memae.table.schema import TablePreprocess
from memae.table.source import ColumnSource, Table
from memae.training.split import Splits, counted, splits
from memae.types import Encoded, Key, Skipped, Source, count

__all__ = ["prepare"]

CHUNK_ROWS = 65_536  # read, summed up and encoded at a time
# Of the machine's memory that the rows may take: the columns, the encoded rows and the parts of these are there at the
# same time, and categories make them wider.
STREAMED_SHARE = 1 / 8


def prepare(source: Any, config: Config, seed: int, options: FitOptions, progress: Progress | None) -> Prepared:
    """All rows of a source in three parts, encoded by the schema of the training part.

    See `memae.modality.Modality.prepare`. `options.stream` reads the source in every pass and keeps the encoded rows in
    a file; None decides by the size.

    Raises:
        DataError: rows that cannot be used, or too few.
        ConfigError: a false-alarm rate that so few rows cannot promise, or equal rows are to be dropped from a stream.
    """
    settings, categorical = TableConfig.of(config), options.categorical
    beside = {str(name) for name in (options.group, options.category) if isinstance(name, str)}
    dropped = (*options.dropped, *sorted(beside))
    numbered = None if options.group is None else _groups(source, options)
    values = None if options.category is None else _categories(source, options)
    if beside:
        source = source.without(sorted(beside))
    if isinstance(source, ColumnSource):
        source = source.as_text(categorical)
    streamed = _is_large(source) if options.stream is None else options.stream
    once = settings.duplicates == "drop"
    if streamed and once:
        raise ConfigError(
            f"{source.origin}: table.duplicates = 'drop' compares all rows with each other, and these do not fit "
            "into memory; set it to 'keep', or remove equal rows first"
        )
    rows = _Rows(source, streamed, progress)
    found_in_all = survey(rows.first_pass(), categorical)
    written = {name: found.found for name, found in found_in_all.written.items() if found.found}
    readable = rows.readable()
    groups = None if numbered is None else numbered.checked(readable.numpy(), source.origin)
    categories = None
    if values is not None:
        column = options.category if isinstance(options.category, str) else None
        categories = GivenCategories.of(values[readable.numpy()], len(readable), source.origin, column)
    dealt = splits(len(readable), config, seed, source.origin, groups)

    def prepared(found: Splits, rows: _Rows) -> Prepared:
        train, validation, calibration = (readable[part] for part in found.whole)
        if once:  # early stopping should weigh rows as the training does
            train, validation = rows.each_once(train), rows.each_once(validation)
        summary = TableSummary(settings.number_scale, categorical, written, dates=settings.dates == "expand")
        for table in rows.training_part(train):
            summary.add(table)
        preprocess = summary.preprocess(source.origin, dropped, found_in_all.missing)
        check_varied(preprocess, source.origin)
        said = written_notes(found_in_all.written) + column_notes(
            preprocess, found_in_all.orders, found_in_all.rows
        )
        x = rows.encoded(preprocess, (train, validation, calibration))
        alike = _near_duplicates(found, x, (train, calibration), readable, grouped=groups is not None)
        return Prepared(
            preprocess=preprocess,
            training=x[0],
            whole=x[0],
            validation=x[1] if len(validation) else None,
            calibration=x[2],
            counts=counted(len(train), len(validation), found.counts["calibration"]),
            origin=source.origin,
            skipped=tuple(rows.skipped.values()),
            notes=(*getattr(source, "notes", ()), *found.notes, *alike, *said),
            key_of=lambda place: rows.key(int(train[place])),
            calibration_groups=None if groups is None else groups[found.whole.calibration.numpy()],
            groups=found.group_counts(groups),
            categories=categories and categories.take(np.searchsorted(readable.numpy(), train.numpy())),
            calibration_categories=categories and categories.numbers[found.whole.calibration.numpy()],
            folds=tuple(
                partial(prepared, Splits(fold), rows.within(fold_name(number, len(found.folds))))
                for number, fold in enumerate(found.folds, 1)
            ),
        )

    return prepared(dealt, rows)


@dataclass(frozen=True)
class _RowGroups:
    """The group of each row, bad ones among them."""

    numbers: np.ndarray
    """(S,) int64; -1 is no group."""
    column: str = ""

    def checked(self, rows: np.ndarray, origin: str) -> np.ndarray:
        """(B,) the groups of the rows of an index.

        Raises:
            DataError: a row has none.
        """
        found: np.ndarray = self.numbers[rows]
        if missing := int((found < 0).sum()):
            first = int(rows[(found < 0).argmax()])
            raise DataError(
                f"{origin}: the group column {self.column!r} has no value in {missing:,} rows, the first of them row "
                f"{first}; fill it in (a row that belongs to no other gets a value of its own), or remove these rows"
            )
        return found


def _groups(source: Any, options: FitOptions) -> _RowGroups:
    if not isinstance(options.group, str):
        samples = sum(len(table) for table in source.chunks(CHUNK_ROWS))
        return _RowGroups(groups_of_values(options.group or (), samples, source.origin))
    column = options.group
    if column in options.categorical:
        raise ConfigError(f"{source.origin}: column {column!r} is the group, and so no feature; name it once")
    if isinstance(source, ColumnSource):
        numbers, texts = source.numbered(column)
    else:
        texts, numbers = np.unique(source.labels(column), return_inverse=True)
    return _RowGroups(np.where(texts[numbers] == "", -1, numbers), column)


def _categories(source: Any, options: FitOptions) -> np.ndarray:
    """(S,) text or value: the category of each row, bad ones among them."""
    assert options.category is not None, "the caller has looked"
    if not isinstance(options.category, str):
        samples = sum(len(table) for table in source.chunks(CHUNK_ROWS))
        return one_for_each(options.category, samples, source.origin)
    if options.category in options.categorical:
        raise ConfigError(
            f"{source.origin}: column {options.category!r} is the category, and so no feature; name it once"
        )
    if isinstance(source, ColumnSource):
        numbers, texts = source.numbered(options.category)
        return np.asarray(texts[numbers])
    return np.asarray(source.labels(options.category))


def _near_duplicates(
    splits: Splits, x: Sequence[Encoded], rows: tuple[Tensor, Tensor], readable: Tensor, *, grouped: bool
) -> tuple[str, ...]:
    """A note on equal rows across the split, if there are many; with folds between the first of them and the others."""
    (training, _, held_out), (seen, held) = x, rows
    if splits.folds:
        inside = torch.isin(seen, readable[splits.folds[0].calibration])
        ours, others = torch.nonzero(inside).flatten(), torch.nonzero(~inside).flatten()
        held_out, held = training[ours[:COMPARED]], seen[ours]
        training, seen = training[others[:SEEN]], seen[others]
    note = near_duplicate_note(held_out, held, training, seen, grouped=grouped)
    return (note,) if note else ()


def _is_large(source: Source) -> bool:
    return bool(getattr(source, "size_bytes", 0) > STREAMED_SHARE * psutil.virtual_memory().total)


@dataclass
class _Rows:
    """The passes over the rows of a source."""

    source: Source
    streamed: bool
    progress: Progress | None
    count: int = 0
    skipped: dict[int, Skipped] = field(default_factory=dict)
    """Bad rows by their number."""
    _kept: list[Table] = field(default_factory=list)

    def within(self, place: str) -> _Rows:
        """The same rows, whose passes are told with a place before their names."""
        return replace(self, progress=within(self.progress, place))

    def first_pass(self) -> Iterator[Table]:
        """All good rows; bad rows are counted and recorded."""
        for table in self._pass("reading"):
            self.skipped |= {
                self.count + row: Skipped(table.keys[row], why) for row, why in table.unreadable.items()
            }
            self.count += len(table)
            if not self.streamed:
                self._kept.append(table)
            yield _chosen(table, ~_mask(len(table), list(table.unreadable))) if table.unreadable else table
        if not self.count:
            raise DataError(f"{self.source.origin}: holds no samples")
        if len(self.skipped) == self.count:
            first = next(iter(self.skipped.values())).reason
            raise DataError(f"{self.source.origin}: holds no sample that can be read; the first {first}")

    def readable(self) -> Tensor:
        """(S,) numbers of the rows that are not bad."""
        return torch.from_numpy(np.flatnonzero(~_mask(self.count, list(self.skipped))))

    def key(self, number: int) -> Key:
        """Of a row."""
        if isinstance(self.source, ColumnSource):
            return self.source.key(number)
        start = 0
        for table in self._kept:
            if number < start + len(table):
                return table.keys[number - start]
            start += len(table)
        return number

    def each_once(self, part: Tensor) -> Tensor:
        """The distinct rows of a part (B,): the first of each group of equal rows, in order."""
        rows = pa.concat_tables([table.columns for table in self._kept]).take(part.numpy())
        numbered = rows.append_column("", pa.array(np.arange(len(rows))))
        first = numbered.group_by(rows.column_names).aggregate([("", "min")])["_min"]
        return part[torch.from_numpy(np.sort(first.to_numpy()))]

    def training_part(self, train: Tensor) -> Iterator[Table]:
        """The rows of these numbers, in the order of the source."""
        trains, start = _mask(self.count, train.numpy()), 0
        for table in self._pass("fitting scales"):
            yield _chosen(table, trains[start : start + len(table)])
            start += len(table)

    def encoded(self, preprocess: TablePreprocess, parts: Sequence[Tensor]) -> list[Encoded]:
        """The rows of each part, encoded."""
        chunks = (preprocess.encode_rows(table).x for table in self._pass("encoding"))
        shape = (self.count, *preprocess.shape)
        if self.streamed:
            stored = Rows.write(chunks, shape, self.source.origin)
            return [stored.part(part) for part in parts]
        x, start = torch.empty(shape), 0
        for chunk in chunks:
            x[start : start + len(chunk)] = chunk
            start += len(chunk)
        return [x[part] for part in parts]

    def _pass(self, doing: str) -> Iterator[Table]:
        with stage(self.progress, doing, "rows", self.count or count(self.source)) as done:
            for table in self._kept or self.source.chunks(CHUNK_ROWS):
                assert isinstance(table, Table)
                yield table
                done(len(table))


def _mask(size: int, rows: Sequence[int] | np.ndarray) -> np.ndarray:
    """(size,) bool, True at `rows`."""
    mask = np.zeros(size, dtype=bool)
    mask[rows] = True
    return mask


def _chosen(table: Table, mask: np.ndarray) -> Table:
    columns = table.columns.filter(pa.array(mask))
    return Table(columns, range(len(columns)), table.origin)
