"""The benchmark of exported files, for a moment and one small model."""

from pathlib import Path

import pytest

from benchmarks.exported import WAYS, Model, measured
from tests.small_detectors import ROWS, fit


@pytest.mark.slow
def test_all_three_ways_are_measured_for_one_sample_and_for_a_batch(tmp_path: Path) -> None:
    found = measured(Model("rows", fit(ROWS), 8), tmp_path, rounds=1)
    assert [size["samples"] for size in found["sizes"]] == [1, 8]
    for size in found["sizes"]:
        for way in WAYS:
            assert size["times_torch"][way] == pytest.approx(size["per_s"][way] / size["per_s"]["torch"], rel=0.02)
    assert found["start"].keys() == set(WAYS)
    for seconds in found["start"].values():
        assert seconds["import_s"] > 0 and seconds["load_s"] > 0
