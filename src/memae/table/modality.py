"""Tables: CSV, Parquet and frames in, scores and the columns behind them out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from memae.autoencoder import Autoencoder
from memae.config import Config
from memae.errors import ConfigError, DataError
from memae.memory.base import widening
from memae.memory.build import memory_of
from memae.modality import Artifact, Description, Modality, SampleTensor
from memae.modality.items import Items
from memae.table.config import NETWORKS, NUM_ITEMS, TableConfig, preset, widths_of
from memae.table.csv import CsvSource
from memae.table.evaluate import evaluate
from memae.table.files import ArrowSource, FileSource, ParquetSource
from memae.table.graph import scoring_graph
from memae.table.importance import column_shares
from memae.table.item_source import ItemRows
from memae.table.networks import fully_connected
from memae.table.piped import Spooled, is_stream
from memae.table.prepare import prepare
from memae.table.schema import ColumnKind, TablePreprocess
from memae.table.scoring import calibrate, examine, made_up, normal_scores, predict
from memae.table.several import FilesSource, called, find_tables, means_tables
from memae.table.source import (
    TABLE_SUFFIXES,
    ColumnSource,
    Table,
    TableSource,
    from_array,
    from_frame,
    is_csv,
    is_frame,
    shown,
)
from memae.types import Source

__all__ = ["MODALITY", "TableModality"]

DTYPES: Mapping[str, Any] = {"number": np.float64, "category": np.object_, "boolean": np.bool_}


class TableModality(Modality):
    """Rows of named columns that do not depend on each other."""

    name = "table"
    unit = "rows"
    this = "this is a table"
    files = ", ".join(TABLE_SUFFIXES)
    Settings, Preprocess = TableConfig, TablePreprocess
    networks = NETWORKS
    small_step = 100_000_000  # about the multiply-adds of a step forward; a convolution works at many places
    in_place_of = {"maps": "a table has `explain`"}  # noqa: RUF012  constant, of the base a ClassVar
    open_options = frozenset({"columns"})
    evaluate_options = frozenset({"label_column", "normal", "group"})

    # each is explained where it is written
    preset = staticmethod(preset)
    prepare = staticmethod(prepare)
    examine = staticmethod(examine)
    normal_scores = staticmethod(normal_scores)
    calibrate = staticmethod(calibrate)
    column_shares = staticmethod(column_shares)
    predict = staticmethod(predict)
    evaluate = staticmethod(evaluate)
    made_up = staticmethod(made_up)
    scoring_graph = staticmethod(scoring_graph)

    def accepts(self, x: Any, wanted: bool) -> bool:
        """CSV, Parquet and Arrow files by their suffix, several of them, streams, frames, and arrays of two axes."""
        if isinstance(x, Path):
            return means_tables(x)
        if isinstance(x, list):
            return all(means_tables(path) for path in x)
        if isinstance(x, np.ndarray):
            return x.ndim == 2
        return (
            isinstance(x, Table | pa.Table)
            or is_frame(x)
            or is_stream(x)
            or (isinstance(x, Items) and not x.are_pictures)
        )

    def open(
        self, x: Any, preprocess: TablePreprocess | None, *, origin: str, skip_bad: bool, **options: Any
    ) -> Source:
        """See `Modality.open`; the option `columns` names the columns of a CSV file without a header."""
        columns = options.get("columns", ())
        source: ColumnSource
        if is_stream(x):
            spooled = Spooled(x)
            source = _open_csv(spooled.path, preprocess, columns, spooled.name)
            source.keep(spooled)
        elif isinstance(x, Path | list):
            source = _open_files(x if isinstance(x, list) else [x], preprocess, columns)
        elif columns:
            raise ConfigError(f"{origin}: `columns` names those of a CSV file without a header; leave it out")
        elif isinstance(x, np.ndarray):
            source = from_array(x, origin)
        elif isinstance(x, Items):
            source = ItemRows(x)
        elif isinstance(x, Table):
            source = TableSource(x.columns, x.keys, x.origin)
        elif isinstance(x, pa.Table):
            source = TableSource(x, range(x.num_rows), "the Arrow table")
        else:
            source = from_frame(x)
        return source.skipping() if skip_bad else source

    def build(self, config: Config, shape: tuple[int, ...], samples: int | None = None) -> Autoencoder:
        """A fresh model for rows (features,)."""
        widths = (shape[0], *widths_of(config.network, shape[0]))
        memory = memory_of(config, widths[-1], NUM_ITEMS[config.network], samples)
        encoder = fully_connected(widths)  # first: a seed then gives the weights that it always gave
        return Autoencoder(encoder, memory, fully_connected((widths[-1] * widening(memory), *widths[-2::-1])))

    def tensors(self, artifact: Artifact) -> tuple[SampleTensor, ...]:
        """One array for each column."""
        return tuple(SampleTensor(column.name, DTYPES[column.kind]) for column in artifact.preprocess.columns)

    def from_tensors(self, artifact: Artifact, given: Mapping[str, np.ndarray]) -> pa.Table:
        """The rows of these columns, each (S,) or (S, 1)."""
        own = {one.name: one.dtype for one in self.tensors(artifact)}
        for name in given:
            if name not in own:
                raise DataError(f"no column {name!r}; the model has {shown(list(own))}")
        return pa.table({name: _column(name, given[name], own[name]) for name in own if name in given})

    def decode_items(self, artifact: Artifact) -> tuple[None, list[dict[str, float | str]]]:
        """The memory items decoded into rows, in the units of the columns."""
        model = artifact.model
        rows = model.decoder(model.items_alone(artifact.preprocess.shape)).cpu().numpy()
        return None, self.readable_rows(artifact, rows)

    def readable_rows(self, artifact: Artifact, rows: np.ndarray) -> list[dict[str, float | str]]:
        """Encoded rows in the units of the columns."""
        preprocess = artifact.preprocess
        names = [column.name for column in preprocess.columns]
        found = preprocess.readable(torch.from_numpy(rows))
        return [dict(zip(names, row, strict=True)) for row in found]

    def describe(self, artifact: Artifact) -> Description:
        """Describes the columns by kind, and the rule of each."""
        preprocess = artifact.preprocess
        kinds = [column.kind for column in preprocess.columns]
        counts = ", ".join(
            f"{kinds.count(kind)} {kind}" for kind in ("number", "category", "boolean") if kind in kinds
        )
        dropped = f"; dropped: {', '.join(preprocess.dropped)}" if preprocess.dropped else ""
        shares = artifact.facts.get("column_shares", {})  # models of earlier versions have none
        columns = [
            {**column.model_dump(), "rule": column.rule, "share": shares.get(column.name)}
            for column in preprocess.columns
        ]
        return Description(f"tables of {len(kinds)} columns ({counts}){dropped}", columns=columns)


def _column(name: str, values: np.ndarray, dtype: Any) -> pa.Array:
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise DataError(f"column {name!r} has the shape {list(values.shape)}; give one value for each row")
    # one type for numbers of any width, so that rows of several clients can be scored together
    return pa.array(values.astype(dtype) if dtype is np.float64 and values.dtype.kind in "iuf" else values)


def _open_files(paths: list[Path], preprocess: TablePreprocess | None, columns: Sequence[str]) -> ColumnSource:
    if len(paths) == 1 and paths[0].is_file():
        return _open_file(paths[0], preprocess, columns)
    files = find_tables(paths)
    sources = [_open_file(file.path, preprocess, columns) for file in files]
    return FilesSource(sources, [file.key for file in files], called(paths, len(files)))


def _open_file(path: Path, preprocess: TablePreprocess | None, columns: Sequence[str]) -> CsvSource | FileSource:
    name = path.name.lower()
    if is_csv(path):
        return _open_csv(path, preprocess, columns, str(path))
    if columns:
        raise ConfigError(f"{path}: `columns` names those of a CSV file without a header; leave it out")
    _check_not_empty(path, str(path))
    return ParquetSource(path) if name.endswith(".parquet") else ArrowSource(path)


def _open_csv(path: Path, preprocess: TablePreprocess | None, columns: Sequence[str], origin: str) -> CsvSource:
    _check_not_empty(path, origin)
    kinds = {} if preprocess is None else _kinds(preprocess)
    return CsvSource(path, kinds, columns, origin=origin)


def _kinds(preprocess: TablePreprocess) -> dict[str, ColumnKind]:
    """What the columns of a file hold; written numbers and times are texts there."""
    return {
        column.source: "category" if column.part or column.written else column.kind
        for column in preprocess.columns
    }


def _check_not_empty(path: Path, origin: str) -> None:
    if path.stat().st_size == 0:
        raise DataError(f"{origin}: the file is empty; check how it was written")


MODALITY = TableModality()
