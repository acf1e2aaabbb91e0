"""Exports for both runtimes; each export compares golden samples in its runtime."""

from memae import Detector
from memae.export import export_model

artifact = Detector.load("rows.model", device="cpu").artifact
for target in ("onnx", "openvino"):
    assert export_model(artifact, f"rows_{target}", target).parity.largest_difference < 1e-4
