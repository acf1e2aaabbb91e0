import json
import math
import runpy
import sys
from pathlib import Path
from typing import Any, NoReturn

import pytest

from experiments.records import write_result
from experiments.summary import Summary, as_json, as_text, summarise
from experiments.tables import TABLES


def write(
    root: Path,
    data: str,
    method: str,
    seed: int,
    parts: dict[str, Any],
    fit: float | None = 2.0,
    score: float | None = 0.5,
    stored: int | None = 10,
) -> None:
    """A cell with `parts`, {part: {protocol: {metric: value}}}; 100 test samples each."""
    cost = {"seconds": {"fit": fit, "score": score}, "samples": {"fit": 3, "test": 100}, "stored": stored}
    found = {"data": data, "method": method, "seed": seed, "command": "", "settings": {}, "parts": {}}
    found["parts"] = {part: {"metrics": metrics, **cost} for part, metrics in parts.items()}
    write_result(root / data / method / f"seed-{seed}.json", found)


def images(value: float, classes: str = "0123456789") -> dict[str, Any]:
    """The n-th class is n hundredths above the value."""
    return {
        part: {"full": {"auroc": value + int(part) / 100}, "paper": {"auroc": value - 0.1}} for part in classes
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for seed, value in enumerate((0.80, 0.82, 0.87)):
        write(tmp_path, "mnist", "memae", seed, images(value), fit=10 + seed)
    write(tmp_path, "mnist", "memae", 3, images(0.1, classes="82"))  # unfinished
    write(tmp_path, "mnist", "1-nn-l2", 0, images(0.9), fit=None, score=None, stored=6000)
    write(tmp_path, "mnist", "pca-30", 0, images(0.9, classes="82"), stored=None)
    for seed, f1 in enumerate((0.90, 0.94)):
        write(tmp_path, "kddcup99", "memae", seed, {"all": {"paper": {"f1": f1, "auroc": 0.95}}})
    return tmp_path


def test_mean_and_interval_by_hand() -> None:
    found = Summary.of([0.90, 0.92, 0.97])
    deviation = math.sqrt(((0.03**2) + (0.01**2) + (0.04**2)) / 2)
    half = 4.302653 * deviation / math.sqrt(3)  # Student's t, two degrees of freedom
    assert found.mean == pytest.approx(0.93)
    assert (found.low, found.high) == pytest.approx((0.93 - half, 0.93 + half), abs=1e-6)
    assert found.seeds == 3


@pytest.mark.parametrize("count", [2, 10, 12, 40])
def test_any_number_of_seeds_has_an_interval_that_equal_values_close(count: int) -> None:
    assert Summary.of([0.5] * count) == Summary(0.5, 0.5, 0.5, count)


def test_one_seed_has_no_interval() -> None:
    found = Summary.of([0.9])
    assert found.mean == 0.9
    assert math.isnan(found.low) and math.isnan(found.high)


def test_a_seed_is_the_mean_over_its_parts_and_counts_only_if_it_has_them_all(root: Path) -> None:
    tree = summarise(root)
    found = tree["table1"]["mnist"]["memae"]
    expected = Summary.of([0.845, 0.865, 0.915])
    assert found["full"]["auroc"].mean == pytest.approx(expected.mean)
    assert found["full"]["auroc"].high == pytest.approx(expected.high)
    assert found["full"]["auroc"].seeds == 3
    assert found["paper"]["auroc"].mean == pytest.approx(0.83 - 0.1)
    assert "pca-30" not in tree["table1"]["mnist"]


def test_each_part_stands_beside_with_the_seeds_that_it_has(root: Path) -> None:
    tree = summarise(root)["table1"]
    assert {name for name in tree if "pca-30" in tree[name]} == {"mnist-8", "mnist-2"}
    assert tree["mnist-8"]["memae"]["full"]["auroc"].seeds == 4
    assert tree["mnist-7"]["memae"]["full"]["auroc"].seeds == 3
    assert tree["mnist-7"]["memae"]["full"]["auroc"].mean == pytest.approx(0.83 + 0.07)


def test_cells_stand_under_every_table_that_shows_them(root: Path) -> None:
    tree = summarise(root)
    assert list(tree) == [*TABLES, "others"]
    assert tree["table4"]["mnist"]["memae"] == tree["table1"]["mnist"]["memae"]
    assert tree["table4"]["kddcup99"] == tree["table3"]["kddcup99"]
    assert "1-nn-l2" not in tree["table4"]["mnist"]
    assert tree["table2"] == tree["others"] == {}
    assert {*tree["table3"]} == {"kddcup99"}  # a data set of one part has no "kddcup99-all"


def test_the_cost_is_of_one_part_and_one_sample(root: Path) -> None:
    tree = summarise(root)["table1"]
    cost = tree["mnist"]["memae"]["cost"]
    assert cost["fit_seconds"].mean == pytest.approx(11)
    assert cost["score_us_per_sample"].mean == pytest.approx(5000)
    assert cost["stored"] == Summary(10, 10, 10, 3)
    # what was not measured is not there
    assert {*tree["mnist"]["1-nn-l2"]["cost"]} == {"stored"}
    assert {*tree["mnist-8"]["pca-30"]["cost"]} == {"fit_seconds", "score_us_per_sample"}


def test_a_metric_that_some_parts_lack_has_no_mean_over_them(tmp_path: Path) -> None:
    parts = images(0.8)
    parts["4"]["full"]["average_precision"] = 0.5
    write(tmp_path, "mnist", "memae", 0, parts)
    tree = summarise(tmp_path)["table1"]
    assert {*tree["mnist"]["memae"]["full"]} == {"auroc"}
    assert {*tree["mnist-4"]["memae"]["full"]} == {"auroc", "average_precision"}


def test_json_is_strict_and_says_null_for_a_missing_interval(root: Path) -> None:
    def never(constant: Any) -> NoReturn:
        raise AssertionError(constant)

    found = json.loads(as_json(summarise(root)), parse_constant=never)
    figure = found["table1"]["mnist"]["1-nn-l2"]["full"]["auroc"]
    assert {**figure, "mean": round(figure["mean"], 9)} == {"mean": 0.945, "low": None, "high": None, "seeds": 1}
    assert {*found["table3"]["kddcup99"]["memae"]["paper"]["f1"]} == {"mean", "low", "high", "seeds"}


def test_the_readable_form_has_a_line_for_each_figure(root: Path) -> None:
    lines = as_text(summarise(root)).splitlines()
    assert "table3: kddcup99" in [line.strip() for line in lines]
    words = [line.split() for line in lines]
    half = Summary.of([0.9, 0.94])
    assert ["memae", "paper", "f1", "0.9200", f"{half.low:.4f}", "to", f"{half.high:.4f}", "2"] in words
    assert ["1-nn-l2", "full", "auroc", "0.9450", "1"] in words


def test_cells_of_a_data_set_that_the_registry_has_lost_are_passed_over(root: Path) -> None:
    write(root, "forgotten", "memae", 0, {"all": {"full": {"auroc": 1.0}}})
    assert "forgotten" not in str(summarise(root))


def test_an_empty_folder_has_an_empty_summary(tmp_path: Path) -> None:
    assert summarise(tmp_path) == {name: {} for name in (*TABLES, "others")}
    assert as_text(summarise(tmp_path)) == "No committed cells."


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_the_verb_prints_the_committed_cells(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    monkeypatch.setattr(sys, "argv", ["experiments", "summary", *words])
    monkeypatch.delitem(sys.modules, "experiments.__main__", raising=False)  # another test may have loaded it
    with pytest.raises(SystemExit) as exit:
        runpy.run_module("experiments", run_name="__main__")
    assert exit.value.code == 0
    out, err = capfd.readouterr()
    assert err == ""
    if words:
        assert {*json.loads(out)} == {*TABLES, "others"}
    else:
        assert "table1: mnist-8" in out
