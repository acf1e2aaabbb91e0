"""bfloat16 beside float32: the bounds that docs/video.md states, on a processor that has both."""

from typing import Any

import numpy as np
import pytest
import torch

from memae import Detector
from memae.engine import fast_bfloat16
from memae.modality import build, preset_config
from memae.training.objective import ReconstructionObjective
from tests.moving_squares import Reel, squares

pytestmark = pytest.mark.skipif(not fast_bfloat16(), reason="needs a CPU with bfloat16")

LOSS, GRADIENT, SCORE = 0.002, 0.15, 0.1  # bounds, relative


@pytest.mark.parametrize("preset", ["video", "video-paper", "video-released"])
def test_a_step_in_bfloat16_has_the_loss_and_the_gradient_of_one_in_float32(preset: str) -> None:
    torch.manual_seed(0)
    config, shape = preset_config(preset, "video"), (1, 16, 32, 32)
    model, x = build(config, shape), torch.randn(4, *shape)
    objective, found = ReconstructionObjective(reduction=config.train.reduction), {}
    for half in (False, True):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            made = objective(model, x)
        made.loss.backward()
        found[half] = (
            made.loss.item(),
            torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]),
        )
    (loss, gradient), (half_loss, half_gradient) = found[False], found[True]
    assert half_loss == pytest.approx(loss, rel=LOSS)
    assert not torch.equal(half_gradient, gradient)
    assert (half_gradient - gradient).norm() < GRADIENT * gradient.norm()


def test_a_training_in_bfloat16_scores_nearer_to_float32_than_another_seed_does() -> None:
    normal = Reel({str(seed): squares(64, seed=seed) for seed in range(2)})
    fresh = Reel({"fresh": squares(80, seed=11)})
    scores = {}
    for precision, seed in (("float32", 0), ("bf16", 0), ("float32", 1)):
        settings: dict[str, Any] = {
            "video": {"height": 32, "width": 32, "crop_px": 16, "training_stride": 4, "place_px": 8},
            "memory": {"num_items": 8, "warmup_epochs": 1},
            "train": {"epochs": 4, "batch_size": 8, "precision": precision},
        }
        detector = Detector("video", seed=seed, settings=settings, device="cpu", engine="torch").fit(normal)
        scores[precision, seed] = detector.score(fresh).values
    base = scores["float32", 0]
    by_precision, by_seed = (
        np.median(np.abs(scores[other] / base - 1)) for other in (("bf16", 0), ("float32", 1))
    )
    assert 0 < by_precision < SCORE
    assert by_precision < by_seed
