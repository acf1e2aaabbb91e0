"""Which columns carry the scores of the flagged rows that a report shows, taken together."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from memae.report.page.markup import Markup, name, tag
from memae.report.page.sections import table
from memae.types import Cell

__all__ = ["ColumnShares"]

MOST = 20  # columns of the table


class ColumnShares:
    """The share of each column in the score, as a mean over rows that are added one by one."""

    def __init__(self) -> None:
        self._rows = 0
        self._shares: dict[str, float] = defaultdict(float)
        self._largest: Counter[str] = Counter()

    def __len__(self) -> int:
        """How many rows were added."""
        return self._rows

    def add(self, cells: Sequence[Cell]) -> None:
        """Adds a row by its cells, the largest error first; a row without an error says nothing of columns."""
        total = sum(cell.error for cell in cells)
        if not total > 0:
            return
        self._rows += 1
        self._largest[cells[0].column] += 1
        for cell in cells:
            self._shares[cell.column] += cell.error / total

    def table(
        self, all_rows: Mapping[str, float] | None = None, normal: Mapping[str, float] | None = None
    ) -> Markup | None:
        """The columns by their mean share in the flagged rows; None if no row was added.

        Args:
            all_rows: their shares in the error of all rows of the source together.
            normal: the same of the held-out normal rows of the training.
        """
        if not self._rows:
            return None
        order = sorted(self._shares, key=lambda column: -self._shares[column])
        others = [(title, known) for title, known in (("all rows", all_rows), ("normal rows", normal)) if known]
        rows = [
            (
                name(column),
                f"{self._shares[column] / self._rows:.1%}",
                f"{self._largest[column]:,}",
                *(f"{known[column]:.1%}" if column in known else "-" for _, known in others),
            )
            for column in order[:MOST]
        ]
        heads = (
            "column",
            "flagged rows",
            "largest in",
            *(title for title, _ in others),
        )
        of = f"share of each column in the error: mean over the {self._rows:,} flagged rows that are shown"
        sums = ", and of the errors together of " + " and of ".join(title for title, _ in others) if others else ""
        made = table(of + sums, heads, rows)
        left = len(order) - len(rows)
        more = tag("p", f"{left:,} more columns have smaller shares.") if left else None
        return tag("div", made, more)
