"""memae export: a trained model as a file for ONNX Runtime or OpenVINO."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from memae.cli import options
from memae.cli.console import print_json, say_warning
from memae.cli.options import option
from memae.errors import ConfigError

__all__ = ["export"]


def export(
    model: options.Model,
    to: Annotated[str, option("--to onnx|openvino", "Runtime that the file is for.")],
    out: Annotated[Path, option("--out/-o DIR", "Write model.onnx, or model.xml and .bin, and model.json here.")],
    layout: Annotated[
        str,
        option(
            "--layout memae|anomalib",
            "Names and units of inputs and outputs. anomalib: those of its OpenVINOInferencer, for images.",
        ),
    ] = "memae",
    json: options.Json = False,
) -> None:
    """Write MODEL as one file that gives the same scores without memae.

    Preprocessing, network, memory, score, map and threshold are in the file. Golden samples go through the runtime
    before anything is kept: a score that differs by more than 1e-4 is an error.

        memae export flows.model --to onnx --out flows_onnx/

    model.json names inputs, outputs and columns, and holds the golden samples; see docs/export.md.
    """
    if to not in ("onnx", "openvino"):
        raise ConfigError(f"--to {to}: take onnx or openvino")
    if layout not in ("memae", "anomalib"):
        raise ConfigError(f"--layout {layout}: take memae or anomalib")
    from memae.detector import Detector
    from memae.export import export_model

    detector = Detector.load(model, device="cpu", engine="torch")
    done = export_model(detector.artifact, out, cast("Any", to), layout=cast("Any", layout))
    for note in done.notes:
        say_warning(note)
    if json:
        print_json({"folder": str(done.folder), "files": list(done.files), **done.parity.facts})
        return
    typer.echo(f"{done.folder}: {', '.join(done.files)}")
    sizes = " and ".join(map(str, done.parity.batch_sizes))
    typer.echo(
        f"golden samples in {done.parity.runtime}, batches of {sizes}: scores differ by at most "
        f"{done.parity.largest_difference:.1g}"
    )
