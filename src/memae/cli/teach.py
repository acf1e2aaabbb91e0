"""memae teach: tell a finished model what is normal, too."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from memae.cli import options
from memae.cli.console import print_json
from memae.cli.options import option

__all__ = ["teach"]


def teach(
    model: options.Model,
    normal: Annotated[
        str | None,
        typer.Argument(metavar="[NORMAL]", help="Normal samples, such as false alarms.", show_default=False),
    ] = None,
    old: Annotated[
        str | None,
        option(
            "--old SOURCE",
            "Normal samples of the kinds that MODEL knows, which did not train it. Default: those that it kept at fit.",
        ),
    ] = None,
    anomalies: Annotated[
        str | None, option("--anomalies SOURCE", "Anomalies that must still be found afterwards.")
    ] = None,
    most_items: Annotated[int, option("--most-items N", "New items, at most.")] = 100,
    most_lost: Annotated[
        float, option("--most-lost SHARE", "Share of made-up or given anomalies that may be lost.")
    ] = 0.05,
    most_shift: Annotated[
        float,
        option("--most-shift SHARE", "By which the threshold may rise and the median of normal scores may move."),
    ] = 0.1,
    undo: Annotated[
        bool, typer.Option("--undo", help="Take back the last teaching that is not undone yet.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Teach the memory of MODEL that the samples of NORMAL are normal, without a new training.

    What was flagged becomes items of the memory. The threshold is set anew, from held-out samples of the training and
    from those of NORMAL that became no item. What would blind the model is refused. The model logs each teaching, and
    --undo takes it back. See docs/teach.md.

        memae teach parts.model false-alarms/ --anomalies scratches/
    """
    from memae.detector import Detector
    from memae.errors import ConfigError
    from memae.teach import Limits

    if (normal is None) != undo:
        raise ConfigError("give either the samples to teach, or --undo")
    detector = Detector.load(model, device="cpu", engine="torch")
    if undo:
        detector.undo_teaching()
    else:
        limits = Limits(most_items, most_lost, most_shift)
        detector.teach(normal, old=old, anomalies=anomalies, limits=limits)
    detector.save(model)
    if json:
        print_json({"teachings": detector.facts["teachings"], "threshold": detector.threshold.facts})
    elif undo:
        counts = detector.memory.counts if detector.memory else None
        typer.echo(f"undone; threshold: score {detector.threshold.value:.6g}; memory: {counts and counts.line}")
    else:
        _print(detector)


def _print(detector: Any) -> None:
    """What changed, before and after."""
    from rich.console import Console
    from rich.table import Table

    from memae.teachings import LOG, Teaching

    done = Teaching.model_validate(detector.facts[LOG][-1])
    wider = f", {done.widened:,} of them widened" if done.widened else ""
    typer.echo(f"taught {done.taught.samples:,} samples: {done.items:,} new items{wider}")
    table = Table("", "before", "after")
    for row in done.table:
        table.add_row(*row)
    Console(markup=False, emoji=False).print(table)
    if done.taught.after:
        typer.echo(
            f"note: {done.taught.after:,} of the taught samples are flagged still; raise --most-items, or train the "
            "model again with them"
        )
