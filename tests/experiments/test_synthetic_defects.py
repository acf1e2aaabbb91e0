from typing import Any

import numpy as np
import pytest

from experiments import synthetic_defects
from experiments.synthetic_defects import DEFECTS, KINDS, auroc_by_extent, normal_image, with_defect


@pytest.mark.parametrize("kind", KINDS)
def test_normal_images_differ_a_little_and_stay_in_range(kind: Any) -> None:
    first, second, again = (normal_image(kind, 96, np.random.default_rng(seed)) for seed in (0, 1, 0))
    assert first.shape == (96, 96)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, second)
    assert -10 < first.min() < first.max() < 265


@pytest.mark.parametrize("extent", DEFECTS)
def test_a_defect_changes_as_much_of_an_image_as_it_says(extent: Any) -> None:
    least, most = {"small": (0.001, 0.02), "large": (0.005, 0.09), "whole": (0.5, 1)}[extent]
    for defect in DEFECTS[extent]:
        grey = normal_image("part", 96, np.random.default_rng(0))
        changed = np.abs(with_defect(grey, defect, np.random.default_rng(1)) - grey) > 1
        assert least < changed.mean() < most, defect


def test_ways_to_pool_are_held_against_the_same_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    maps = np.full((4, 96, 96), 1.0)
    anomalous = maps * 0.95
    anomalous[:, 40:44, 40:44] = 9
    found = {"normal": maps, "small": anomalous, "large": anomalous, "whole": maps * 2}
    monkeypatch.setattr(synthetic_defects, "_maps", lambda *_, **__: found)
    by_place = auroc_by_extent({"smoothing": 1 / 64, "top_share": 0, "patch_px": 4})
    assert by_place == {"small": 1, "large": 1, "whole": 1}
    assert auroc_by_extent({"smoothing": 0, "top_share": 0.5})["whole"] == 1
    assert auroc_by_extent({"smoothing": 0, "top_share": 1})["small"] == 0
