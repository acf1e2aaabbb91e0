"""The scoring of rows as one graph: from numbers and codes of categories to scores and the errors of columns.

Outside remain names and texts: which column is which number, and at which place of its list a category stands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor, nn

from memae.modality import Artifact, Layout, Port, Request, ScoringGraph, above
from memae.table.schema import Column, TablePreprocess, category_texts, numbers
from memae.table.scoring import predict, scorer_of
from memae.table.source import Table, TableSource
from memae.types import FAR

__all__ = ["RowEncoder", "numbers_and_codes", "scoring_graph"]

GOLDEN_ROWS = 4
UNSEEN_TEXT = "a value that no training row had"


class RowEncoder(nn.Module):
    """`TablePreprocess.encode` from numbers (S, n) float64 and codes (S, k) int64, in the order of the columns.

    A number that is missing is NaN; where none was in training, the mean stands for it. The code of a category is its
    place in the list of its column; any other code means one that training did not have.
    """

    log: Tensor
    centre: Tensor
    spread: Tensor
    never_missing: Tensor
    marked: Tensor
    unseen: Tensor
    code_of: Tensor
    place: Tensor
    order: Tensor

    def __init__(self, preprocess: TablePreprocess) -> None:
        super().__init__()
        numbers = [column for column in preprocess.columns if column.kind == "number"]
        others = [column for column in preprocess.columns if column.kind != "number"]
        self.has_logs, self.clip = any(column.log for column in numbers), FAR
        self._keep("log", [column.log for column in numbers], torch.bool)
        self._keep("centre", [column.centre for column in numbers], torch.float64)
        self._keep("spread", [column.spread for column in numbers], torch.float64)
        self._keep("never_missing", [not column.missing for column in numbers], torch.bool)
        self._keep("marked", [row for row, column in enumerate(numbers) if column.missing], torch.int64)
        self._keep("unseen", [len(column.categories) for column in others], torch.int64)
        self._keep("code_of", [row for row, column in enumerate(others) for _ in range(column.width)], torch.int64)
        self._keep("place", [place for column in others for place in range(column.width)], torch.int64)
        self._keep("order", _order(preprocess.columns), torch.int64)

    def _keep(self, name: str, values: Sequence[float], dtype: torch.dtype) -> None:
        self.register_buffer(name, torch.tensor(values, dtype=dtype), persistent=False)

    def forward(self, numbers: Tensor | None, codes: Tensor | None) -> tuple[Tensor, Tensor]:
        """(S, features) float32, and (S,) bool: rows with infinity although in training all was finite."""
        parts, bad = list[Tensor](), None  # a missing number is scaled to 0
        if numbers is not None:
            absent = ~numbers.isfinite()
            values = torch.where(absent, 0.0, numbers)
            if self.has_logs:
                values = torch.where(self.log, values.sign() * values.abs().log1p(), values)
            scaled = ((values - self.centre) / self.spread).clamp(-self.clip, self.clip)
            parts += [torch.where(absent, 0.0, scaled), absent[:, self.marked]]
            bad = (absent & ~numbers.isnan() & self.never_missing).any(dim=1)
        if codes is not None:
            known = (codes >= 0) & (codes < self.unseen)
            parts.append(torch.where(known, codes, self.unseen)[:, self.code_of] == self.place)
            bad = torch.zeros_like(codes[:, 0], dtype=torch.bool) if bad is None else bad
        assert bad is not None, "a table has a column"
        return torch.cat([part.float() for part in parts], dim=1)[:, self.order], bad


def _order(columns: Sequence[Column]) -> list[int]:
    """The place of each encoded feature among all scaled numbers, then all marks of missing ones, then all one-hots."""
    numbers = [column for column in columns if column.kind == "number"]
    number, mark = 0, len(numbers)
    hot, order = mark + sum(bool(column.missing) for column in numbers), list[int]()
    for column in columns:
        if column.kind != "number":
            order += range(hot, hot + column.width)
            hot += column.width
            continue
        order.append(number)
        number += 1
        if column.missing:
            order.append(mark)
            mark += 1
    return order


def numbers_and_codes(preprocess: TablePreprocess, table: Table) -> tuple[np.ndarray | None, np.ndarray | None]:
    """(S, n) float64 and (S, k) int64 of a table, as `RowEncoder` takes them; None where there are no such columns.

    Raises:
        DataError: a column of another type.
    """
    values, codes = [], []
    for column in preprocess.columns:
        if column.kind == "number":
            values.append(numbers(table, column))
        else:
            texts = category_texts(table, column)
            known = pc.index_in(texts, pa.array(column.categories))
            codes.append(pc.fill_null(known, len(column.categories)).to_numpy().astype(np.int64))
    return np.stack(values, axis=1) if values else None, np.stack(codes, axis=1) if codes else None


class RowGraph(nn.Module):
    """From numbers and codes, where there are such columns, to scores (S,), verdicts (S,) and errors (S, columns)."""

    def __init__(self, artifact: Artifact) -> None:
        super().__init__()
        self.model, self.encoder = artifact.model, RowEncoder(artifact.preprocess)
        self.preprocess: TablePreprocess = artifact.preprocess
        self.measure, self.threshold = scorer_of(artifact, "exporting", None).measure, artifact.threshold
        self.has_numbers = any(column.kind == "number" for column in self.preprocess.columns)

    def forward(self, first: Tensor, second: Tensor | None = None) -> tuple[Tensor, ...]:
        """Scores the rows; a row that the library would call bad has the score NaN."""
        x, bad = self.encoder(first, second) if self.has_numbers else self.encoder(None, first)
        measured = self.measure(x, self.model(x))
        scores = torch.where(bad, torch.nan, measured.device_scores)
        columns = self.preprocess.sum_columns(measured.errors) / measured.errors.shape[1]
        return scores, above(scores, self.threshold), columns


def scoring_graph(artifact: Artifact, layout: Layout) -> ScoringGraph:
    """The scoring of a model of tables; see `memae.modality.Modality.scoring_graph`."""
    artifact = replace(artifact, preprocess=_plain(artifact.preprocess))
    preprocess: TablePreprocess = artifact.preprocess
    rows = _golden_rows(preprocess)
    table = Table(_arrow(preprocess, rows), range(len(rows)), "the golden rows")
    numbers, codes = numbers_and_codes(preprocess, table)
    ports, golden = [], []
    if numbers is not None:
        said = "the numbers of a row in the units of their columns; NaN is a missing one"
        ports.append(Port("numbers", ("batch", numbers.shape[1]), said))
        golden.append(numbers)
    if codes is not None:
        said = "the place of each category in the list of its column, from 0; any other number: not in the list"
        ports.append(Port("codes", ("batch", codes.shape[1]), said))
        golden.append(codes)
    source = TableSource(table.columns, table.keys, table.origin)
    found = list(predict(artifact, source, Request(), lambda *_: None, None))
    return ScoringGraph(
        RowGraph(artifact).eval(),
        tuple(ports),
        (
            Port("score", ("batch",), "higher is more anomalous; NaN: a bad row"),
            Port("is_anomaly", ("batch",), "the score is above the threshold"),
            Port("column_errors", ("batch", len(preprocess.columns)), "the part of each column in the score"),
        ),
        tuple(golden),
        np.concatenate([part.scores for part in found]),
        {"columns": [_described(column) for column in preprocess.columns], "left_out": list(preprocess.dropped)},
        rows,
    )


def _plain(preprocess: TablePreprocess) -> TablePreprocess:
    """The same columns, where a reader has made numbers and categories of written numbers and of times."""
    plain = {"of": "", "part": "", "written": None}
    return preprocess.model_copy(
        update={"columns": tuple(column.model_copy(update=plain) for column in preprocess.columns)}
    )


def _described(column: Column) -> Mapping[str, object]:
    if column.kind == "number":
        return {"name": column.name, "kind": "number", "may_be_missing": bool(column.missing)}
    return {"name": column.name, "kind": column.kind, "categories": list(column.categories)}


def _golden_rows(preprocess: TablePreprocess) -> list[dict[str, float | str | bool | None]]:
    """Rows around the middle of training; the last has categories that training did not have, and lacks numbers."""
    generator = np.random.default_rng(0)
    rows: list[dict[str, float | str | bool | None]] = [{} for _ in range(GOLDEN_ROWS)]
    for column in preprocess.columns:
        scaled = np.zeros(GOLDEN_ROWS) if column.constant else generator.normal(size=GOLDEN_ROWS).round(2)
        values = column.own_units(scaled).tolist()
        for row, number in enumerate(values):
            last = row == GOLDEN_ROWS - 1
            if column.kind == "number":
                rows[row][column.name] = None if last and column.missing else number
            elif last and column.kind == "category":
                rows[row][column.name] = UNSEEN_TEXT
            else:
                rows[row][column.name] = _category(column, row)
    return rows


def _category(column: Column, row: int) -> str | bool | None:
    known = [category for category in column.categories if category]
    if not known:
        return None
    text = known[row % len(known)]
    return text == "true" if column.kind == "boolean" else text


def _arrow(preprocess: TablePreprocess, rows: Sequence[Mapping[str, object]]) -> pa.Table:
    types = {"number": pa.float64(), "category": pa.string(), "boolean": pa.bool_()}
    return pa.table(
        {
            column.name: pa.array([row[column.name] for row in rows], types[column.kind])
            for column in preprocess.columns
        }
    )
