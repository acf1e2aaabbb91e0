"""memae score: a score, a p-value and a verdict for each sample."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memae.cli.options import Device, Drop, Model, Quiet, Source, check_device, check_output

if TYPE_CHECKING:
    from memae.detector import Verdicts

__all__ = ["score"]


def score(
    model: Model,
    source: Source,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help=".csv, .parquet or .jsonl; left out, CSV on stdout.",
            show_default=False,
        ),
    ] = None,
    explain: Annotated[
        Path | None,
        typer.Option(
            "--explain",
            metavar="FILE.jsonl",
            help="Also write why, one line an anomaly: the items that rebuilt it, and for a table each column as "
            "seen and as expected, most surprising first.",
            show_default=False,
        ),
    ] = None,
    drop: Drop = None,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Score every sample of SOURCE: one row each, in order, with its path or row number.

    Columns: key, score (higher = more anomalous), p_value (how rarely a normal sample scores so high), is_anomaly.

        memae score flows.model today.csv --out scores.csv
    """
    from memae.detector import Detector
    from memae.report.rows import write_explanations, write_verdicts

    if out:
        check_output(out, (".csv", ".parquet", ".jsonl"))
    if explain:
        check_output(explain, (".jsonl",), "--explain")
    detector = Detector.load(model, device=check_device(device))
    opened = detector.open(source).without(drop or ())
    anomalies: list[Hashable] = []
    total, flagged = write_verdicts(_noted(detector.stream(opened), anomalies), out)
    if explain:
        write_explanations(detector.explain(opened, anomalies), explain)
    if not quiet:
        share = flagged / total
        typer.echo(
            f"{total:,} samples, {flagged:,} anomalies ({share:.2%}) above score {detector.threshold.value:.6g}"
            + (f"; {out}" if out else ""),
            err=True,
        )


def _noted(parts: Iterator[Verdicts], anomalies: list[Hashable]) -> Iterator[Verdicts]:
    """The same chunks; the keys of the anomalies in them are added to the list on the way."""
    for part in parts:
        anomalies += [part.keys[row] for row in part.is_anomaly.nonzero()[0].tolist()]
        yield part
