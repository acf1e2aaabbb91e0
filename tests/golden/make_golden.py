"""Makes the golden models, which every later version must still read: run it from the root of the checkout,

python -m tests.golden.make_golden NAME...

with the names of those to make anew, and only when the format changes on purpose: a model of an older format is there
to stay. It writes image/, table/ or video/ and expected.json beside itself.
"""

import json
import lzma
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from sklearn.datasets import load_breast_cancer, load_digits

from memae import Detector
from memae.modality import prepare
from memae.video.source import VideoSource

HERE = Path(__file__).parent
RECIPES = {
    "image": "scikit-learn's load_digits, each 8 x 8 px averaged to 4 x 4, uint8 in steps of 1/16 of 255; "
    "trained on the digit 1, scored: the first 20 of all digits",
    "table": "scikit-learn's load_breast_cancer, 6 columns, one made a category and one a boolean; trained on the "
    "benign rows, scored: the first 20 of all rows",
    "video": "frames of 32 x 32 px with a square that runs to and fro; trained on three videos of 80 frames, scored: "
    "one of 40 frames in which the square is larger and faster from frame 24 on. Of the weights of the convolutions "
    "the largest twentieth is kept, in 16 bits, so that the file packs small",
}
SETTINGS = {
    "image": {"train": {"epochs": 30}, "memory": {"num_items": 10}},
    "table": {"train": {"epochs": 30}, "memory": {"num_items": 10}},
    "video": {
        "video": {"height": 32, "width": 32, "crop_px": 16, "training_stride": 4, "place_px": 8, "stride": 8},
        "memory": {"num_items": 8, "warmup_epochs": 1},
        "train": {"epochs": 4, "batch_size": 8},
    },
}
KEPT_SHARE = 0.05


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


def videos(folder: Path) -> tuple[VideoSource, VideoSource]:
    """Those to train on and the one to score, as frames that are written into `folder`."""
    tapes = {f"normal/{start}": [(start + frame, 6) for frame in range(80)] for start in (0, 11, 23)}
    tapes["mixed/0"] = [(5 + frame, 6) if frame < 24 else (5 * frame, 11) for frame in range(40)]
    rows, columns = np.mgrid[:32, :32]
    for name, frames in tapes.items():
        (folder / name).mkdir(parents=True)
        for number, (steps, side) in enumerate(frames):
            picture = (40 + (7 * rows + 5 * columns) % 64).astype(np.uint8)
            left = min(steps % (2 * (32 - side)), -steps % (2 * (32 - side)))
            picture[12 : 12 + side, left : left + side] = 200
            Image.fromarray(picture).save(folder / name / f"{number:03d}.png")
    found = VideoSource([folder / "normal"]), VideoSource([folder / "mixed"])
    for source in found:
        source.origin = "the moving squares"  # and not where they were on this machine
    return found


def model_directory(name: str, folder: Path) -> Path:
    """The golden model of that name as it was saved; a packed one is unpacked into `folder`."""
    golden = HERE / name
    packed = golden / "model.safetensors.xz"
    if not packed.exists():
        return golden
    shutil.copy(golden / "config.json", folder)
    (folder / "model.safetensors").write_bytes(lzma.decompress(packed.read_bytes()))
    return folder


def main(names: list[str]) -> None:
    """Trains models on the CPU and writes down what they say."""
    expected = json.loads((HERE / "expected.json").read_text())
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            normal, mixed = data_of(name, Path(folder))
            detector = Detector(seed=0, settings=SETTINGS[name], device="cpu").fit(normal)
            if name == "video":
                thin(detector, normal)
            shutil.rmtree(HERE / name, ignore_errors=True)
            detector.save(HERE / name)
            if name == "video":
                pack(HERE / name / "model.safetensors")
            verdicts = detector.detect(mixed)
            expected[name] = {
                "recipe": RECIPES[name],
                "scores": verdicts.scores.tolist(),
                "p_values": verdicts.p_values.tolist(),
                "is_anomaly": verdicts.is_anomaly.tolist(),
                "threshold": verdicts.threshold,
            }
    (HERE / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


def data_of(name: str, folder: Path) -> tuple[Any, Any]:
    """What to train on and what to score; video goes through `folder`."""
    return videos(folder) if name == "video" else {"image": images, "table": rows}[name]()


@torch.no_grad()
def thin(detector: Detector, normal: VideoSource) -> None:
    """Drops most weights, and sets the threshold anew."""
    for weight in detector.model.parameters():
        if weight.ndim == 5:
            least = torch.quantile(weight.abs().flatten().double(), 1 - KEPT_SHARE)
            weight[weight.abs() < least] = 0
            weight.copy_(weight.bfloat16())
    prepared = prepare(normal, detector.config, detector.seed)
    modality, artifact = detector.modality, detector._fitted
    artifact = modality.examine(artifact, prepared.whole, None)
    detector._artifact = modality.calibrate(
        artifact, [modality.normal_scores(artifact, prepared.calibration, None)]
    )


def pack(file: Path) -> None:
    """Packs the file, which is mostly zeros."""
    file.with_name(file.name + ".xz").write_bytes(lzma.compress(file.read_bytes(), preset=9))
    file.unlink()


if __name__ == "__main__":
    main(sys.argv[1:])
