"""Differences of frames of a shaken camera against those of the same camera at rest."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, shift
from torch import Tensor

from memae.video.config import VideoConfig, preset
from memae.video.steady import steady_differences

HEIGHT, WIDTH, INNER = 96, 120, slice(8, -8)
SHIFTS = ((0.0, 0.0), (0.6, -0.4), (-1.0, 1.5), (2.0, 0.5), (0.3, -2.4))  # px down and to the right


def street(texture: float = 0.2, seed: int = 0) -> np.ndarray:
    ground = gaussian_filter(np.random.default_rng(seed).normal(size=(HEIGHT + 20, WIDTH + 20)), 2)
    scaled: np.ndarray = texture * ground / ground.std()
    return scaled


def film(places: np.ndarray, noise: float, walker_px: int = 20, texture: float = 0.2) -> Tensor:
    """(1, T, H, W): a bright square walks over a street while the camera is at these places (T, 2), px."""
    generator, frames = np.random.default_rng(1), []
    for number, place in enumerate(places):
        picture = street(texture)
        picture[40 : 40 + walker_px, 20 + 3 * number : 20 + 3 * number + walker_px] = 0.9
        seen = shift(picture, place, order=3, mode="nearest")[10:-10, 10:-10]
        frames.append(seen + noise * generator.normal(size=seen.shape))
    return torch.tensor(np.stack(frames), dtype=torch.float32)[None]


@pytest.mark.parametrize(("noise", "texture"), [(0.0, 0.2), (0.02, 0.2), (0.02, 0.0), (0.0, 0.0)])
@pytest.mark.parametrize("walker_px", [20, 50])
def test_differences_of_a_camera_at_rest_are_left_alone_to_the_last_bit(
    noise: float, texture: float, walker_px: int
) -> None:
    frames = film(np.zeros((6, 2)), noise, walker_px, texture)
    assert torch.equal(steady_differences(frames), frames.diff(dim=1))


def test_shaking_is_taken_out_and_a_walker_is_not() -> None:
    shaken, still = (film(np.array(places), 0.01) for places in (SHIFTS, np.zeros((len(SHIFTS), 2))))
    found, raw, wanted = steady_differences(shaken), shaken.diff(dim=1), still.diff(dim=1)
    apart, before = ((one - wanted).abs()[..., INNER, INNER] for one in (found, raw))
    # the walker's edges lie a px off where the camera has moved, so the median speaks of the street
    assert (apart.median() / before.median()).item() < 0.25
    walked = wanted.abs().amax(dim=(2, 3))
    assert (found.abs()[..., INNER, INNER].amax(dim=(2, 3)) > 0.7 * walked).all()


def test_each_clip_is_taken_alone_and_the_frames_are_left_alone() -> None:
    clips = torch.cat([film(np.array(SHIFTS), 0.02), film(np.zeros((len(SHIFTS), 2)), 0.02)])
    before = clips.clone()
    together = steady_differences(clips)
    assert torch.equal(together, torch.cat([steady_differences(clip[None]) for clip in clips]))
    assert torch.equal(clips, before)


@pytest.mark.parametrize("size", [(8, 8), (9, 31)])
def test_small_and_flat_frames_have_finite_differences(size: tuple[int, int]) -> None:
    flat = torch.zeros(1, 4, *size)
    assert (steady_differences(flat) == 0).all()
    noise = torch.rand(1, 4, *size, generator=torch.Generator().manual_seed(0))
    assert steady_differences(noise).isfinite().all()


def test_our_network_scores_steady_differences_and_the_published_one_frames() -> None:
    ours, published = (
        VideoConfig.model_validate(preset(*of)["video"]) for of in (("video", "default"), ("video-paper", "paper"))
    )
    assert (ours.input, ours.steady) == ("differences", True)
    assert (published.input, published.steady) == ("frames", False)
    assert not VideoConfig().steady  # a model that was saved without the setting
