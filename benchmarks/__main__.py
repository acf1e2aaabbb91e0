"""python -m benchmarks video."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.video import video_benchmark

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
    found = video_benchmark(rounds)
    if keep:
        from experiments.runner import provenance, write_result

        write_result(
            RESULTS / "video.json", {**found, "command": "python -m benchmarks video --json", **provenance(0)}
        )
    if as_json:
        typer.echo(json.dumps(found))
    else:
        for name, value in found.items():
            typer.echo(f"{name:>28}  {value}")


app()
