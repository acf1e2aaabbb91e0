"""Normal rows, made ready for a training: the schema fitted to the training part, and three parts of encoded rows.

The rows are gone over three times: for what their columns hold, for the scales of the training part, and to encode
them. They are kept in memory after the first pass; where there are too many, each pass reads the source again, and the
encoded rows lie in a file. Both ways give the same parts, the same schema and the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import numpy as np
import psutil
import pyarrow as pa
import torch
from torch import Tensor

from memae.config import Config
from memae.counts import count
from memae.encoded import Encoded
from memae.errors import ConfigError, DataError
from memae.stages import Watcher, stage
from memae.table.csv import CsvSource
from memae.table.dataset import Rows
from memae.table.fit_schema import TableSummary, check_varied, hints, survey
from memae.table.schema import TablePreprocess
from memae.types import Samples, Skipped, Table

__all__ = ["PreparedTable", "prepare"]

CHUNK_ROWS = 65_536  # read, summed up and encoded at a time
# Of the machine's memory that the rows may take: the columns, the encoded rows and the parts of these are there at the
# same time, and categories make them wider.
STREAMED_SHARE = 1 / 8

Split: TypeAlias = Callable[[int], tuple[Tensor, Tensor, Tensor]]
"""From a number of samples to the indices of those that train, validate and calibrate."""


class RowSource(Protocol):
    """Rows in chunks, each time from the start."""

    origin: str

    def chunks(self, size: int) -> Iterator[Samples]:
        """At most `size` rows at a time, in order."""
        ...


@dataclass(frozen=True)
class PreparedTable:
    """Normal rows in three disjoint parts, each (S, features) float32."""

    preprocess: TablePreprocess
    training: Encoded
    validation: Encoded | None
    """Stops the training; None for a share of 0."""
    calibration: Encoded
    """Sets the threshold."""
    counts: dict[str, int]
    """Rows of each part."""
    origin: str
    skipped: tuple[Skipped, ...] = ()
    """Bad rows that the source was asked to leave out."""
    notes: tuple[str, ...] = ()
    """What the owner of the data should know."""


def prepare(
    source: RowSource,
    config: Config,
    split: Split,
    dropped: Sequence[str] = (),
    categorical: Sequence[str] = (),
    *,
    stream: bool | None = None,
    watcher: Watcher | None = None,
) -> PreparedTable:
    """All rows of a source in three parts, encoded by the schema of the training part.

    Args:
        source: the rows.
        config: of the training.
        split: chooses the parts.
        dropped: columns that were left out of `source` and may be there when the model scores.
        categorical: columns of numbers that name categories, such as codes and ports.
        stream: read the source in every pass and keep the encoded rows in a file; None decides by the size.
        watcher: told how far the reading, fitting and encoding are.

    Raises:
        DataError: rows that cannot be used, or too few.
        ConfigError: equal rows are to be dropped from a stream, or what `split` raises.
    """
    streamed = _is_large(source) if stream is None else stream
    once = config.preprocess.duplicates == "drop"
    if streamed and once:
        raise ConfigError(
            f"{source.origin}: preprocess.duplicates = 'drop' compares all rows with each other, and these do not fit "
            "into memory; set it to 'keep', or remove equal rows first"
        )
    rows = _Rows(source.typed() if streamed and isinstance(source, CsvSource) else source, streamed, watcher)
    missing = survey(rows.first_pass(), categorical)
    readable = rows.readable()
    train, validation, calibration = (readable[part] for part in split(len(readable)))
    if once:  # early stopping should weigh rows as the training does
        train, validation = rows.each_once(train), rows.each_once(validation)
    summary = TableSummary(config.preprocess.number_scale, categorical)
    for table in rows.training_part(train):
        summary.add(table)
    preprocess = summary.preprocess(source.origin, dropped, missing)
    check_varied(preprocess, source.origin)
    parts = rows.encoded(preprocess, (train, validation, calibration))
    return PreparedTable(
        preprocess=preprocess,
        training=parts[0],
        validation=parts[1] if len(validation) else None,
        calibration=parts[2],
        counts={"training": len(train), "held_out": len(validation), "calibration": len(calibration)},
        origin=source.origin,
        skipped=tuple(rows.skipped.values()),
        notes=(*getattr(source, "notes", ()), *hints(preprocess)),
    )


def _is_large(source: RowSource) -> bool:
    return bool(getattr(source, "size_bytes", 0) > STREAMED_SHARE * psutil.virtual_memory().total)


@dataclass
class _Rows:
    """The passes over the rows of a source."""

    source: RowSource
    streamed: bool
    watcher: Watcher | None
    count: int = 0
    skipped: dict[int, Skipped] = field(default_factory=dict)
    """Bad rows by their number."""
    _kept: list[Table] = field(default_factory=list)

    def first_pass(self) -> Iterator[Table]:
        """The rows without the bad ones, which are counted and noted."""
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
        """The rows of a part (B,) that equal no row of it before them, in order."""
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
        with stage(self.watcher, doing, "rows", self.count or count(self.source)) as done:
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
