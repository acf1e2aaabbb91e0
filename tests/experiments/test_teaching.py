from pathlib import Path

import pytest

from experiments import teaching
from experiments.teaching import LESSONS, teaching_table


@pytest.mark.parametrize("data", LESSONS)
def test_the_committed_figures_have_a_row_for_each_way_and_number_of_samples(data: str) -> None:
    lines = teaching_table(data).splitlines()
    ways = ["untouched", *(f"{how} {count}" for count in teaching.COUNTS for how in ("taught", "retrained"))]
    assert [line.split(" | ")[0].strip("| ") for line in lines[2:]] == ways


def test_without_results_the_table_says_so(tmp_path: Path) -> None:
    assert teaching_table("mnist", tmp_path) == "No committed runs."


def test_rows_of_the_new_service_are_neither_fitted_nor_judged_twice(
    small_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teaching, "FITTED_ROWS", 20)
    lesson = LESSONS["kddcup99-attacks"][0]("service0", 0)
    assert "service0" not in lesson.fit["service"].to_pylist() and lesson.fit.num_rows == 20
    assert set(lesson.new["service"].to_pylist()) <= {"service0"}
