"""Speed: video, footage, training, memory-read, growth, tables, pictures, startup, load, serve, exported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
RESULTS = Path(__file__).parent / "results"


@app.callback()
def _root() -> None:
    """Speed against the same work done plainly, and against the machine's own limit."""


@app.command()
def video(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    keep: Annotated[bool, typer.Option(help="Write the result to benchmarks/results/video.json.")] = False,
    rounds: Annotated[int, typer.Option(help="Interleaved rounds; medians are reported.")] = 5,
) -> None:
    """`video-paper` from a file to scores at stride 16, against eager float32 and the matrix rate of this machine."""
    from benchmarks.video import video_benchmark

    _report("video", video_benchmark(rounds), as_json, keep)


@app.command()
def footage(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    keep: Annotated[bool, typer.Option(help="Write the result to benchmarks/results/footage.json.")] = False,
    hours: Annotated[float, typer.Option(help="Length of the footage.", min=0.01)] = 10.0,
) -> None:
    """Hours of one camera by the command score: frames a second, and memory from the start to the end."""
    from benchmarks.footage import footage_benchmark

    _report("footage", footage_benchmark(hours), as_json, keep, command=f"footage --hours {hours:g}")


@app.command()
def training(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    keep: Annotated[bool, typer.Option(help="Write the result to benchmarks/results/training.json.")] = False,
    rounds: Annotated[int, typer.Option(help="Interleaved rounds; medians are reported.")] = 5,
) -> None:
    """Training on MNIST and KDDCUP99 and scoring of rows, against plain loops and the matrix rate of this machine."""
    from benchmarks.training import training_benchmark

    _report("training", training_benchmark(rounds), as_json, keep)


@app.command()
def memory_read(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    keep: Annotated[bool, typer.Option(help="Write the result to benchmarks/results/memory-read.json.")] = False,
    rounds: Annotated[int, typer.Option(help="Pairs of runs; the median of their ratios is reported.")] = 15,
) -> None:
    """Scoring of tables against its own two products, and the memory read against a plain masked softmax."""
    from benchmarks.memory_read import memory_read_benchmark

    _report("memory-read", memory_read_benchmark(rounds), as_json, keep)


@app.command()
def growth(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    keep: Annotated[
        bool, typer.Option(help="Write the result to benchmarks/results/growth.json, and docs/images/growth.png.")
    ] = False,
) -> None:
    """Time and memory of fit and score against rows, columns, items, pixels and frames, and the slopes."""
    from benchmarks.growth import growth_benchmark
    from benchmarks.growth_drawing import draw_growth

    found = growth_benchmark()
    if keep:
        draw_growth(found, RESULTS.parents[1] / "docs" / "images" / "growth.png")
    _report("growth", found, as_json, keep)


@app.command()
def startup(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    keep: Annotated[bool, typer.Option(help="Write the result to benchmarks/results/startup.json.")] = False,
    rounds: Annotated[int, typer.Option(help="Interleaved rounds; medians are reported.")] = 10,
) -> None:
    """`memae --help`, `--version` and a wrong option, against the bare interpreter."""
    from benchmarks.startup import startup_benchmark

    _report("startup", startup_benchmark(rounds), as_json, keep)


@app.command()
def tables(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    keep: Annotated[bool, typer.Option(help="Write the result to benchmarks/results/tables.json.")] = False,
    rounds: Annotated[int, typer.Option(help="Interleaved rounds; medians are reported.")] = 5,
    million_rows: Annotated[
        int | None,
        typer.Option(
            help="Measure one file of so many million rows of ten numbers instead, by the commands score and fit; "
            "kept in benchmarks/results/long-table.json.",
            min=1,
        ),
    ] = None,
) -> None:
    """Scoring KDDCUP99 from Parquet to Parquet: rows a second, and peak memory of a file and of a longer one."""
    from benchmarks.tables import long_table_benchmark, tables_benchmark

    if million_rows:
        found = long_table_benchmark(million_rows)
        _report("long-table", found, as_json, keep, command=f"tables --million-rows {million_rows}")
        return
    _report("tables", tables_benchmark(rounds), as_json, keep)


@app.command()
def pictures(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    keep: Annotated[bool, typer.Option(help="Write the result to benchmarks/results/pictures.json.")] = False,
    rounds: Annotated[int, typer.Option(help="Interleaved rounds; medians are reported.")] = 5,
    preset: Annotated[str, typer.Option(help="image or features.")] = "image",
) -> None:
    """Scoring a folder of JPEGs: decoding alone, the model alone, and end to end.

    The result of `features` is kept in benchmarks/results/pictures-features.json.
    """
    from benchmarks.pictures import pictures_benchmark

    found = pictures_benchmark(rounds, preset)
    if preset == "image":
        _report("pictures", found, as_json, keep)
    else:
        _report(f"pictures-{preset}", found, as_json, keep, command=f"pictures --preset {preset}")


@app.command()
def load(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    keep: Annotated[bool, typer.Option(help="Write the result to benchmarks/results/load.json.")] = False,
    minutes: Annotated[float, typer.Option(help="Of scoring for each kind of data.", min=0.01)] = 15.0,
) -> None:
    """Rows, images and video without pause, by 8 threads and by 4 processes: equal scores, and memory over time."""
    from benchmarks.load import load_benchmark

    _report("load", load_benchmark(60 * minutes), as_json, keep, command=f"load --minutes {minutes:g}")


@app.command()
def serve(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    keep: Annotated[bool, typer.Option(help="Write the result to benchmarks/results/serve.json.")] = False,
    seconds: Annotated[float, typer.Option(help="Of one round of one kind of request.", min=0.1)] = 5.0,
    rounds: Annotated[int, typer.Option(help="Interleaved rounds; medians are reported.")] = 3,
) -> None:
    """`memae serve` under 64 clients beside the model alone, latencies, and memory at ten times the load."""
    from benchmarks.serving import serve_benchmark

    command = f"serve --seconds {seconds:g} --rounds {rounds}"
    _report("serve", serve_benchmark(seconds, rounds), as_json, keep, command=command)


@app.command()
def exported(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    keep: Annotated[bool, typer.Option(help="Write the result to benchmarks/results/exported.json.")] = False,
    rounds: Annotated[int, typer.Option(help="Interleaved rounds; medians are reported.")] = 5,
) -> None:
    """Exported files in ONNX Runtime and OpenVINO beside torch: one sample, a batch, and the time to load."""
    from benchmarks.exported import exported_benchmark

    _report("exported", exported_benchmark(rounds), as_json, keep, command=f"exported --rounds {rounds}")


@app.command()
def soak(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    keep: Annotated[
        bool, typer.Option(help="Write the result to benchmarks/results/soak.json, and docs/images/soak.png.")
    ] = False,
    minutes: Annotated[float, typer.Option(help="Of the long watch.", min=0.05)] = 30.0,
    cameras: Annotated[int, typer.Option(help="Of the long watch, of 10 frames a second each.", min=1)] = 8,
    step_s: Annotated[
        float, typer.Option(help="Seconds of each number of cameras that is tried; 0 tries none.", min=0)
    ] = 60.0,
) -> None:
    """A watch of MJPEG cameras: lag from frame to score, drops and memory over time, and how many are carried."""
    from benchmarks.soak import STEPS, soak_benchmark
    from benchmarks.soak_drawing import draw_soak

    found = soak_benchmark(minutes, cameras, STEPS if step_s else (), step_s)
    if keep:
        draw_soak(found, RESULTS.parents[1] / "docs" / "images" / "soak.png")
    command = f"soak --minutes {minutes:g} --cameras {cameras} --step-s {step_s:g}"
    _report("soak", found, as_json, keep, command=command)


def _report(name: str, found: dict[str, Any], as_json: bool, keep: bool, command: str | None = None) -> None:
    if keep:
        from experiments.records import provenance, write_result

        command = f"python -m benchmarks {command or name} --json"
        write_result(RESULTS / f"{name}.json", {**found, "command": command, **provenance(0)})
    if as_json:
        typer.echo(json.dumps(found))
    else:
        for key, value in found.items():
            typer.echo(f"{key:>28}  {value}")


app()
