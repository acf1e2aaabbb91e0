"""memae score: a score, a p-value and a verdict for each sample."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from memae.cli.options import Device, Drop, Model, Quiet, Source, check_device, check_output

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
    drop: Drop = None,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Score every sample of SOURCE: one row each, in order, with its path or row number.

    Columns: key, score (higher = more anomalous), p_value (how rarely a normal sample scores so high), is_anomaly.

        memae score flows.model today.csv --out scores.csv
    """
    from memae.detector import Detector
    from memae.report.rows import write_verdicts

    if out:
        check_output(out, (".csv", ".parquet", ".jsonl"))
    detector = Detector.load(model, device=check_device(device))
    total, flagged = write_verdicts(detector.stream(detector.open(source).without(drop or ())), out)
    if not quiet:
        share = flagged / total
        typer.echo(
            f"{total:,} samples, {flagged:,} anomalies ({share:.2%}) above score {detector.threshold.value:.6g}"
            + (f"; {out}" if out else ""),
            err=True,
        )
