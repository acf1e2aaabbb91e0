"""python -m experiments run | demo | choose | summary | render."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from experiments.choose import VARIANTS, choose
from experiments.render import ROOT, rendered
from experiments.runner import cells, demo_path, run_bundled_demo, run_cell
from experiments.summary import as_json, summarise

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.command()
def run(
    seeds: Annotated[int, typer.Option(help="Seeds a cell.")] = 3,
    data: Annotated[str, typer.Option(help="Only data sets whose name starts so.")] = "",
    method: Annotated[str, typer.Option(help="Only this method.")] = "",
    budget_s: Annotated[float, typer.Option(help="Start no cell after so many seconds.")] = float("inf"),
) -> None:
    """Compute the cells that have no result file yet."""
    started = time.monotonic()
    wanted = [c for c in cells(seeds) if c.data.startswith(data) and method in ("", c.method)]
    missing = [cell for cell in wanted if not cell.path.exists()]
    typer.echo(f"{len(wanted)} cells, {len(missing)} missing", err=True)
    for place, cell in enumerate(missing, start=1):
        if time.monotonic() - started > budget_s:
            typer.echo(f"budget spent; {len(missing) - place + 1} cells are left", err=True)
            return
        result = run_cell(cell)
        figures = ", ".join(
            f"{protocol} {name} {value:.4f}"
            for protocol, metrics in result["metrics"].items()
            for name, value in metrics.items()
        )
        label = f"{cell.data} {cell.method} seed {cell.seed}"
        typer.echo(f"[{place}/{len(missing)}] {label}: {figures}, {result['seconds']:.1f} s", err=True)


@app.command("choose")
def choose_defaults(
    data: Annotated[str, typer.Option(help="mnist, kddcup99 or tables; left out, all.")] = "",
) -> None:
    """Compute the variants behind the defaults that have no result file yet; validation data only."""
    for name in [data] if data else list(VARIANTS):
        for variant, result in choose(name):
            typer.echo(f"{name}: {variant}: {result['mean']:.4f} {result['figures']}", err=True)


@app.command()
def summary() -> None:
    """Print means and intervals of the committed cells as one JSON object."""
    typer.echo(as_json(summarise()))


@app.command()
def demo(seeds: Annotated[int, typer.Option(help="Seeds.")] = 5) -> None:
    """Run `memae demo` with several seeds and keep its figures."""
    for seed in range(seeds):
        if not demo_path(seed).exists():
            typer.echo(f"seed {seed}: {run_bundled_demo(seed)}", err=True)


@app.command()
def render() -> None:
    """Write the tables of README.md and docs/evidence.md from the committed results; never trains."""
    for path, text in rendered().items():
        path.write_text(text, encoding="utf-8")
        typer.echo(str(path.relative_to(ROOT)), err=True)


app()
