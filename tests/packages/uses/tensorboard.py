"""Writes the logs of a training."""

from pathlib import Path

from memae import Detector
from memae.progress import TensorBoard

Detector(settings={"train": {"epochs": 2}}, device="cpu").fit("rows.csv", progress=TensorBoard(Path("logs")))
assert list(Path("logs").rglob("events.out.tfevents.*"))
