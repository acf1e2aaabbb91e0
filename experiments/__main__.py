"""python -m experiments run | summary | render | demo | tune | figures | promise | contamination | teaching |
streaming | still | tiles | categories.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from experiments.bundled_demo import demo_path, run_bundled_demo
from experiments.categories import PROBLEMS as CATEGORISED
from experiments.categories import measure_categories
from experiments.contamination import TRAININGS, measure
from experiments.drawings import draw_figures
from experiments.figures import compute_figures
from experiments.magnetic_tiles import METHODS, measure_tiles
from experiments.memstream_kdd import measure_published
from experiments.promise import DATA as PROMISED
from experiments.promise import compute_promises
from experiments.protocols.contaminated import PROBLEMS
from experiments.records import RESULTS, CellError
from experiments.render import ROOT, rendered
from experiments.runner import plan, run_all, seconds_of
from experiments.still import PARTS, measure_still
from experiments.streaming import STREAMS, measure_streaming
from experiments.summary import as_json, as_text, summarise
from experiments.teaching import LESSONS, measure_teaching
from experiments.tune import tune
from experiments.variants import VARIANTS
from experiments.workers import run_in_processes
from memae.config import parse_words

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def _say(text: str) -> None:
    typer.echo(text, err=True)


@app.command()
def run(
    table: Annotated[str, typer.Argument(help="table1 to table6, or others.", show_default=False)],
    data: Annotated[str | None, typer.Option(help="Only this data set.")] = None,
    method: Annotated[
        str, typer.Option(help="Only these, such as memae,autoencoder; slow ones run only when named.")
    ] = "",
    seeds: Annotated[int | None, typer.Option(min=1, help="So many seeds instead of the table's own.")] = None,
    parts: Annotated[str, typer.Option(help="Only these parts (classes), such as 8,2.")] = "",
    budget: Annotated[str | None, typer.Option(help="Start nothing after 90s, 60m or 2h.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="So many parts of cells at a time, each with one thread.")] = 1,
) -> None:
    """Compute the cells of a table that are missing; Ctrl-C loses no more than the part under way."""
    for name in ("SIGTERM", "SIGHUP"):  # Windows has no SIGHUP
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _interrupt)  # they, too, end the processes
    root = RESULTS / "cells"
    try:
        deadline = time.time() + seconds_of(budget) if budget else float("inf")
        missing, count = plan(table, root, data, _listed(method), seeds, _listed(parts), _say)
    except (ValueError, CellError) as error:
        _say(str(error))
        raise typer.Exit(2) from None
    total = len(missing)
    parts_left = sum(len(job.parts) for job in missing)
    _say(f"{table}: {count} cells, {total} incomplete, {parts_left} parts to compute")
    try:
        if jobs == 1:
            failed = run_all(missing, root, deadline, _say)
        else:
            failed = run_in_processes(missing, root, deadline, _say, jobs)
    except KeyboardInterrupt:
        _say("interrupted; what was finished is kept")
        raise typer.Exit(130) from None
    if failed:
        _say(f"{len(failed)} failed, of {total} cells:")
        for line in failed:
            _say(f"  {line}")
        raise typer.Exit(1)


def _listed(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


Data = Annotated[str, typer.Option(help="mnist, kddcup99, tables-2, ped2, ...; left out, all.")]


@app.command("tune")
def tune_defaults(data: Data = "") -> None:
    """Compute the variants behind the defaults that have no result file yet; validation data only."""
    for name in [data] if data else list(VARIANTS):
        for variant, result in tune(name):
            _say(f"{name}: {variant}: {result['mean']:.4f} {result['figures']}")


@app.command("choose", hidden=True)
def choose_defaults(data: Data = "") -> None:
    """The old name of `tune`."""
    _say("warning: choose is now called tune; the old name is accepted until memae 0.2.0")
    tune_defaults(data)


@contextmanager
def _told() -> Iterator[None]:
    """A block whose computations may be stopped, or find a file that was made with other settings."""
    try:
        yield
    except CellError as error:
        _say(str(error))
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        _say("interrupted; what was finished is kept")
        raise typer.Exit(130) from None


@app.command()
def promise(
    data: Annotated[str, typer.Option(help="Only these, such as mnist-8,ped2; left out, all but ped2.")] = "",
    splits: Annotated[int, typer.Option(min=1, help="Splits of each data set.")] = 10,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="A setting of the detector, such as train.epochs=3.")
    ] = None,
    budget: Annotated[str | None, typer.Option(help="Start nothing after 90s, 60m or 2h.")] = None,
) -> None:
    """Measure false alarms on groups never seen, for splits that have no result file yet."""
    names = _listed(data) or [name for name in PROMISED if name != "ped2"]
    if unknown := set(names) - set(PROMISED):
        _say(f"{sorted(unknown)[0]!r}: no such data set; there is {', '.join(PROMISED)}")
        raise typer.Exit(2)
    deadline = time.time() + seconds_of(budget) if budget else float("inf")
    settings = parse_words(changes) if changes else None
    with _told():
        for name in names:
            for path, found in compute_promises(name, splits, settings, deadline=deadline):
                normal, recall = found["normal"], found["anomalies"]["recall"]
                rates = f"wanted {found['wanted']:.4f}, measured {normal['rate']:.4f}"
                _say(f"{name} {path.stem}: {rates}, recall {recall:.3f}, {found['seconds']} s")


@app.command()
def contamination(
    data: Annotated[str, typer.Option(help=f"{', '.join(PROBLEMS)}; left out, all.")] = "",
    training: Annotated[str, typer.Option(help=f"{', '.join(TRAININGS)}; left out, all.")] = "",
) -> None:
    """Measure what unlabelled anomalies among the normal data cost, and what leaving some out regains."""
    with _told():
        for name in [data] if data else list(PROBLEMS):
            for how in [training] if training else list(TRAININGS):
                for fit, metrics in measure(name, how):
                    _say(f"{fit}: {metrics}")


@app.command()
def teaching(data: Annotated[str, typer.Option(help=f"{', '.join(LESSONS)}; left out, all.")] = "") -> None:
    """Measure what teaching a new kind of normal does, beside a new training."""
    with _told():
        for name in [data] if data else list(LESSONS):
            for fit, metrics in measure_teaching(name):
                _say(f"{fit}: {metrics}")


@app.command()
def streaming(
    data: Annotated[str, typer.Option(help=f"kddcup99 (as published), {', '.join(STREAMS)}; left out, all.")] = "",
) -> None:
    """Measure MemStream's memory under a shift, frozen and learning, and repeat its published figure."""
    with _told():
        for name in [data] if data else ["kddcup99", *STREAMS]:
            for fit, metrics in measure_published() if name == "kddcup99" else measure_streaming(name):
                _say(f"{fit}: {metrics}")


@app.command()
def categories(
    data: Annotated[str, typer.Option(help=f"{' or '.join(CATEGORISED)}; left out, both.")] = "",
) -> None:
    """Measure one model of several kinds of normal against one model for each kind."""
    with _told():
        for name in [data] if data else list(CATEGORISED):
            for fit, found in measure_categories(name):
                _say(f"{fit}: {found}")


@app.command()
def still(part: Annotated[str, typer.Option(help=f"{' or '.join(PARTS)}; left out, both of these.")] = "") -> None:
    """Measure on made-up footage whether what stands still is found, and light and shaking are not."""
    with _told():
        for name in [part] if part else PARTS:
            for found in measure_still(name):
                _say(f"{name}, scene {found['scene']}: {found['core_seconds']} s")


@app.command()
def tiles(
    method: Annotated[str, typer.Option(help=f"{', '.join(METHODS)}; left out, all.")] = "",
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of what is fitted.")] = 3,
) -> None:
    """Rank defects of magnetic tiles, for methods and seeds that have no result file yet."""
    with _told():
        for name in [method] if method else METHODS:
            for found in measure_tiles(name, seeds):
                _say(f"{name}, seed {found['seed']}: {found['seconds']} s")


@app.command()
def summary(
    json: Annotated[bool, typer.Option("--json", help="One JSON object instead of tables to read.")] = False,
) -> None:
    """Print means and 95 % intervals of the committed cells; never trains."""
    tree = summarise()
    typer.echo(as_json(tree) if json else as_text(tree))


@app.command()
def demo(seeds: Annotated[int, typer.Option(help="Seeds.")] = 5) -> None:
    """Run `memae demo` with several seeds and keep its figures."""
    for seed in range(seeds):
        if not demo_path(seed).exists():
            _say(f"seed {seed}: {run_bundled_demo(seed)}")


@app.command()
def render() -> None:
    """Write the tables of README.md and docs from the committed results; never trains."""
    for path, text in rendered().items():
        path.write_text(text, encoding="utf-8")
        _say(str(path.relative_to(ROOT)))


@app.command()
def figures(
    compute: Annotated[
        bool, typer.Option("--compute", help="First compute the points that have no file.")
    ] = False,
) -> None:
    """Draw the figures of docs/figures.md from the committed results; trains only with --compute."""
    try:
        for point, result in compute_figures() if compute else ():
            _say(f"{point.figure} {point.name}: {result['metrics']}, {result['cpu_seconds']} s of CPU")
    except KeyboardInterrupt:
        _say("interrupted; what was finished is kept")
        raise typer.Exit(130) from None
    for path in draw_figures():
        _say(str(path.relative_to(ROOT)))


if __name__ == "__main__":
    app()
