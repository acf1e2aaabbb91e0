"""Background memory: what stands still and should not is found, and light, noise and a shaken camera are not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from memae.errors import DataError
from memae.video.background import Background, StillScorer
from memae.video.frames import Frames
from memae.video.scoring import patch_errors
from memae.video.standing import PERSISTENCE_S
from tests.small_street import GROUND, HEIGHT, RATE, WIDTH, street

PLACE_PX = 16


@pytest.fixture(scope="module")
def background() -> Background:
    fitted = Background.fit([street(25, seed) for seed in (1, 2)])
    assert fitted is not None
    return fitted


@pytest.fixture(scope="module")
def usual(background: Background) -> float:
    """The highest value of the maps of normal video that the memory was not fitted to."""
    return float(maps(background, street(20, 3)).max())


def maps(background: Background, frames: Frames) -> np.ndarray:
    return StillScorer(background, PLACE_PX).maps(frames)


def test_a_thing_that_is_left_is_found_where_it_stands(background: Background, usual: float) -> None:
    found = maps(background, street(12, 4, thing_s=4))
    peaks = found.max(axis=(1, 2))
    assert peaks[: 4 * RATE].max() < 1.2 * usual
    late = round((4 + PERSISTENCE_S) * RATE)
    assert peaks[late:].min() > 1.5 * usual
    row, column = np.unravel_index(found[late].argmax(), found[late].shape)
    # patches of 16 px, 8 px apart, around rows 40 to 48 and columns 20 to 28
    assert 32 <= 8 * row + 8 <= 56
    assert 12 <= 8 * column + 8 <= 36


def test_a_thing_that_is_taken_away_is_found_too(usual: float) -> None:
    fitted = Background.fit([street(25, seed, thing_s=0) for seed in (1, 2)])
    assert fitted is not None
    assert maps(fitted, street(8, 4))[-1].max() > 1.5 * usual


def test_a_walker_who_stops_is_found_after_a_while(background: Background, usual: float) -> None:
    peaks = maps(background, street(12, 4, walker_stops_s=4)).max(axis=(1, 2))
    assert peaks[: 4 * RATE].max() < 1.2 * usual
    assert peaks[round((4 + PERSISTENCE_S) * RATE) :].min() > 1.5 * usual


@pytest.mark.parametrize(
    "change", [{"gain": (1.0, 0.65)}, {"gain": (0.8, 1.15)}, {"shake_px": 1.0}, {"noise": 4.0}]
)
def test_light_shaking_and_noise_raise_no_alarm_that_lasts(
    background: Background, usual: float, change: dict[str, Any]
) -> None:
    peaks = maps(background, street(20, 5, **change)).max(axis=(1, 2))
    thing = maps(background, street(12, 4, thing_s=4))[-1].max()
    assert np.mean(peaks > 0.5 * (usual + thing)) < 0.05


def test_a_place_with_two_usual_looks_is_known_in_both() -> None:
    shown = street(60, 1)
    shown.pixels[:300, 4:12, 4:20] //= 2  # a gate that is open half of the time
    fitted = Background.fit([shown])
    assert fitted is not None
    for start in (0, 300):
        part = slice(start + 100, start + 200)
        found = maps(fitted, Frames(shown.pixels[part], shown.keys[part], "gate"))
        assert found[-1, :2, :2].max() < 3


def test_maps_lie_on_the_grid_of_the_motion_part(background: Background) -> None:
    frames = street(2, 1)
    grid = patch_errors(torch.zeros(1, 1, HEIGHT, WIDTH), PLACE_PX)[0, 0].shape
    found = maps(background, frames)
    assert found.shape == (len(frames), *grid)
    assert found.dtype == np.float32
    assert not found[:8].any()  # nothing lasts yet


def test_a_map_depends_on_the_past_alone_and_not_on_chunks(background: Background) -> None:
    frames = street(9, 4, thing_s=3)
    whole, scorer = maps(background, frames), StillScorer(background, PLACE_PX)
    parts = [
        scorer.maps(Frames(frames.pixels[part], frames.keys[part], "street"))
        for part in (slice(0, 7), slice(7, 50))
    ]
    assert np.array_equal(np.concatenate(parts), whole[:50])


def test_the_next_video_begins_anew(background: Background) -> None:
    scorer = StillScorer(background, PLACE_PX)
    assert scorer.maps(street(6, 4, thing_s=0))[-1].any()
    assert not scorer.maps(street(1, 4, video="another")).any()


def test_the_memory_is_small_and_its_tensors_give_the_same_maps(background: Background) -> None:
    tensors = background.tensors()
    assert sum(t.numel() * t.element_size() for t in tensors.values()) < 20 * HEIGHT * WIDTH
    loaded = Background.load(tensors)
    assert loaded is not None
    frames = street(6, 4, thing_s=0)
    assert np.array_equal(maps(loaded, frames), maps(background, frames))


def test_a_model_without_a_background_has_none_and_half_of_one_is_an_error(background: Background) -> None:
    assert Background.load({}) is None
    tensors = background.tensors()
    tensors.pop("background.variance")
    with pytest.raises(KeyError, match="variance"):
        Background.load(tensors)


def test_a_fit_is_the_same_each_time(background: Background) -> None:
    again = Background.fit([street(25, seed) for seed in (1, 2)])
    assert again is not None
    for name, tensor in again.tensors().items():
        assert torch.equal(tensor, background.tensors()[name])


def test_short_video_has_a_background_that_looks_back_as_far_as_it_can(background: Background) -> None:
    assert background.persistence_s == PERSISTENCE_S
    short = Background.fit([street(3, seed) for seed in (1, 2, 3)])
    assert short is not None
    assert short.persistence_s == pytest.approx(1.5, abs=0.1)
    late = slice(2 * RATE, None)
    usual, with_thing = (maps(short, frames)[late].max() for frames in (street(3, 4), street(3, 4, thing_s=0)))
    assert with_thing > 1.5 * usual
    loaded = Background.load(short.tensors())
    assert loaded is not None
    assert loaded.persistence_s == short.persistence_s


def test_a_model_of_before_looks_back_four_seconds(background: Background) -> None:
    tensors = {name: tensor for name, tensor in background.tensors().items() if "persistence" not in name}
    loaded = Background.load(tensors)
    assert loaded is not None
    assert loaded.persistence_s == PERSISTENCE_S


@pytest.mark.parametrize("bad", [torch.tensor([0.0]), torch.tensor([float("nan")]), torch.ones(2)])
def test_a_persistence_that_is_no_time_is_refused(background: Background, bad: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="persistence_s"):
        Background.load({**background.tensors(), "background.persistence_s": bad})


def test_single_frames_have_no_background() -> None:
    assert Background.fit([street(0.1)]) is None
    assert Background.fit([]) is None


def test_a_frame_of_another_size_is_refused(background: Background) -> None:
    with pytest.raises(DataError, match=r"a frame of 10 x 20 px, .* learnt on frames of 96 x 64"):
        StillScorer(background, PLACE_PX).push(np.zeros((20, 10), np.uint8), 0.0)


def test_frames_need_no_multiple_of_a_cell() -> None:
    odd = [replace(street(12, seed), pixels=street(12, seed).pixels[:, :61, :90]) for seed in (1, 2)]
    fitted = Background.fit(odd)
    assert fitted is not None
    assert fitted.prototypes.shape[1:] == (61, 90)
    assert np.isfinite(maps(fitted, odd[0])).all()


def test_what_is_covered_alarms(background: Background, usual: float) -> None:
    frames = street(8, 4)
    frames.pixels[40:] = GROUND[::-1, ::-1].round()  # the camera was turned to something else
    assert maps(background, frames)[-1].max() > 1.5 * usual
