import json
import math
import runpy
import sys

import pytest

from experiments.render import demo_table, rendered, table
from experiments.summary import Summary, as_json, summarise


def write(root, data, method, seed, metrics, seconds=10.0):
    path = root / data / method / f"seed-{seed}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"metrics": metrics, "seconds": seconds}))


@pytest.fixture
def root(tmp_path):
    for seed, auroc in enumerate((0.90, 0.92, 0.97)):
        write(
            tmp_path,
            "mnist-8",
            "memae",
            seed,
            {"full": {"auroc": auroc}, "paper": {"auroc": auroc - 0.1}},
            10 + seed,
        )
    write(tmp_path, "mnist-8", "1-nn-l2", 0, {"full": {"auroc": 1.0}})
    write(tmp_path, "kddcup99", "memae", 0, {"paper": {"f1": 0.9, "auroc": 0.95}})
    write(tmp_path, "kddcup99", "memae", 1, {"paper": {"f1": 0.94, "auroc": 0.95}})
    return tmp_path


def test_mean_and_interval_by_hand():
    found = Summary.of([0.90, 0.92, 0.97])
    deviation = math.sqrt(((0.03**2) + (0.01**2) + (0.04**2)) / 2)
    half = 4.302653 * deviation / math.sqrt(3)  # Student's t, two degrees of freedom
    assert found.mean == pytest.approx(0.93)
    assert (found.low, found.high) == pytest.approx((0.93 - half, 0.93 + half), abs=1e-6)
    assert found.seeds == 3


@pytest.mark.parametrize("count", [2, 10, 12, 40])
def test_any_number_of_seeds_has_an_interval_that_equal_values_close(count):
    assert Summary.of([0.5] * count) == Summary(0.5, 0.5, 0.5, count)


def test_one_seed_has_no_interval():
    found = Summary.of([0.9])
    assert found.mean == 0.9
    assert math.isnan(found.low) and math.isnan(found.high)


def test_cells_of_all_seeds_are_gathered_by_data_method_protocol_and_metric(root):
    tree = summarise(root)
    assert {*tree} == {"mnist-8", "kddcup99"}
    assert {*tree["mnist-8"]} == {"memae", "1-nn-l2"}
    assert {*tree["mnist-8"]["memae"]} == {"full", "paper"}
    assert tree["mnist-8"]["memae"]["full"]["auroc"] == Summary.of([0.90, 0.92, 0.97])
    assert tree["mnist-8"]["memae"]["paper"]["auroc"].mean == pytest.approx(0.83)
    assert tree["mnist-8"]["memae"]["full"]["seconds"].mean == 11
    assert tree["kddcup99"]["memae"]["paper"]["f1"].mean == pytest.approx(0.92)


def test_json_is_strict_and_says_null_for_a_missing_interval(root):
    def never(constant):
        raise AssertionError(constant)

    found = json.loads(as_json(summarise(root)), parse_constant=never)["first_light"]
    assert found["mnist-8"]["1-nn-l2"]["full"]["auroc"] == {"mean": 1.0, "low": None, "high": None, "seeds": 1}
    assert found["mnist-8"]["memae"]["full"]["auroc"]["seeds"] == 3


def test_the_table_shows_mean_and_half_interval_and_a_dash_for_no_cell(root):
    lines = table(summarise(root)).splitlines()
    assert lines[0].startswith("| method | MNIST 8 normal, AUROC | MNIST 2 normal, AUROC | KDDCUP99, F1 |")
    assert lines[1] == "|---|---|---|---|---|"
    rows = {
        line.split(" | ")[0].removeprefix("| "): line.removesuffix(" |").split(" | ")[1:] for line in lines[2:]
    }
    assert {*rows} == {"**MemAE** (our default)", "1-NN look-up, L2"}
    half = Summary.of([0.90, 0.92, 0.97]).high - 0.93
    assert rows["**MemAE** (our default)"][0] == f".9300 ± {half:.4f}".replace("± 0.", "± .")
    assert rows["**MemAE** (our default)"][1] == "–"
    assert rows["1-NN look-up, L2"] == ["1.0000", "–", "–", "–"]


def test_an_empty_folder_has_an_empty_summary(tmp_path):
    assert summarise(tmp_path) == {}
    assert json.loads(as_json({})) == {"first_light": {}}
    assert len(table({}).splitlines()) == 2


def test_the_table_of_the_demo_is_the_mean_of_its_runs(tmp_path):
    for seed, auroc in enumerate((0.9, 0.94)):
        part = {
            "memae": auroc,
            "autoencoder": auroc - 0.1,
            "untrained": 0.5,
            "false_alarm_rate": {"wanted": 0.05, "measured": 0.04},
        }
        (tmp_path / f"seed-{seed}.json").write_text(json.dumps({"images": part, "table": part}))
    found = demo_table(tmp_path)
    assert "mean of 2 seeds" in found
    assert "| **MemAE**, AUROC | .9200 ± .2541 | .9200 ± .2541 |" in found
    assert "| untrained network, AUROC | .5000 ± .0000 | .5000 ± .0000 |" in found
    assert "wanted: at most 0.05" in found
    assert demo_table(tmp_path / "none") == "No committed runs."


def test_the_committed_pages_hold_the_tables_of_the_committed_results():
    for path, text in rendered().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is stale: run  make tables"


def test_the_summary_verb_prints_one_json_object(monkeypatch, capfd):
    monkeypatch.setattr(sys, "argv", ["experiments", "summary"])
    with pytest.raises(SystemExit) as exit:
        runpy.run_module("experiments", run_name="__main__")
    assert exit.value.code == 0
    out, err = capfd.readouterr()
    assert {*json.loads(out)} == {"first_light"}
    assert err == ""
