"""The growth benchmark runs, tells slopes, and its committed result stays near the expected one or is explained."""

import json
from pathlib import Path

import matplotlib.image
import pytest

from benchmarks.growth import AXES, EXPECTED_SLOPE, MEASURES, _slope, growth_benchmark
from benchmarks.growth_drawing import draw_growth

RESULT = Path("benchmarks/results/growth.json")
TOLERANCE = 0.2  # of a power: two points of one run


def test_a_slope_is_the_power_between_the_two_largest_sizes() -> None:
    assert _slope([1, 10, 100], [7.0, 1.0, 100.0]) == 2.0
    assert _slope([10, 100], [0.0, 0.0]) == 0.0


@pytest.mark.real
def test_it_runs_and_is_drawn(tmp_path: Path) -> None:
    found = growth_benchmark(("items",), largest=512)
    items = found["axes"]["items"]
    assert items["sizes"] == [128, 512]
    assert all(value > 0 for value in items["fit_s"] + items["score_s"])
    assert {*items["slopes"]} == {*MEASURES}
    draw_growth(found, tmp_path / "growth.png")
    assert matplotlib.image.imread(tmp_path / "growth.png").std() > 0


def test_the_committed_result_has_no_steeper_slope_that_the_page_does_not_explain() -> None:
    found = json.loads(RESULT.read_text())
    page = Path("docs/speed.md").read_text()
    assert {*found["axes"]} == {*AXES}
    for name, axis in found["axes"].items():
        for measure, slope in axis["slopes"].items():
            assert slope <= EXPECTED_SLOPE + TOLERANCE or f"{name}, {measure}" in page, (name, measure, slope)
