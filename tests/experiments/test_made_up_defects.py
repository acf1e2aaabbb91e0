import numpy as np
import pytest

from experiments import made_up_defects
from experiments.made_up_defects import DEFECTS, KINDS, choose_pool, picture, spoilt


@pytest.mark.parametrize("kind", KINDS)
def test_normal_pictures_differ_a_little_and_stay_in_range(kind):
    first, second, again = (picture(kind, 96, np.random.default_rng(seed)) for seed in (0, 1, 0))
    assert first.shape == (96, 96)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, second)
    assert -10 < first.min() < first.max() < 265


@pytest.mark.parametrize("extent", DEFECTS)
def test_a_defect_changes_as_much_of_a_picture_as_it_says(extent):
    least, most = {"small": (0.001, 0.02), "large": (0.005, 0.09), "whole": (0.5, 1)}[extent]
    for defect in DEFECTS[extent]:
        grey = picture("part", 96, np.random.default_rng(0))
        changed = np.abs(spoilt(grey, defect, np.random.default_rng(1)) - grey) > 1
        assert least < changed.mean() < most, defect


def test_ways_to_pool_are_held_against_the_same_maps(monkeypatch):
    maps = np.full((4, 96, 96), 1.0)
    strange = maps * 0.95
    strange[:, 40:44, 40:44] = 9
    found = {"normal": maps, "small": strange, "large": strange, "whole": maps * 2}
    monkeypatch.setattr(made_up_defects, "_maps", lambda *_, **__: found)
    by_place = choose_pool({"heat": 1 / 64, "hottest": 0, "square": 4})
    assert by_place == {"small": 1, "large": 1, "whole": 1}
    assert choose_pool({"heat": 0, "hottest": 0.5})["whole"] == 1
    assert choose_pool({"heat": 0, "hottest": 1})["small"] == 0
