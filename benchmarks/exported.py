"""Exported files in ONNX Runtime and OpenVINO, beside the same scoring by torch: tables, images and video.

What is timed is the graph that `memae export` traces, from its inputs to score and map, with the same inputs in all
three. Reading files and decoding are left out, as they are the same everywhere. Rounds take turns, and a ratio is of
two rates of one round. The time to import and to load is of fresh processes: torch loads the model directory with
memae, the others the exported file alone. Models are hardly trained, as weights change no time.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
import openvino
import torch
from sklearn.datasets import load_breast_cancer

from benchmarks.pictures import write_pictures
from benchmarks.video import trained
from memae import Detector
from memae.export import export_model
from memae.export.program import OpenVino
from memae.modality import ScoringGraph

__all__ = ["Model", "exported_benchmark", "measured"]

LEAST_S = 0.3  # of one way in one round
WAYS = ("torch", "onnx", "openvino")
SIDE, PICTURES = 256, 32
IMAGES: dict[str, Any] = {"train": {"epochs": 1}, "memory": {"warmup_epochs": 1}}
START = """
import json, sys, time
way, place = sys.argv[1:]
began = time.perf_counter()
if way == "torch":
    from memae import Detector
elif way == "onnx":
    import onnxruntime
else:
    import openvino
imported = time.perf_counter()
if way == "torch":
    Detector.load(place, device="cpu", engine="torch")
elif way == "onnx":
    onnxruntime.InferenceSession(place, providers=["CPUExecutionProvider"])
else:
    openvino.Core().compile_model(place, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
print(json.dumps([imported - began, time.perf_counter() - imported]))
"""

Score = Callable[[], object]


class Model(NamedTuple):
    """A model of one kind of data, and how many samples are scored at once."""

    title: str
    detector: Detector
    batch: int


def exported_benchmark(rounds: int = 5) -> dict[str, Any]:
    """Samples a second by each way, the ratios to torch, and seconds to import and to load: medians over rounds.

    Args:
        rounds: of all ways, for each model and each size of a batch.
    """
    with tempfile.TemporaryDirectory() as name:
        kinds = {kind: measured(model, Path(name, kind), rounds) for kind, model in _models(Path(name)).items()}
    return {
        "rounds": rounds,
        "threads": torch.get_num_threads(),
        "versions": {
            "torch": torch.__version__,
            "onnx": onnxruntime.__version__,
            "openvino": openvino.__version__,
        },
        "kinds": kinds,
    }


def _models(folder: Path) -> dict[str, Model]:
    data = load_breast_cancer(as_frame=True)
    rows = Detector(settings={"train": {"epochs": 3}}, device="cpu").fit(data.data[data.target == 1])
    pictures = folder / "pictures"
    pictures.mkdir()
    write_pictures(pictures, PICTURES, SIDE)
    images = Detector("image", settings=IMAGES, device="cpu").fit(pictures)
    return {
        "table": Model("rows of 30 numbers", rows, 1024),
        "image": Model(f"images of {SIDE} x {SIDE} px, preset `image`", images, 16),
        "video": Model("clips, preset `video`", trained("video"), 4),
    }


def measured(model: Model, folder: Path, rounds: int) -> dict[str, Any]:
    """All figures of one model."""
    model.detector.save(folder / "model")
    detector = Detector.load(folder / "model", device="cpu", engine="torch")
    places = {"torch": folder / "model"}
    for way, file in (("onnx", "model.onnx"), ("openvino", "model.xml")):
        places[way] = export_model(detector.artifact, folder / way, way).folder / file  # type: ignore[arg-type]
    graph = detector.artifact.modality.scoring_graph(detector.artifact, "memae")
    return {
        "model": model.title,
        "sizes": [_rates(graph, places, samples, rounds) for samples in (1, model.batch)],
        "start": _start(places, rounds),
    }


def _rates(graph: ScoringGraph, places: dict[str, Path], samples: int, rounds: int) -> dict[str, Any]:
    inputs = [values[np.arange(samples) % len(values)] for values in graph.golden]
    feeds = {port.name: values for port, values in zip(graph.inputs, inputs, strict=True)}
    ways = {
        "torch": _torch(graph, inputs),
        "onnx": _onnx(places["onnx"], feeds),
        "openvino": _openvino(places["openvino"], feeds),
    }
    for score in ways.values():  # pays for what is made at the first call
        score()
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, score in ways.items():
            rates[way].append(samples * _calls_per_s(score))
    times = {
        way: [one / by_torch for one, by_torch in zip(rates[way], rates["torch"], strict=True)] for way in ways
    }
    return {
        "samples": samples,
        "per_s": {way: round(statistics.median(values), 1) for way, values in rates.items()},
        "times_torch": {way: round(statistics.median(values), 3) for way, values in times.items()},
        "spread_times_torch": {way: [round(f(values), 3) for f in (min, max)] for way, values in times.items()},
    }


def _calls_per_s(score: Score) -> float:
    calls, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < LEAST_S or not calls:
        score()
        calls += 1
    return calls / passed


def _torch(graph: ScoringGraph, inputs: list[np.ndarray]) -> Score:
    tensors = [torch.from_numpy(values) for values in inputs]

    @torch.inference_mode()
    def score() -> object:
        return graph.module(*tensors)

    return score


def _onnx(file: Path, feeds: dict[str, np.ndarray]) -> Score:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, feeds)


def _openvino(file: Path, feeds: dict[str, np.ndarray]) -> Score:
    settings = {**OpenVino.settings, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    compiled = openvino.Core().compile_model(file, "CPU", settings)
    return lambda: compiled(feeds)


def _start(places: dict[str, Path], rounds: int) -> dict[str, dict[str, float]]:
    """Seconds to import and to load, in fresh processes."""
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way in WAYS:
            command = [sys.executable, "-c", START, way, str(places[way])]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[way].append(json.loads(done.stdout))
    medians = {way: [statistics.median(one) for one in zip(*pairs, strict=True)] for way, pairs in found.items()}
    return {way: {"import_s": round(at[0], 3), "load_s": round(at[1], 3)} for way, at in medians.items()}
