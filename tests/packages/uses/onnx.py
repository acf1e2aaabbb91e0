"""Fits a few images by features of an ONNX file: the mean of 8 x 8 px of each channel."""

from pathlib import Path

import numpy as np

from memae import Detector

# AveragePool of opset 17 with kernel and strides (8, 8): x (batch, 3, height, width) to maps (batch, 3, h, w)
FILE = (
    "080812003a9b010a3f0a017812046d617073220b41766572616765506f6f6c2a150a0c6b65726e656c5f736861706540"
    "084008a001072a100a077374726964657340084008a0010712046d65616e5a2b0a017812260a24080112200a07120562"
    "617463680a0208030a0812066865696768740a071205776964746862250a046d617073121d0a1b080112170a07120562"
    "617463680a0208030a031201680a0312017742040a001011"
)

Path("mean.onnx").write_bytes(bytes.fromhex(FILE))
images = np.random.default_rng(0).integers(90, 160, (24, 96, 96), np.uint8)
settings = {
    "image": {"backbone": "mean.onnx"},
    "memory": {"num_items": 20},
    "threshold": {"false_alarm_rate": 0.2},
}
detector = Detector(settings=settings, device="cpu").fit(images)
assert detector.config.network == "features"
assert np.isfinite(detector.score(images).values).all()
