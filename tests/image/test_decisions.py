"""What normal images decide: their scale and the smoothing of their residuals."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from memae import Detector
from memae.image.config import ImageConfig
from memae.image.decisions import scale_for, smooth_px_for
from tests.small_detectors import BRIEF, ONES

GENERATOR = np.random.default_rng(0)
BLOBS = gaussian_filter(GENERATOR.random((60, 16, 16)), (0, 2, 2)) > 0.5
SHAPES = torch.from_numpy(BLOBS / np.sqrt(BLOBS.mean(axis=(1, 2), keepdims=True)))[:, None].float()
"""Black, with white blobs; all of one brightness."""


def varied(share: float) -> torch.Tensor:
    """Factors (60, 1, 1, 1) about 1 of that standard deviation."""
    return torch.linspace(-1, 1, 60).reshape(60, 1, 1, 1) * share * 3**0.5 + 1


@pytest.mark.parametrize(
    ("x", "scale"),
    [
        (SHAPES, "shared"),
        (SHAPES * varied(0.03), "shared"),
        (SHAPES * varied(0.07), "unit"),
        (SHAPES * varied(0.3), "unit"),
        (SHAPES + 0.01 * varied(0.5), "shared"),
        (SHAPES + varied(0.3), "centred"),
        (SHAPES * varied(0.3) + varied(0.3), "centred"),
    ],
    ids=["equal", "nearly", "brightness", "more", "a little light", "background", "both"],
)
@pytest.mark.parametrize("gain", [1.0, 20.0])
def test_the_scale_follows_from_what_varies(x: torch.Tensor, scale: str, gain: float) -> None:
    assert scale_for(gain * x) == scale


@pytest.mark.parametrize(
    ("sigma", "side", "smooth_px"), [(0, 32, 0.5), (0.85, 32, 1.0), (1.7, 32, 2.0), (1.7, 24, 1.5), (1.7, 8, 0.5)]
)
def test_the_smoothing_is_the_distance_at_which_pixels_still_resemble_each_other(
    sigma: float, side: int, smooth_px: float
) -> None:
    """Of Gaussian noise smoothed by sigma, pixels d apart correlate with exp(-(d / 2 sigma)^2): 0.7 at 1.2 sigma."""
    noise = gaussian_filter(GENERATOR.normal(size=(200, 1, side, side)), (0, 0, sigma, sigma), mode="wrap")
    assert smooth_px_for(torch.from_numpy(noise).float()) == smooth_px


def test_equal_images_and_lines_have_a_smoothing_too() -> None:
    assert smooth_px_for(torch.ones(5, 1, 8, 8)) == 0.5
    assert smooth_px_for(torch.from_numpy(GENERATOR.normal(size=(50, 1, 1, 64))).float()) == 0.5


def test_small_images_without_a_preset_take_the_network_of_the_published_figures(tmp_path: Path) -> None:
    detector = Detector(settings=BRIEF).fit(ONES)
    settings = ImageConfig.of(detector.config)
    assert (detector.config.network, settings.scale, settings.smooth_px) == ("small", "unit", 0.5)
    detector.save(tmp_path / "model")
    loaded = Detector.load(tmp_path / "model")
    assert loaded.config == detector.config
    np.testing.assert_array_equal(loaded.score(ONES).values, detector.score(ONES).values)


@pytest.mark.parametrize(
    ("settings", "network", "scale"),
    [
        ({"image": {"scale": "centred", "smooth_px": 0}}, "small", "centred"),
        ({"network": "image"}, "image", "unit"),
        ({"image": {"tile_px": 16}}, "scene", "unit"),
    ],
)
def test_what_is_set_is_not_decided(settings: dict[str, Any], network: str, scale: str) -> None:
    x = ONES.repeat(2, 1).repeat(2, 2) if "tile_px" in settings.get("image", {}) else ONES
    found = Detector(settings=BRIEF | settings).fit(x[:60]).config
    assert (found.network, ImageConfig.of(found).scale) == (network, scale)
    assert ImageConfig.of(found).smooth_px == 0


def test_an_image_that_is_too_dark_stands_out_where_brightness_does_not_vary() -> None:
    """By the scale "unit" it scores as the image that it is a darker copy of."""
    x = (SHAPES[:, 0] / SHAPES.max() * 200).round().numpy().astype(np.uint8)
    dark = (0.5 * x).astype(np.uint8)
    settings = {"train": {"epochs": 40}, "memory": {"num_items": 60}, "threshold": {"false_alarm_rate": 0.2}}
    shared, unit = (Detector(settings=settings | {"image": {"scale": scale}}).fit(x) for scale in (None, "unit"))
    assert ImageConfig.of(shared.config).scale == "shared"
    assert np.median(shared.score(dark).values) > 1.5 * np.median(shared.score(x).values)
    assert np.median(unit.score(dark).values) < 1.1 * np.median(unit.score(x).values)
