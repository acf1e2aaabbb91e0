"""One artifact, two engines: scores equal to 1e-4, and equal verdicts but for scores so close to the threshold."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memae import Detector
from memae.modality import modalities
from tests.moving_squares import Reel, squares

CLOSE = 1e-4  # relative
VARIANTS: dict[str, Any] = {
    "": (),
    "-paper": pytest.mark.real,
    "-released": pytest.mark.real,
}  # "real" also means: takes longer
PRESETS = [
    pytest.param(kind.name, network + variant, id=network + variant, marks=() if network == "video" else marks)
    for kind in modalities()
    for network in kind.networks
    if "-" not in network
    for variant, marks in VARIANTS.items()
]
TINY: dict[str, dict[str, Any]] = {
    "train": {"epochs": 1, "batch_size": 8},
    "memory": {"num_items": 8, "warmup_epochs": 0},
    "threshold": {"calibration_share": 0.4, "false_alarm_rate": 0.2},
}
OWN = {
    "video": {"height": 32, "width": 32, "training_stride": 8},
    "image": {},
    "table": {},
}
CROPS = {"crop_px": 16, "crops_per_clip": 1, "place_px": 8}


def samples(kind: str, preset: str, seed: int, anomalous: bool) -> Any:
    rng = np.random.default_rng(seed)
    if kind == "video":
        return Reel({f"{seed}": squares(64, seed=seed, speed=5 if anomalous else 1)})
    if kind == "table":
        return rng.normal(size=(60, 12)) @ np.random.default_rng(0).normal(size=(12, 12)) * (3 if anomalous else 1)
    size, channels = (
        (72, 3) if preset.startswith(("image", "scene", "features")) else (32, 3) if "cifar" in preset else (28, 1)
    )
    if anomalous:
        return rng.integers(0, 256, (40, size, size, channels), dtype=np.uint8)
    bars = np.zeros((40, size, size, channels), np.uint8)
    for bar in bars:
        at = rng.integers(2, size - 6)
        bar[at : at + 4] = 200
    return bars


@pytest.mark.parametrize(("kind", "preset"), PRESETS)
def test_torch_and_openvino_say_the_same_of_a_saved_model(kind: str, preset: str, tmp_path: Path) -> None:
    own = OWN[kind] | (CROPS if preset == "video" else {})
    settings = (
        TINY | {kind: own} | ({"train": {}} if preset.startswith("features") else {})
    )  # which trains nothing
    Detector(preset, settings=settings, device="cpu", engine="torch").fit(samples(kind, preset, 1, False)).save(
        tmp_path / "model"
    )
    by_torch, by_openvino = (
        Detector.load(tmp_path / "model", device="cpu", engine=engine) for engine in ("torch", "openvino")
    )
    assert (by_torch.engine_choice.name, by_openvino.engine_choice.name) == ("torch", "openvino")
    threshold, flagged = by_torch.threshold.value, 0
    for anomalous in (False, True):
        x = samples(kind, preset, 2, anomalous)
        wanted, found = by_torch.detect(x), by_openvino.detect(x)
        # a score of PSNR lies on both sides of 0, so it is held against the spread of the scores
        by_psnr = by_torch.config.model_dump().get("video", {}).get("score") == "psnr"
        near_zero = CLOSE * float(np.ptp(wanted.scores)) if by_psnr else 0.0
        np.testing.assert_allclose(found.scores, wanted.scores, rtol=CLOSE, atol=near_zero)
        other = found.is_anomaly != wanted.is_anomaly
        np.testing.assert_allclose(wanted.scores[other], threshold, rtol=CLOSE, atol=near_zero)
        np.testing.assert_allclose(found.p_values[~other], wanted.p_values[~other], atol=0.2)
        flagged += int(wanted.is_anomaly.sum())
    assert flagged
