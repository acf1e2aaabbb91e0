"""Fits a few images by the frozen features that the extra brings."""

import numpy as np

from memae import Detector

images = np.random.default_rng(0).integers(90, 160, (24, 96, 96), np.uint8)
settings = {"memory": {"num_items": 20}, "threshold": {"false_alarm_rate": 0.2}}
detector = Detector("features", settings=settings, device="cpu").fit(images)
assert np.isfinite(detector.score(images).values).all()
