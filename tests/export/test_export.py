"""What an export writes, and what it refuses."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import pytest

from memae import Detector, MemaeError
from memae.errors import ConfigError, DataError, MissingExtraError, WriteError
from memae.export import export_model
from memae.export.parity import ExportError
from memae.export.program import OnnxRuntime
from memae.modality import ScoringGraph
from tests.export.exported import described
from tests.small_detectors import fit


def test_the_file_stands_alone_and_its_batch_is_free(table_onnx: Path) -> None:
    assert sorted(file.name for file in table_onnx.iterdir()) == ["model.json", "model.onnx"]
    model = onnx.load(table_onnx / "model.onnx", load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} == {""}
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    for port in (*model.graph.input, *model.graph.output):
        assert port.type.tensor_type.shape.dim[0].dim_param == "batch"


def test_model_json_says_what_goes_in_and_out(table: Detector, table_onnx: Path) -> None:
    said = described(table_onnx)
    assert [port["name"] for port in said["inputs"]] == ["numbers", "codes"]
    assert [port["name"] for port in said["outputs"]] == ["score", "is_anomaly", "column_errors"]
    assert said["threshold"]["value"] == table.threshold.value
    assert said["checked"]["batch_sizes"] == [1, 4]
    assert said["checked"]["largest_difference"] < 1e-5
    assert len(said["golden"]["samples"]) == len(said["golden"]["scores"]) == 4
    json.dumps(said, allow_nan=False)


def test_a_graph_that_scores_otherwise_than_the_library_is_refused(
    table: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest: Any = table.modality.scoring_graph

    def slightly_off(artifact: Any, layout: Any) -> ScoringGraph:
        graph: ScoringGraph = honest(artifact, layout)
        return replace(graph, golden_scores=graph.golden_scores * (1 + 2e-4))

    monkeypatch.setattr(type(table.modality), "scoring_graph", staticmethod(slightly_off))
    with pytest.raises(ExportError, match=r"the graph differs from memae by 0.0002 in the output 'score'"):
        export_model(table.artifact, tmp_path / "out", "onnx")
    assert [*tmp_path.iterdir()] == []


def test_a_runtime_that_scores_otherwise_leaves_nothing_of_the_file(
    table: Detector, table_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def written(self: OnnxRuntime, program: object, graph: object, folder: Path) -> None:
        model = onnx.load(table_onnx / "model.onnx")
        for tensor in model.graph.initializer:
            if tensor.name.endswith("weight"):
                values = onnx.numpy_helper.to_array(tensor) * np.float32(1.001)
                tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
        onnx.save(model, folder / "model.onnx")

    monkeypatch.setattr(OnnxRuntime, "write", written)
    monkeypatch.setattr("memae.export.model.traced", lambda graph: None)
    with pytest.raises(ExportError, match=r"onnxruntime .* differs from memae by .* in batches of 1"):
        export_model(table.artifact, tmp_path / "out", "onnx")
    assert [*tmp_path.iterdir()] == []


def test_what_a_format_does_not_know_is_named(
    table: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(self: OnnxRuntime, program: object, graph: object, folder: Path) -> None:
        try:
            raise LookupError("No ONNX function found for aten.special")
        except LookupError as error:
            raise RuntimeError("Next steps: create an issue") from error

    monkeypatch.setattr(OnnxRuntime, "_write", unknown)
    monkeypatch.setattr("memae.export.model.traced", lambda graph: None)
    with pytest.raises(
        ConfigError, match=r"cannot be written for onnxruntime \(No ONNX function found for aten.spec"
    ):
        export_model(table.artifact, tmp_path / "out", "onnx")
    assert [*tmp_path.iterdir()] == []


def test_an_earlier_export_is_replaced_and_anything_else_is_kept(table: Detector, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(WriteError, match=r"holds 'notes.txt', which is of no export"):
        export_model(table.artifact, tmp_path, "onnx")
    with pytest.raises(WriteError, match="is a file; name a directory"):
        export_model(table.artifact, tmp_path / "notes.txt", "onnx")


def test_unknown_words_are_refused(table: Detector, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"`to='tensorrt'`: give 'onnx' or 'openvino'"):
        export_model(table.artifact, tmp_path / "out", "tensorrt")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"`layout='anomalib'`: a model of tables has 'memae'"):
        export_model(table.artifact, tmp_path / "out", "onnx", layout="anomalib")


def test_a_package_that_is_missing_is_named_with_the_command(
    table: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memae.export.program.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'memae\[export\]'"):
        export_model(table.artifact, tmp_path / "out", "onnx")


def test_a_model_of_tiles_is_refused_with_the_cure(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (12, 1, 20, 24), dtype=np.uint8)
    tiled = fit(images, image={"tile_px": 16, "tile_overlap_px": 4})
    with pytest.raises(DataError, match=r"cuts images into tiles cannot be exported.*image.size_px"):
        export_model(tiled.artifact, tmp_path / "out", "onnx")


def test_a_threshold_between_two_float32_numbers_flags_as_in_float64(image: Detector) -> None:
    import torch

    from memae.modality import above

    score = np.float32(0.1)
    for at, flagged in ((float(score), False), (float(score) - 1e-12, True), (float(score) + 1e-12, False)):
        moved = replace(image.threshold, at=at)
        assert above(torch.tensor([score]), moved).tolist() == [flagged] == [float(score) > at]
    assert not above(torch.tensor([score]), None).any()


def test_errors_are_those_of_the_library() -> None:
    assert issubclass(ExportError, MemaeError)
