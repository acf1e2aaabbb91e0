from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_digits

from memae import Detector
from memae.memory.base import memory_presets
from memae.modality import modalities, modality_of
from tests.contract import check_detector

PIXELS, DIGIT = load_digits(return_X_y=True)
IMAGES = (PIXELS * 255 / 16).reshape(-1, 8, 8).astype(np.uint8)
MEASURES, BENIGN = load_breast_cancer(return_X_y=True)
NORMAL_ROWS = MEASURES[BENIGN == 1]

# Malignant rows lie far out, which an untrained network sees as well. The anomalous rows here have ordinary values
# that do not belong together: each column is shuffled by itself.
SHUFFLE = np.random.default_rng(0)
SHUFFLED_ROWS = np.stack([SHUFFLE.permutation(column) for column in NORMAL_ROWS.T], axis=1)

DATA = {
    "image": (IMAGES[DIGIT == 6][:140], IMAGES[DIGIT != 6][::15]),
    "table": (NORMAL_ROWS, SHUFFLED_ROWS[::2]),
}
LEARNING_RATE = {"image": 1e-3, "table": 3e-3}
# arrays are no video: tests/test_detector_video.py holds what a detector of video must do
OF_ARRAYS = [
    network
    for modality in modalities()
    if modality.name in DATA
    for network in modality.networks
    if network != "features"
]
PRESETS = [f"{network}{variant}" for network in OF_ARRAYS for variant in ("", "-paper", "-released")]

# The released code's lambda of 5/N over a plain dot product: with few items and small encodings no weight passes
# it, every read is rescued to its best item at a weight of exactly 1, and the encoder never gets a gradient.
ENCODER_NEVER_LEARNS = ("image-released", "scene-released", "kddcup-released", "table-released", "wide-released")


def check(preset: str | None, modality: str, settings: dict[str, Any] | None = None, **expected: Any) -> None:
    def make(*, seed: int = 0, **train: int) -> Detector:
        section = {"epochs": 12, "batch_size": 16, "learning_rate": LEARNING_RATE[modality]} | train
        return Detector(preset, seed=seed, settings={"train": section} | (settings or {}), device="cpu")

    check_detector(make, *DATA[modality], **expected)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_keeps_the_contract(preset: str) -> None:
    check(
        preset,
        modality_of(preset.split("-", maxsplit=1)[0]).name,
        encoder_learns=preset not in ENCODER_NEVER_LEARNS,
    )


@pytest.mark.parametrize(
    "preset",
    [f"{network}-{memory}" for network in ("small", "wide") for memory in memory_presets() if memory != "mpn"],
)
def test_every_preset_of_a_memory_keeps_the_contract(preset: str) -> None:
    # a random encoder keeps distances about as well as a trained one
    check(preset, modality_of(preset.partition("-")[0]).name, ranks=not preset.endswith("memstream"))


def test_prototypes_of_a_sample_keep_the_contract() -> None:
    # rows, and the network `small`, have one position; the decoder gets every query, so it rebuilds other digits too
    check("image-mpn", "image", ranks=False)


@pytest.mark.parametrize("modality", DATA)
def test_the_choice_by_the_data_keeps_the_contract(modality: str) -> None:
    check(None, modality)


@pytest.mark.parametrize("modality", DATA)
def test_the_plain_autoencoder_keeps_the_contract(modality: str) -> None:
    check(None, modality, settings={"memory": {"enabled": False}})
