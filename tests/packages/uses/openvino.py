"""Scores by OpenVINO as by torch."""

import numpy as np

from memae import Detector

by_openvino, by_torch = (
    Detector.load("rows.model", device="cpu", engine=engine).score("rows.csv").values
    for engine in ("openvino", "torch")
)
assert np.allclose(by_openvino, by_torch, rtol=1e-4)
