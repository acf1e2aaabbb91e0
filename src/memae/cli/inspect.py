"""memae inspect: look into a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from memae.cli.options import Json, Model, default_events, events_line

__all__ = ["inspect"]

SHOWN_ITEMS = 20
SHOWN_COLUMNS = 20


def inspect(
    model: Model,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE.png",
            help="Where to write the picture of the items of a model of images or video; left out: none is written.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Show what MODEL is: its data, training and threshold, and what its memory holds.

    For each column of a table: what is done with it; see docs/tables-data.md. For each item: how much it is used, its
    duplicates, and the item decoded alone, as a picture or as a row in the columns' own units.

        memae inspect parts.model --out items.png
    """
    from memae.detector import Detector

    if out:
        from memae.cli.options import check_output

        check_output(out, (".png",))
    detector = Detector.load(model, device="cpu")
    items = detector.items()
    if out:
        _draw(items, out)
    if json:
        import json as json_module

        typer.echo(json_module.dumps(_report(detector, items)))
    else:
        _print(detector, items)


def _draw(items: Any, out: Path) -> None:
    from memae.errors import ConfigError
    from memae.plots import draw_items

    if items is None or items.pictures is None:
        what = "has no memory" if items is None else "is of a table, whose items are rows"
        raise ConfigError(f"--out {out}: this model {what}, so there is nothing to draw; leave --out away")
    draw_items(items, out)
    typer.echo(f"items drawn: {out}", err=True)


def _report(detector: Any, items: Any) -> dict[str, Any]:
    fitted_threshold = detector.facts["samples"]["calibration"] > 0
    report = {
        "config": detector.config.model_dump(),
        "input": detector.preprocess.model_dump(),
        "facts": detector.facts,
        "threshold": (
            {"value": detector.threshold.value, "false_alarm_rate": detector.threshold.false_alarm_rate}
            if fitted_threshold
            else None
        ),
        "items": None
        if items is None
        else {"usage_counts": items.usage_counts.tolist(), "duplicates": items.duplicates, "rows": items.rows},
    }
    if report["input"]["kind"] == "table":
        for column, stored in zip(detector.preprocess.columns, report["input"]["columns"], strict=True):
            stored["rule"] = column.rule
    if report["input"]["kind"] == "video":
        events = default_events(detector)
        report["events"] = events.figures() if events else None
    return report


def _print(detector: Any, items: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, emoji=False)  # a column may be called "weight [kg]"
    report = _report(detector, items)
    facts, threshold = report["facts"], report["threshold"]
    about = Table(show_header=False, box=None, pad_edge=False)
    about.add_row("network", f"{report['config']['network']}, {facts['parameters']:,} parameters")
    about.add_row("input", _input(report["input"]))
    unit = "frames" if report["input"]["kind"] == "video" else "samples"
    if unit == "frames":
        about.add_row("score", _score(report["config"]["video"]))
    about.add_row("trained on", f"{facts['samples']['training']:,} {unit} of {facts['origin']}")
    about.add_row("epochs", f"kept {facts['kept_epoch']}; {facts['seconds']:.1f} s; seed {facts['seed']}")
    if threshold:
        rate = threshold["false_alarm_rate"]
        each = " a frame" * (unit == "frames")
        about.add_row("threshold", f"score {threshold['value']:.6g} for a false-alarm rate of {rate:.3g}{each}")
    if unit == "frames" and (events := default_events(detector)):
        about.add_row("events", events_line(events))
    console.print(about)
    _print_columns(console, report["input"].get("columns", ()))
    if items is None:
        console.print("\nno memory: a plain autoencoder")
    else:
        _print_items(console, items)


def _print_items(console: Any, items: Any) -> None:
    from rich.table import Table

    total = max(1, int(items.usage_counts.sum()))
    order = sorted(range(len(items.usage_counts)), key=lambda i: -items.usage_counts[i])
    dead = int((items.usage_counts == 0).sum())
    duplicates: dict[int, list[int]] = {}
    for one, other in items.duplicates:
        duplicates.setdefault(one, []).append(other)
        duplicates.setdefault(other, []).append(one)
    names = list(items.rows[0]) if items.rows else []
    shown_columns = names[: max(1, (console.width - 28) // 14)]
    console.print(
        f"\nmemory: {len(order)} items, {dead} dead, {len(duplicates)} with a duplicate", highlight=False
    )
    table = Table()
    for column in ("item", "reads", "duplicates"):
        table.add_column(column, justify="right", no_wrap=True)
    for column in shown_columns:
        table.add_column(column, justify="right", min_width=11, overflow="fold")
    for item in order[:SHOWN_ITEMS]:
        row = items.rows[item] if items.rows else {}
        cells = [f"{row[n]:.4g}" if isinstance(row[n], float) else str(row[n]) for n in shown_columns]
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
    if items.pictures is not None:
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
    table.add_column("what the network sees", overflow="fold")
    for column in shown:
        missing = f"{column['missing']:.1%}" if column["missing"] else "-"
        table.add_row(column["name"], column["kind"], missing, column["rule"])
    console.print()
    console.print(table)
    if len(shown) < len(columns):
        console.print(f"{len(columns) - len(shown)} more columns: see --json")


def _score(video: dict[str, Any]) -> str:
    """What the score of a frame is, in words."""
    what = {
        "mean": "mean squared error of the frame",
        "place": f"root mean squared error of the place of {video['place_px']} px that is rebuilt worst",
    }
    return f"{what[video['score']]}; a clip every {video['stride']} frames"


def _input(preprocess: dict[str, Any]) -> str:
    if preprocess["kind"] == "image":
        size = f"{preprocess['channels']} x {preprocess['height']} x {preprocess['width']}"
        return f"images of {size} (channels, height, width), scale {preprocess['scale']}"
    if preprocess["kind"] == "video":
        return (
            f"video in clips of {preprocess['clip_length']} grey frames of {preprocess['height']} x "
            f"{preprocess['width']} px (height x width); the network sees their {preprocess['input']}"
        )
    kinds = [column["kind"] for column in preprocess["columns"]]
    counts = ", ".join(
        f"{kinds.count(kind)} {kind}" for kind in ("number", "category", "boolean") if kind in kinds
    )
    dropped = f"; dropped: {', '.join(preprocess['dropped'])}" if preprocess["dropped"] else ""
    return f"tables of {len(kinds)} columns ({counts}){dropped}"
