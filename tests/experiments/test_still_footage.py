from itertools import pairwise

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from experiments.still_footage import ANOMALIES, CARTS, CHANGE_S, RATE, Scene, Street

AT = round(CHANGE_S * RATE)
STREET = Street(Scene("bricks", 10, 0, 1, 95), 3)


@pytest.mark.parametrize("kind", [*ANOMALIES, "nothing"])
def test_something_else_stands_in_one_place_once_the_labels_say_so(kind: str) -> None:
    frames, labels = STREET.clip(kind, 0)
    changed = np.abs(np.median(frames[-30:], axis=0) - np.median(frames[:30], axis=0)) > 10
    anomalous = kind in ANOMALIES
    assert not labels[:AT].any()
    assert labels[AT:].all() == anomalous
    assert (5 < changed.sum() < 0.03 * changed.size) if anomalous else not changed.any()


@pytest.mark.parametrize("kind", CARTS)
def test_a_cart_crosses_the_view_from_the_left_to_the_right(kind: str) -> None:
    frames, labels = STREET.clip(kind, 0)
    ground = np.median(frames[:30], axis=0)
    cart = gaussian_filter(np.abs(frames - ground), (0, 4, 4)).max(axis=1)
    places = cart[AT + 5 : AT + 20 : 5].argmax(axis=1)
    assert labels[AT:].all()
    assert not labels[:AT].any()
    assert (np.diff(places) > 5).all()


def test_the_same_seed_gives_the_same_footage() -> None:
    first, again, other = (STREET.normal(0.3, seed) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_people_walk_in_normal_footage() -> None:
    frames = Street(Scene("plain", 0, 8, 0, 95), 0).normal(1, 0).astype(float)
    assert all(np.abs(after - before).max() > 20 for before, after in pairwise(frames))
