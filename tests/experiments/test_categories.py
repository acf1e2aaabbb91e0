from pathlib import Path

import numpy as np
import pytest

from experiments import categories
from experiments.categories import Problem, categories_table


@pytest.mark.parametrize(("data", "count"), [("mnist", 5), ("kddcup99", 3)])
def test_the_committed_figures_have_a_row_for_each_category(data: str, count: int) -> None:
    table, told = categories_table(data).split("\n\n")
    assert len(table.splitlines()) == 2 + count
    assert told.startswith("One model: ")


def test_without_results_the_table_says_so(tmp_path: Path) -> None:
    assert categories_table("mnist", tmp_path) == "No committed runs."


def test_one_model_and_one_for_each_are_measured_once_a_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def problem(seed: int) -> Problem:
        rng = np.random.default_rng(seed)
        names = np.repeat(["near", "far"], 200)
        rows = rng.normal(size=(400, 3)).astype(np.float32) + np.where(names == "far", 20, 0)[:, None]
        rows = rows.astype(np.float32)
        fitted = np.arange(400) % 2 == 0
        anomalies = rng.normal(9, 1, size=(50, 3)).astype(np.float32)
        return Problem(rows[fitted], names[fitted], rows[~fitted], names[~fitted], anomalies, lambda x, at: x[at])

    monkeypatch.setattr(categories, "PROBLEMS", {"mnist": problem})
    monkeypatch.setattr(categories, "SEEDS", (0,))
    brief = {"train": {"epochs": 2}, "threshold": {"false_alarm_rate": 0.1}}
    monkeypatch.setattr(categories, "SETTINGS", brief)
    ((_, found),) = categories.measure_categories("mnist", tmp_path)
    assert {*found} == {"near", "far"}
    assert all(one["named_right"] > 0.95 and one["auroc_each"] > 0.9 for one in found.values())
    assert list(categories.measure_categories("mnist", tmp_path)) == []
    assert "| far |" in categories_table("mnist", tmp_path)
