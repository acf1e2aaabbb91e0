"""Makes the golden models, which every later version must still read: run it from the root of the checkout,

python -m tests.golden.make_golden

and only when the format changes on purpose. It writes image/, table/ and expected.json beside itself.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer, load_digits

from memae import Detector

HERE = Path(__file__).parent
RECIPES = {
    "image": "scikit-learn's load_digits, each 8 x 8 px averaged to 4 x 4, uint8 in steps of 1/16 of 255; "
    "trained on the digit 1, scored: the first 20 of all digits",
    "table": "scikit-learn's load_breast_cancer, 6 columns, one made a category and one a boolean; trained on the "
    "benign rows, scored: the first 20 of all rows",
}


def images() -> tuple[np.ndarray, np.ndarray]:
    """Those to train on (S, 4, 4) and those to score (20, 4, 4)."""
    pixels, digit = load_digits(return_X_y=True)
    small = pixels.reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4))
    pictures = np.round(small * 255 / 16).astype(np.uint8)
    return pictures[digit == 1], pictures[:20]


def rows() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Those to train on and those to score."""
    data = load_breast_cancer(as_frame=True)
    frame = data.frame.iloc[:, [0, 1, 2, 4]].assign(
        shape=np.where(data.frame["mean concavity"] > 0.1, "hollow", "plain"),
        symmetric=data.frame["mean symmetry"] < 0.18,
    )
    return frame[data.target == 1], frame[:20]


def main() -> None:
    """Trains both models on the CPU and writes down what they say."""
    expected = {}
    for name, (normal, mixed) in {"image": images(), "table": rows()}.items():
        settings = {"train": {"epochs": 30}, "memory": {"num_items": 10}}
        detector = Detector(seed=0, settings=settings, device="cpu").fit(normal)
        detector.save(HERE / name)
        verdicts = detector.detect(mixed)
        expected[name] = {
            "recipe": RECIPES[name],
            "scores": verdicts.scores.tolist(),
            "p_values": verdicts.p_values.tolist(),
            "is_anomaly": verdicts.is_anomaly.tolist(),
            "threshold": verdicts.threshold,
        }
    (HERE / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
