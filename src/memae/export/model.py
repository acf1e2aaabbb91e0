"""The export of one model: checked, written, compared with the library, and described in model.json."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from memae import __version__
from memae.autoencoder import Autoencoder
from memae.engine import scoring_form
from memae.errors import ConfigError, WriteError
from memae.export.parity import Parity, check_module, check_parity
from memae.export.program import Runtime, outputs_of, runtime_named, traced
from memae.files.atomic import atomic_directory, check_writable
from memae.memory.base import Streaming
from memae.modality import Artifact, Layout, Port, ScoringGraph

__all__ = ["Exported", "Target", "export_model"]

Target: TypeAlias = Literal["onnx", "openvino"]
DESCRIPTION = "model.json"
FORMAT = 1
FROZEN = "the memory is exported as it is now: the file learns nothing from what it scores"
MADE = {DESCRIPTION, "model.onnx", "model.xml", "model.bin"}


@dataclass(frozen=True)
class Exported:
    """What an export wrote."""

    folder: Path
    files: tuple[str, ...]
    parity: Parity
    notes: tuple[str, ...]
    """What the owner of the file should know."""


def export_model(artifact: Artifact, out: str | Path, to: Target, *, layout: Layout = "memae") -> Exported:
    """Writes a model for another runtime into a directory, whole or not at all.

    Args:
        artifact: of `memae.Detector.artifact`.
        out: a directory that is not there yet, is empty, or holds an earlier export, which is replaced.
        to: "onnx" for model.onnx, "openvino" for model.xml and model.bin.
        layout: "anomalib" has the names and units that its inferencers expect; for images.

    Raises:
        ConfigError: an unknown target or layout, or a model that cannot be traced.
        DataError: a model that no single graph can score.
        ExportError: the runtime gives other scores than memae.
        MissingExtraError: a package is not installed.
        WriteError: `out` holds something else, or cannot be written.
    """
    runtime, out = runtime_named(to), Path(out)
    modality = artifact.modality
    if layout not in modality.layouts:
        raise ConfigError(
            f"`layout={layout!r}`: a model of {modality.plural} has {' and '.join(map(repr, modality.layouts))}"
        )
    if artifact.recogniser:
        raise ConfigError(
            "a model of several categories has a threshold for each, which an exported file does not know; load it "
            "with memae, or export one model for each category"
        )
    _check_place(out)
    runtime.check_installed()
    graph = modality.scoring_graph(_on_cpu(artifact), layout)
    if isinstance(artifact.model.memory, Streaming):
        graph = replace(graph, notes=(*graph.notes, FROZEN))
    check_module(graph)
    program = traced(graph)
    with atomic_directory(out) as part:
        runtime.write(program, graph, part)
        parity = check_parity(graph, runtime, part)
        text = json.dumps(_description(artifact, graph, runtime, layout, parity), indent=1, ensure_ascii=False)
        (part / DESCRIPTION).write_text(text + "\n", encoding="utf-8")
        files = tuple(sorted(file.name for file in part.iterdir()))
    return Exported(out, files, parity, graph.notes)


def _on_cpu(artifact: Artifact) -> Artifact:
    """The artifact with a model that torch itself rebuilds, in float32 on the CPU."""
    model: Autoencoder = scoring_form(artifact.model, "torch").cpu().float()
    return replace(artifact, model=model)


def _check_place(out: Path) -> None:
    if out.is_dir():
        if other := sorted({file.name for file in out.iterdir()} - MADE):
            raise WriteError(f"{out}: holds {other[0]!r}, which is of no export; choose another directory")
    elif out.exists():
        raise WriteError(f"{out}: is a file; name a directory")
    check_writable(out)


def _description(
    artifact: Artifact, graph: ScoringGraph, runtime: Runtime, layout: Layout, parity: Parity
) -> dict[str, Any]:
    """What stands in model.json."""
    outputs, threshold = outputs_of(graph, graph.golden), artifact.threshold
    inputs = dict(zip((port.name for port in graph.inputs), graph.golden, strict=True))
    return {
        "format": FORMAT,
        "memae": __version__,
        "kind": artifact.modality.name,
        "layout": layout,
        "file": runtime.file,
        "settings": dict(runtime.settings),
        "inputs": [_described(port, inputs[port.name]) for port in graph.inputs],
        "outputs": [_described(port, outputs[port.name]) for port in graph.outputs],
        "threshold": None if threshold is None else threshold.facts,
        **graph.outside,
        "notes": list(graph.notes),
        "checked": parity.facts,
        "golden": {
            "samples": list(graph.samples),
            "inputs": {name: _packed(values) for name, values in inputs.items()},
            "scores": [_finite(score) for score in graph.golden_scores.tolist()],
        },
    }


def _described(port: Port, values: np.ndarray) -> dict[str, Any]:
    return {"name": port.name, "dtype": str(values.dtype), "axes": list(port.axes), "meaning": port.meaning}


def _packed(values: np.ndarray) -> dict[str, Any]:
    """An array for JSON: little-endian numbers, deflated, in base64."""
    little = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<"))
    content = base64.b64encode(zlib.compress(little.tobytes(), 9)).decode("ascii")
    return {"dtype": str(values.dtype), "shape": list(values.shape), "zlib_base64": content}


def _finite(score: Any) -> Any:
    """A score as JSON has it: NaN is null."""
    if isinstance(score, list):
        return [_finite(one) for one in score]
    return score if np.isfinite(score) else None
