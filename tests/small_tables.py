"""The schema of rows that are held in memory."""

from collections.abc import Mapping, Sequence

from memae.table.config import NumberScale
from memae.table.fit_schema import TableSummary, survey
from memae.table.schema import TablePreprocess
from memae.table.source import Table


def fit_table(
    table: Table,
    scale: NumberScale,
    *,
    dropped: Sequence[str] = (),
    categorical: Sequence[str] = (),
    missing: Mapping[str, float] | None = None,
) -> TablePreprocess:
    """The schema of training rows; `missing` is the share of missing values by column, None takes it from them."""
    summary = TableSummary(scale, categorical)
    summary.add(table)
    return summary.preprocess(table.origin, dropped, survey([table]).missing if missing is None else missing)
