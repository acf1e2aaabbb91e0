import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from memae.plots.regions import MAX_REGIONS, draw_boxes, find_regions
from memae.types import Box


def error_map(*rows: list[float]) -> np.ndarray:
    return np.array(rows, dtype=np.float32)


def test_places_are_scaled_to_the_video_and_come_strongest_first() -> None:
    found = find_regions(error_map([0, 0, 5, 0], [3, 0, 5, 6], [0, 0, 0, 0]), 2, height=30, width=80)
    assert [r.box for r in found] == [Box(40, 0, 80, 20), Box(0, 10, 20, 20)]
    assert [r.peak for r in found] == [6, 3]


def test_places_that_touch_at_a_corner_are_one() -> None:
    assert len(find_regions(np.eye(4), 0.5, 4, 4)) == 1


def test_a_place_that_ends_within_a_px_takes_the_whole_px() -> None:
    (found,) = find_regions(error_map([0, 1, 0]), 0.5, height=7, width=10)
    assert found.box == Box(3, 0, 7, 7)


def test_only_what_is_above_the_threshold_counts() -> None:
    assert find_regions(error_map([2, 1], [2, np.nan]), 2, 4, 4) == ()


def test_of_many_places_the_strongest_are_kept() -> None:
    errors = np.zeros((40, 40))
    errors[::2, ::2] = 1 + np.arange(400).reshape(20, 20)
    found = find_regions(errors, 0.5, 40, 40)
    assert [r.peak for r in found] == list(range(400, 400 - MAX_REGIONS, -1))


@given(
    hnp.arrays(np.float64, (5, 7), elements=st.sampled_from([0.0, 1.0, 2.0, 3.0])),
    st.integers(1, 60),
    st.integers(1, 60),
)
def test_every_high_place_lies_in_a_box_and_the_peak_is_the_highest(
    errors: np.ndarray, height: int, width: int
) -> None:
    found = find_regions(errors, 1.5, height, width)
    assert (max(r.peak for r in found) == errors.max()) if (errors > 1.5).any() else not found
    for row, column in np.argwhere(errors > 1.5):
        x, y = (column + 0.5) * width / 7, (row + 0.5) * height / 5
        assert any(b.left <= x <= b.right and b.top <= y <= b.bottom for b, _, _ in found)
    assert all(0 <= b.left < b.right <= width and 0 <= b.top < b.bottom <= height for b, _, _ in found)


def test_the_area_is_that_of_the_place_and_not_of_its_box() -> None:
    (found,) = find_regions(error_map([2, 0, 0], [0, 2, 0], [0, 0, 2]), 1, height=30, width=60)
    assert found.box == Box(0, 0, 60, 30)
    assert found.area_px == 3 * 10 * 20


def test_a_box_is_drawn_around_its_place_and_not_on_it() -> None:
    picture = Image.new("RGB", (60, 40), (128, 128, 128))
    draw_boxes(picture, [Box(10, 5, 15, 10)], zoom=2)
    drawn = np.asarray(picture)
    assert (drawn[10:20, 20:30] == 128).all()
    changed = (drawn != 128).any(axis=2).nonzero()
    assert (changed[0].min(), changed[0].max(), changed[1].min(), changed[1].max()) == (7, 22, 17, 32)
