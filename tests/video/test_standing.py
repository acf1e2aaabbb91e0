"""What stands still: the median of the last seconds, without light and shaking."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.ndimage import shift

from memae.video.standing import PERSISTENCE_S, StandingView, log_contrast
from tests.small_street import GROUND, RATE, street

LOOK = log_contrast(GROUND.round().astype(np.uint8))


def view_of(seconds: float, **changes: Any) -> np.ndarray:
    frames, view = street(seconds, **changes), StandingView(LOOK)
    for pixels, key in zip(frames.pixels, frames.keys, strict=True):
        view.push(pixels, key.time_s)
    standing = view.standing()
    assert standing is not None
    return standing.view


def test_contrast_is_free_of_light_that_is_smooth_over_the_frame() -> None:
    tilted = GROUND * 0.7 * np.linspace(0.8, 1.2, GROUND.shape[1])
    # what the constant of the logarithm leaves is far below the texture
    apart = log_contrast(tilted.round().astype(np.uint8)) - LOOK
    assert np.abs(apart).mean() < 0.15 * np.abs(LOOK).mean()


def test_who_walks_by_leaves_no_trace_and_who_stops_does() -> None:
    path = np.zeros(GROUND.shape, dtype=bool)
    path[20:34] = True
    assert np.abs(view_of(6) - LOOK)[path].max() < 0.15
    assert np.abs(view_of(8, walker_stops_s=2) - LOOK)[path].max() > 0.3


def test_nothing_is_said_before_half_of_the_persistence_was_seen() -> None:
    frames, view = street(PERSISTENCE_S), StandingView(LOOK)
    seen = []
    for pixels, key in zip(frames.pixels, frames.keys, strict=True):
        view.push(pixels, key.time_s)
        seen.append(view.standing() is not None)
    first_s = seen.index(True) / RATE
    assert 0.4 * PERSISTENCE_S <= first_s <= 0.6 * PERSISTENCE_S
    assert all(seen[seen.index(True) :])


def test_what_moves_slowly_is_told_from_what_stands() -> None:
    frames, view = street(6, walker_stops_s=0, noise=1), StandingView(LOOK)
    for number, key in enumerate(frames.keys):
        left = 20 + number // 4  # a quarter of a px a frame
        frames.pixels[number, 40:60, left : left + 24 : 2] = 25
        frames.pixels[number, 2:12, 60:80] = 25
        view.push(frames.pixels[number], key.time_s)
    standing = view.standing()
    assert standing is not None
    apart = (standing.view - LOOK) ** 2
    slow, still = (slice(42, 58), slice(32, 54)), (slice(2, 12), slice(60, 80))
    for place in (slow, still):
        assert apart[place].mean() > 20 * np.median(apart)
    assert standing.change[slow].mean() > 0.3 * apart[slow].mean()
    assert standing.change[still].mean() < 0.01 * apart[still].mean()


@pytest.mark.parametrize("rate", [1, 5, 30])
def test_the_frame_rate_does_not_decide_what_is_seen(rate: float) -> None:
    thing = view_of(9, thing_s=0, rate=rate)[40:48, 20:28]
    assert np.abs(thing - view_of(9, thing_s=0)[40:48, 20:28]).mean() < 0.1


def test_only_a_constant_number_of_frames_is_kept() -> None:
    view, frame = StandingView(LOOK), GROUND.astype(np.uint8)
    sampled = sum(view.push(frame, number / 25) for number in range(500))
    assert sampled == 60  # twelve in four seconds
    assert len(view._samples) == 12


def test_a_clock_that_is_set_back_begins_anew() -> None:
    view, frame = StandingView(LOOK), GROUND.astype(np.uint8)
    for number in range(40):
        view.push(frame, 100 + number / 10)
    assert view.standing() is not None
    assert view.push(frame, 0.0)
    assert view.standing() is None


@pytest.mark.parametrize("moved", [(2.0, 0.0), (-1.0, 3.0), (0.5, -0.5)])
def test_a_shifted_frame_is_moved_back(moved: tuple[float, float]) -> None:
    view = StandingView(LOOK)
    frame = shift(GROUND, moved, order=1, mode="nearest").round().astype(np.uint8)
    for number in range(40):
        view.push(frame, number / 10)
    standing = view.standing()
    assert standing is not None
    inner = slice(4, -4), slice(4, -4)
    before, after = (np.abs(seen - LOOK)[inner].mean() for seen in (log_contrast(frame), standing.view))
    assert after < 0.35 * before or after < 0.02


def test_a_plain_scene_with_somebody_in_it_is_not_moved_after_them() -> None:
    plain = np.full(GROUND.shape, 120, dtype=np.uint8)
    plain[20:40, 30:40] = 30
    reference = log_contrast(plain)
    plain[10:60, 60:80], plain[20:40, 30:40] = 220, 120  # the thing is gone, and another is there
    view = StandingView(reference)
    for number in range(40):
        view.push(plain, number / 10)
    standing = view.standing()
    assert standing is not None
    assert np.array_equal(standing.view, log_contrast(plain))
