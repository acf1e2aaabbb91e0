"""memae inspect: look into a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from memae.cli import options
from memae.cli.console import print_json
from memae.cli.options import option
from memae.errors import printable

__all__ = ["inspect"]

SHOWN_ITEMS = 20
SHOWN_COLUMNS = 20


def inspect(
    model: options.Model,
    out: Annotated[
        Path | None,
        option(
            "--out/-o FILE.png",
            "Draw the memory items of a model of images or video into this file.",
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Show the data, training, threshold and memory of MODEL.

    For each column of a table it says how the column is read; see docs/tables-data.md. For each memory item it shows
    the usage count, duplicates, the decoded item, as an image or as a row in the columns' own units, and the training
    samples nearest to it: of video the footage. Pictures of both are in the file of --out.

        memae inspect parts.model --out items.png
    """
    from memae.detector import Detector

    if out:
        options.check_output(out, (".png",))
    detector = Detector.load(model, device="cpu")
    items = detector.items()
    if out:
        _draw(items, out)
    if json:
        print_json(_report(detector, items))
    else:
        _print(detector, items)


def _draw(items: Any, out: Path) -> None:
    from memae.errors import ConfigError
    from memae.plots.figures import draw_items

    if items is None or (items.pictures is None and items.sample_pictures is None):
        if items is None:
            what = "has no memory"
        else:
            what = "is of a table, whose items are rows" if items.rows else "has no pictures of its items"
        raise ConfigError(f"--out {out}: this model {what}, so there is nothing to draw; leave --out away")
    draw_items(items, out)
    typer.echo(f"items drawn: {out}", err=True)


def _report(detector: Any, items: Any) -> dict[str, Any]:
    fitted_threshold = detector.facts["samples"]["calibration"] > 0
    report = {
        "config": detector.config.model_dump(),
        "input": detector.preprocess.model_dump(),
        "facts": detector.facts,
        "threshold": (detector.threshold.facts if fitted_threshold else None),
        "items": None
        if items is None
        else {
            "usage_counts": items.usage_counts.tolist(),
            "duplicates": items.duplicates,
            "rows": items.rows,
            "counts": items.counts._asdict(),
            "samples": items.samples
            and [[{"key": one.key, "row": one.row} for one in found] for found in items.samples],
        },
    }
    described = detector.modality.describe(detector.artifact)
    report["input"] |= described.known
    if described.columns:
        report["input"]["columns"] = list(described.columns)
    if detector.modality.has_events:
        events = detector.modality.summary_of_events(detector)
        report["events"] = events[1] if events else None
    return report


def _print(detector: Any, items: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    from memae.fitted import model_facts

    console = Console(markup=False, emoji=False)  # a column may be called "weight [kg]"
    facts, description = detector.facts, detector.modality.describe(detector.artifact)
    about = Table(show_header=False, box=None, pad_edge=False)
    for name, fact in model_facts(detector.artifact).items():
        of = f" of {facts['origin']}" if name == "trained on" else ""
        about.add_row(name, printable(fact + of))
    if groups := facts.get("groups"):
        folds = f"; the threshold comes from {facts['folds']} folds" if "folds" in facts else ""
        about.add_row("groups", f"{groups['all']:,}, of which {groups['training']:,} trained the model{folds}")
    if events := detector.modality.summary_of_events(detector):
        about.add_row("events", events[0])
    console.print(about)
    _print_columns(console, description.columns)
    if items is None:
        console.print("\nno memory: a plain autoencoder")
    else:
        _print_items(console, items)


def _print_items(console: Any, items: Any) -> None:
    from rich.table import Table

    total = max(1, int(items.usage_counts.sum()))
    order = sorted(range(len(items.usage_counts)), key=lambda i: -items.usage_counts[i])
    duplicates: dict[int, list[int]] = {}
    for one, other in items.duplicates:
        duplicates.setdefault(one, []).append(other)
        duplicates.setdefault(other, []).append(one)
    names = list(items.rows[0]) if items.rows else []
    shown_columns = names[: max(1, (console.width - 28 - 24 * bool(items.samples)) // 14)]
    console.print(f"\nmemory: {items.counts.line}", highlight=False, soft_wrap=True)
    if items.help:
        console.print(items.help, highlight=False, soft_wrap=True)
    table = Table()
    for column in ("item", "reads", "duplicates"):
        table.add_column(column, justify="right", no_wrap=True)
    for column in shown_columns:
        table.add_column(printable(column), justify="right", min_width=11, overflow="fold")
    if items.samples:
        table.add_column("nearest training samples", overflow="fold")
    for item in order[:SHOWN_ITEMS]:
        row = items.rows[item] if items.rows else {}
        cells = [f"{row[n]:.4g}" if isinstance(row[n], float) else printable(str(row[n])) for n in shown_columns]
        cells += [", ".join(printable(one.key or "unnamed") for one in items.samples[item])] * bool(items.samples)
        table.add_row(
            str(item), f"{items.usage_counts[item] / total:.1%}", str(len(duplicates.get(item, ()))), *cells
        )
    console.print(table)
    left = []
    if len(order) > SHOWN_ITEMS:
        left.append(f"{len(order) - SHOWN_ITEMS} more items")
    if len(names) > len(shown_columns):
        left.append(f"{len(names) - len(shown_columns)} more columns")
    if left:
        console.print(f"{' and '.join(left)}: see --json")
    if items.pictures is not None or items.sample_pictures is not None:
        console.print("the items as pictures: --out items.png")


def _print_columns(console: Any, columns: Sequence[dict[str, Any]]) -> None:
    """What is done with each column; of a wide table with the first, and with those that had missing values."""
    from rich.table import Table

    if not columns:
        return

    shown = [c for place, c in enumerate(columns) if place < SHOWN_COLUMNS or c["missing"]]
    table = Table()
    for heading in ("column", "kind"):
        table.add_column(heading, overflow="fold")
    table.add_column("missing", justify="right")
    table.add_column("in normal errors", justify="right")
    table.add_column("what the network sees", overflow="fold")
    for column in shown:
        missing = f"{column['missing']:.1%}" if column["missing"] else "-"
        share = "-" if column["share"] is None else f"{column['share']:.1%}"
        table.add_row(printable(column["name"]), column["kind"], missing, share, printable(column["rule"]))
    console.print()
    console.print(table)
    if len(shown) < len(columns):
        console.print(f"{len(columns) - len(shown)} more columns: see --json")
