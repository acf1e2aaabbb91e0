"""Fits, saves, loads and scores a small table by the library and by the command; later files score its model."""

import subprocess
import sys
from pathlib import Path

import numpy as np

import memae
from memae import Detector

assert "site-packages" in memae.__file__, memae.__file__
rows = np.random.default_rng(0).normal(size=(200, 4))
Path("rows.csv").write_text(
    "a,b,c,d\n" + "".join(",".join(map(str, row)) + "\n" for row in rows), encoding="utf-8"
)
brief = {"train": {"epochs": 3}, "memory": {"num_items": 12}}
detector = Detector(settings=brief, device="cpu").fit("rows.csv")
detector.save("rows.model")
scores = Detector.load("rows.model", device="cpu").score("rows.csv").values
assert np.array_equal(scores, detector.score("rows.csv").values)
command = [
    sys.executable,
    "-m",
    "memae",
    "score",
    "rows.model",
    "rows.csv",
    "--out",
    "scores.csv",
    "--device",
    "cpu",
]
subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
assert len(Path("scores.csv").read_text(encoding="utf-8").splitlines()) == 201
