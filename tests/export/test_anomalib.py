"""The layout "anomalib", used as its OpenVINOInferencer uses a file (anomalib 2, deploy/inferencers)."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from memae import Detector
from memae.engine.openvino import openvino_core
from memae.errors import DataError
from memae.export import export_model
from tests.small_detectors import ONES, OTHERS, fit


def inferred(folder: Path, picture: np.ndarray) -> dict[str, Any]:
    """What the inferencer gives for one picture (H, W, 3) of 0 to 255, which it scales and turns to channels first."""
    compiled = openvino_core().compile_model(folder / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    scaled = picture.astype(np.float32) / 255
    found = compiled({compiled.input(0).any_name: scaled[None].transpose(0, 3, 1, 2)})
    return dict(zip([next(iter(name)) for name in found.names()], found.to_tuple(), strict=True))


@pytest.mark.slow
def test_pictures_of_any_size_give_the_scores_of_the_library(image: Detector, tmp_path: Path) -> None:
    folder = export_model(image.artifact, tmp_path / "out", "openvino", layout="anomalib").folder
    for pixels in (ONES[0] * 15, OTHERS[0] * 15):
        found = inferred(folder, np.repeat(pixels[..., None], 3, axis=2))
        wanted = image.detect(pixels[None], explained="all")
        assert set(found) == {"pred_score", "pred_label", "anomaly_map", "pred_mask"}
        assert found["pred_score"].shape == found["pred_label"].shape == (1, 1)
        assert found["anomaly_map"].shape == found["pred_mask"].shape == (1, 1, 8, 8)
        assert found["pred_label"].dtype == found["pred_mask"].dtype == bool
        np.testing.assert_allclose(found["pred_score"][0], wanted.scores, rtol=1e-4)
        assert found["pred_label"][0, 0] == wanted.is_anomaly[0]
        np.testing.assert_allclose(
            found["anomaly_map"][0, 0], np.asarray(wanted.explanations[0].anomaly_map), rtol=1e-3, atol=1e-5
        )
        assert np.array_equal(found["pred_mask"], found["anomaly_map"] > image.map_threshold)
    large = np.asarray(Image.fromarray(ONES[1] * 15).convert("RGB").resize((23, 19)))
    Image.fromarray(large).save(tmp_path / "one.png")
    score = image.score(tmp_path / "one.png").values[0]
    assert inferred(folder, large)["pred_score"][0, 0] == pytest.approx(score, rel=0.02)  # resized to a level


def test_images_that_are_not_of_8_bits_are_refused(tmp_path: Path) -> None:
    fractions = fit(ONES.astype(np.float32) / 16)
    with pytest.raises(
        DataError, match=r"'anomalib' has colour of 0 to 1, .* 1 channels of 0 to 1; take the layout"
    ):
        export_model(fractions.artifact, tmp_path / "out", "openvino", layout="anomalib")
