"""memae evaluate: hold a model against labels."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from memae.cli.options import Device, Drop, Json, Model, Source, check_device

__all__ = ["evaluate"]


def evaluate(
    model: Model,
    source: Source,
    label_column: Annotated[
        str,
        typer.Option(
            "--label-column",
            metavar="NAME",
            help="The column of the label; for an npz file the array; for images in one folder per label: folder; "
            "for MNIST idx files, whose labels lie beside them: label.",
        ),
    ],
    normal: Annotated[
        list[str],
        typer.Option("--normal", metavar="VALUE", help="The label that means normal; may be given again."),
    ],
    drop: Drop = None,
    json: Json = False,
    device: Device = "auto",
) -> None:
    """Measure how well MODEL tells normal samples of SOURCE from the others, with 95 % bootstrap intervals.

    AUROC and AUPR judge the scores; precision, recall, F1 and the false-alarm rate judge the model's own
    threshold, which was set without any label.

        memae evaluate flows.model labelled.csv --label-column label --normal benign
    """
    from memae.detector import Detector
    from memae.evaluate import anomaly_labels
    from memae.evaluate import evaluate as measure

    detector = Detector.load(model, device=check_device(device))
    opened = detector.open(source)
    labels = anomaly_labels(opened.labels(label_column), normal, source)
    verdicts = detector.detect(opened.without((label_column, *(drop or ()))))
    result = measure(
        labels,
        verdicts.scores,
        verdicts.is_anomaly,
        wanted_false_alarm_rate=detector.threshold.false_alarm_rate,
    )
    if json:
        import dataclasses
        import json as json_module

        typer.echo(json_module.dumps(dataclasses.asdict(result)))
    else:
        _print(result)


def _print(result: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{result.samples:,} samples, {result.anomalies:,} anomalies", title_justify="left")
    for column, justify in (("figure", "left"), ("value", "right"), ("95 % interval", "right")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    names = {
        "auroc": "AUROC",
        "aupr": "AUPR",
        "precision": "precision",
        "recall": "recall",
        "f1": "F1",
        "false_alarm_rate": f"false-alarm rate (wanted {result.wanted_false_alarm_rate:.3g})",
    }
    for field, name in names.items():
        estimate = getattr(result, field)
        table.add_row(name, f"{estimate.value:.4f}", f"{estimate.low:.4f} to {estimate.high:.4f}")
    Console().print(table)
