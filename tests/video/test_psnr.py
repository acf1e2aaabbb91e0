"""The score of MNAD and MPN, number by number."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from memae.autoencoder import Reconstruction
from memae.memory import MNAD
from memae.video.clips import Windows
from memae.video.psnr import Scale, decibel, distances, psnr_score
from tests.moving_squares import frames_of, squares

SCALE = Scale(low=(-40.0, 0.2), high=(-20.0, 0.6))


def test_the_psnr_of_a_mean_squared_error() -> None:
    assert_close(decibel(torch.tensor([1.0, 0.01, 0.0])), torch.tensor([0.0, -20.0, -100.0]))


def test_the_sum_of_both_terms() -> None:
    # .04 in [-1, 1] is .01 in [0, 1], a PSNR of 20 dB: g = 1. A distance of .3: g = .25
    found = psnr_score(torch.tensor([[0.04], [0.0004]]), torch.tensor([0.3, 0.6]), 0.6, SCALE)
    assert_close(found, torch.tensor([[0.6 * 1 + 0.4 * 0.25], [0.6 * 0 + 0.4 * 1]]))


def test_without_a_memory_the_psnr_is_all() -> None:
    assert_close(psnr_score(torch.tensor([[0.004]]), None, 0.6, SCALE), torch.tensor([[0.5]]))


def test_a_term_without_spread_counts_its_difference() -> None:
    assert_close(Scale((0.0, 0.5), (1.0, 0.5)).scaled(torch.tensor([0.5, 0.7]), 1), torch.tensor([0.0, 0.2]))


def rebuilt() -> Reconstruction:
    memory = MNAD(2, 2)
    memory.items.copy_(torch.eye(2))
    queries: Tensor = torch.tensor([[[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [0.0, 2.0]]])
    return Reconstruction(torch.zeros(1, 1, 1, 4, 4), memory.read(queries), (1, 2, 2))


@pytest.mark.parametrize(("form", "expected"), [("mean", 0.4**0.5 / 4), ("square", 0.1), ("decibel", -8.0103)])
def test_the_distance_in_its_forms(form: str, expected: float) -> None:
    # only (.6, .8) is away from its item: |q - p|^2 = .36 + .04
    assert_close(distances(rebuilt(), form), torch.tensor([expected]), atol=1e-4, rtol=0)  # type: ignore[arg-type]


def test_a_mask_leaves_queries_out() -> None:
    watched = torch.ones(4, 4)
    watched[:2, 2:] = 0  # the second query
    assert_close(distances(rebuilt(), "mean", watched), torch.zeros(1))
    only = 1 - watched
    assert_close(distances(rebuilt(), "square", only), torch.tensor([0.4]))


def test_there_is_no_distance_without_a_memory() -> None:
    assert distances(Reconstruction(torch.zeros(1, 1, 1, 4, 4), None), "mean") is None


def test_a_clip_owns_the_frame_that_is_predicted_and_the_first_one_those_before() -> None:
    windows = Windows(5, 1, latest=True)
    owned = [list(clip.owned) for clip in windows.clips([frames_of(squares(8))])]
    assert owned == [[0, 1, 2, 3, 4], [4], [4], [4]]
    assert Windows(5, 2, latest=True).first_owned == 3


def test_a_scale_is_read_as_it_was_written() -> None:
    assert Scale.load(SCALE.tensors()) == SCALE
    assert Scale.load({}) is None
    with pytest.raises(ValueError, match="psnr_scale"):
        Scale.load({"psnr_scale": torch.zeros(2)})
