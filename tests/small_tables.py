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
    dates: bool = False,
) -> TablePreprocess:
    """The schema of training rows; `missing` is the share of missing values by column, None takes it from them."""
    found = survey([table], categorical)
    written = {name: numbers.found for name, numbers in found.written.items() if numbers.found}
    summary = TableSummary(scale, categorical, written, dates=dates)
    summary.add(table)
    return summary.preprocess(table.origin, dropped, found.missing if missing is None else missing)
