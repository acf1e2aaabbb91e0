"""Prepares normal rows for training: the schema fitted to the training part, and three parts of encoded rows.

Three passes over the rows find what the columns hold, fit the scales to the training part, and encode. The first pass
keeps the rows in memory; where they are too many, each pass reads the source again, and the encoded rows lie in a file.
Both ways give the same parts, the same schema and the same rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import torch
from torch import Tensor

from memae.config import Config
from memae.errors import ConfigError, DataError
from memae.modality import FitOptions, Prepared
from memae.progress import Progress, stage
from memae.table.config import TableConfig
from memae.table.csv import CsvSource
from memae.table.dataset import Rows
from memae.table.fit_schema import TableSummary, check_varied, hints, survey
from memae.table.schema import TablePreprocess
from memae.table.source import Table
from memae.training.split import counted, split
from memae.types import Encoded, Skipped, Source, count

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
    if isinstance(source, CsvSource):
        source = source.as_text(categorical)
    streamed = _is_large(source) if options.stream is None else options.stream
    once = settings.duplicates == "drop"
    if streamed and once:
        raise ConfigError(
            f"{source.origin}: table.duplicates = 'drop' compares all rows with each other, and these do not fit "
            "into memory; set it to 'keep', or remove equal rows first"
        )
    rows = _Rows(source, streamed, progress)
    missing = survey(rows.first_pass(), categorical)
    readable = rows.readable()
    train, validation, calibration = (readable[part] for part in split(len(readable), config, seed, source.origin))
    if once:  # early stopping should weigh rows as the training does
        train, validation = rows.each_once(train), rows.each_once(validation)
    summary = TableSummary(settings.number_scale, categorical)
    for table in rows.training_part(train):
        summary.add(table)
    preprocess = summary.preprocess(source.origin, options.dropped, missing)
    check_varied(preprocess, source.origin)
    parts = rows.encoded(preprocess, (train, validation, calibration))
    return Prepared(
        preprocess=preprocess,
        training=parts[0],
        whole=parts[0],
        validation=parts[1] if len(validation) else None,
        calibration=parts[2],
        counts=counted(len(train), len(validation), len(calibration)),
        origin=source.origin,
        skipped=tuple(rows.skipped.values()),
        notes=(*getattr(source, "notes", ()), *hints(preprocess)),
    )


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
