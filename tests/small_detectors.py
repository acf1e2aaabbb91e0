"""A small detector of images or rows, which the tests of the detector and of its making share."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.datasets import load_breast_cancer, load_digits

from memae import Detector

BRIEF = {"train": {"epochs": 3}, "memory": {"num_items": 12, "warmup_epochs": 0}}
PIXELS, DIGITS = load_digits(return_X_y=True)
ONES = PIXELS[DIGITS == 1].reshape(-1, 8, 8).astype(np.uint8)
OTHERS = PIXELS[DIGITS != 1].reshape(-1, 8, 8).astype(np.uint8)
CANCER = load_breast_cancer(as_frame=True)
ROWS = CANCER.frame[CANCER.target == 1].drop(columns="target").iloc[:, :8]
MALIGNANT = CANCER.frame[CANCER.target == 0].drop(columns="target").iloc[:, :8]


def fit(
    x: np.ndarray | pd.DataFrame, preset: str | None = None, *, seed: int = 0, **settings: dict[str, Any]
) -> Detector:
    brief = {name: values | settings.pop(name, {}) for name, values in BRIEF.items()}
    return Detector(preset, seed=seed, settings=brief | settings).fit(x)


def weights(detector: Detector) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in detector.model.state_dict().items()}


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())
