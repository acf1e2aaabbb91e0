"""Fits PyOD's detector."""

import numpy as np

from memae.pyod import MemAE

rows = np.random.default_rng(0).normal(size=(200, 3))
detector = MemAE(contamination=0.05, settings={"train": {"epochs": 3}}, random_state=0).fit(rows)
assert len(detector.decision_scores_) == 200
