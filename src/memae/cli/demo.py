"""memae demo: train on real data that is at hand, and compare with two simpler models."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from memae.cli import options
from memae.cli.allocator import keep_large_blocks
from memae.cli.console import Console, print_json
from memae.cli.options import option

__all__ = ["demo"]


def demo(
    data: Annotated[
        str,
        option(
            "--data bundled|mnist|kddcup99",
            "bundled: the digits and the breast-cancer table of scikit-learn. mnist and kddcup99: from the folder "
            "in MEMAE_DATA, or else ../shared/data.",
        ),
    ] = "bundled",
    out: Annotated[
        Path | None,
        option("--out/-o FOLDER", "Write the images here. Default: memae-demo."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the split and the models.")] = 0,
    json: options.Json = False,
    quiet: options.Quiet = False,
    log_json: options.LogJson = False,
) -> None:
    """Train MemAE, the plain autoencoder and an untrained network on real data, and compare them.

    Prints the AUROC of each on held-out samples, the false-alarm rate at a threshold that was set from normal samples
    only, and how to read these figures. Draws inputs, reconstructions, error maps and decoded memory items.
    """
    from memae.demo import DATA_SETS, NOTES, run_demo
    from memae.errors import ConfigError

    keep_large_blocks()
    console = Console(quiet=quiet, log_json=log_json)
    if data not in DATA_SETS:
        raise ConfigError(f"--data {data}: unknown; take one of {', '.join(DATA_SETS)}")
    folder = out or Path("memae-demo" if data == "bundled" else f"memae-demo-{data}")
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--out {folder}: is a file; name a folder for the images")
    started = time.perf_counter()
    results = run_demo(data, folder, seed=seed, announce=console.task, progress=console.progress)
    seconds = time.perf_counter() - started
    figures: dict[str, Any] = {kind: dataclasses.asdict(result) for kind, result in results.items()}
    found = {**figures, "seconds": round(seconds, 2), "folder": str(folder.resolve())}
    console.result([], **found)
    if json:
        print_json(found)
    else:
        _print(results, NOTES.get(data, ()), seconds, folder)


def _print(results: dict[str, Any], notes: Iterable[str], seconds: float, folder: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    table.add_column("AUROC on held-out samples")
    for kind in results:
        table.add_column(kind, justify="right")
    for field, name in (("memae", "MemAE"), ("autoencoder", "plain autoencoder"), ("untrained", "untrained net")):
        table.add_row(name, *(f"{getattr(result, field):.4f}" for result in results.values()))
    alarms = [result.false_alarm_rate for result in results.values()]
    table.add_section()
    table.add_row("false alarms, wanted", *(f"{alarm.wanted:.1%}" for alarm in alarms))
    table.add_row("false alarms, measured", *(f"{alarm.measured:.1%}" for alarm in alarms))
    console = Console()
    console.print(table)
    for note in notes:
        console.print(note, highlight=False)
    console.print(f"{seconds:.1f} s. Pictures are in", highlight=False)
    typer.echo(str(folder.resolve()))
