"""What a notebook shows of a detector and of verdicts: plain HTML, in which all names are escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from memae.errors import printable

__all__ = ["facts_html", "table_html", "verdicts_html"]

SHOWN_ROWS = 10  # of verdicts, the worst first


def facts_html(title: str, facts: Mapping[str, object]) -> str:
    """A title and a table with one line for each fact."""
    return f"<div><strong>{_text(title)}</strong>{table_html((), facts.items())}</div>"


def table_html(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table of texts; the first cell of a row is its heading."""
    top = f"<thead><tr>{''.join(f'<th>{_text(name)}</th>' for name in head)}</tr></thead>" if head else ""
    lines = (
        f'<tr><th scope="row">{_text(first)}</th>{"".join(f"<td>{_text(cell)}</td>" for cell in rest)}</tr>'
        for first, *rest in rows
    )
    return f"<table>{top}<tbody>{''.join(lines)}</tbody></table>"


def verdicts_html(verdicts: Any) -> str:
    """How many samples and anomalies `memae.Verdicts` hold, and a table of the ten with the highest scores."""
    scores, skipped = verdicts.scores, len(verdicts.skipped)
    worst = np.argsort(-scores, kind="stable")[: min(SHOWN_ROWS, len(scores) - int(np.isnan(scores).sum()))]
    title = (
        f"{len(scores):,} samples, {int(verdicts.is_anomaly.sum()):,} anomalies above score {verdicts.threshold:.6g}"
        + (f", {skipped:,} skipped" if skipped else "")
    )
    rows: list[tuple[object, ...]] = [
        (
            verdicts.keys[row],
            f"{scores[row]:.6g}",
            f"{verdicts.p_values[row]:.3g}",
            "yes" if verdicts.is_anomaly[row] else "no",
        )
        for row in worst.tolist()
    ]
    head = ["key", "score", "p-value", "anomaly"]
    if (of := verdicts.categories) is not None:
        head.append("category")
        rows = [(*line, of.names[of.numbers[row]]) for line, row in zip(rows, worst.tolist(), strict=True)]
    table = table_html(head, rows) if rows else ""
    more = f"<p>the {len(rows)} highest scores of {len(scores):,}</p>" if len(rows) < len(scores) - skipped else ""
    return f"<div><strong>{_text(title)}</strong>{table}{more}</div>"


def _text(cell: object) -> str:
    """A cell that can neither become markup nor break the notebook's own JSON, which takes UTF-8 only."""
    return escape(printable(str(cell)).encode(errors="surrogateescape").decode(errors="backslashreplace"))
