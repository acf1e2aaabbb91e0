import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_digits

from experiments.methods import METHODS
from experiments.methods.dagmm import dagmm
from experiments.methods.dcn import dcn
from experiments.methods.detectors import DETECTORS
from experiments.methods.kde import kde
from experiments.methods.pixelcnn import pixelcnn
from memae.image.config import TRAINING as IMAGE_TRAINING
from memae.table.config import TRAINING as TABLE_TRAINING
from tests.contract import check_method

PIXELS, DIGIT = load_digits(return_X_y=True)
IMAGES = (PIXELS * 255 / 16).reshape(-1, 1, 8, 8).astype(np.uint8)
NORMAL, OTHERS = IMAGES[DIGIT == 0][:130], IMAGES[DIGIT != 0][::40]
NOISE = np.random.default_rng(0).integers(0, 256, OTHERS.shape, dtype=np.uint8)
MEASURES, BENIGN = load_breast_cancer(return_X_y=True)
ROWS = MEASURES.astype(np.float32)


def colour(x: np.ndarray) -> np.ndarray:
    return np.concatenate([x, x // 2, 255 - x], axis=1)


DATA = {
    "grey": (NORMAL, OTHERS),
    "colour": (colour(NORMAL), colour(OTHERS)),
    "noise": (NORMAL, NOISE),
    "colour noise": (colour(NORMAL), colour(NOISE)),
    "table": (ROWS[BENIGN == 1][:130], ROWS[BENIGN == 0][::6]),
}
IMAGE, TABLE = ("grey", "colour"), ("table",)
FOR = {
    **{name: ("grey", "table") for name in DETECTORS if name != "memae"},  # one class with other settings
    "pixelcnn": ("noise", "colour noise"),  # its likelihood is of texture: one digit is as likely as another
    "1-nn-smooth-cosine": IMAGE,
    "pca-30": IMAGE,  # the table has no more columns
    "dcn": TABLE,
    "dagmm": TABLE,
}
CASES = [(name, kind) for name in METHODS for kind in FOR.get(name, IMAGE + TABLE)]
CANNOT_RANK = {
    *((name, kind) for name in ("untrained", "exact-match") for kind in IMAGE + TABLE),  # no new sample is a match
    ("1-nn-cosine", "table"),  # what is malignant is large, and a cosine knows no size
    ("1-nn-centred-cosine", "table"),
}

# What does not take its epochs from the presets, at a size for a hundred samples.
SMALL = {
    "kde": kde(bandwidths=(0.25, 0.5, 1.0)),
    "pixelcnn": pixelcnn(epochs=5, features=12, blocks=1),
    "dcn": dcn(pretraining=5, epochs=5),
    "dagmm": dagmm(epochs=20, batch_size=32, learning_rate=1e-3),
}


@pytest.fixture
def short_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """The presets' epochs are for thousands of samples."""
    short = {"epochs": 5, "batch_size": 16, "learning_rate": 3e-3}
    for network in ("mnist", "cifar10"):
        monkeypatch.setitem(IMAGE_TRAINING, network, short)
    monkeypatch.setitem(TABLE_TRAINING, "kddcup", short)


@pytest.mark.usefixtures("short_training")
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_every_method_keeps_the_contract(name: str, kind: str) -> None:
    check_method(SMALL.get(name, METHODS[name]), *DATA[kind], ranks=(name, kind) not in CANNOT_RANK)
