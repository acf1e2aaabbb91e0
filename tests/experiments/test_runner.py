import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments import ped2, protocols, runner
from experiments.methods import METHODS
from experiments.runner import KDD_LOOK_UPS, LOOK_UPS, NEURAL, Cell, cells, run_cell
from memae.evaluate import auroc

HERE = Path(__file__).parent


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "RESULTS", tmp_path / "results")
    return tmp_path / "results"


@pytest.fixture
def experiments(results, monkeypatch, capfd):
    """Runs `python -m experiments` in this process: its exit code and stderr."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["experiments", *words])
        capfd.readouterr()
        with pytest.raises(SystemExit) as exit:
            runpy.run_module("experiments", run_name="__main__")
        return exit.value.code, capfd.readouterr().err

    return run


def test_every_cell_has_a_file_of_its_own():
    every = list(cells(3))
    paths = {cell.path for cell in every}
    of_ped2 = len(ped2.METHODS) - (0 if torch.cuda.is_available() else len(ped2.GPU_METHODS))
    others = 3 * len(NEURAL) + len(KDD_LOOK_UPS) + 2 * len(LOOK_UPS)
    assert len(paths) == len(every) == 3 * (of_ped2 + others)
    assert {cell.data for cell in every} == {"ped2", "kddcup99", "mnist-8", "mnist-2"}
    assert {cell.method for cell in every} <= METHODS.keys() | ped2.METHODS.keys()
    assert {cell.seed for cell in every} == {0, 1, 2}
    assert all(" " not in str(path.relative_to(runner.RESULTS)) for path in paths)


@pytest.mark.parametrize(
    ("cell", "protocols_judged"),
    [(Cell("mnist-8", "pca-30", 1), {"full", "paper"}), (Cell("kddcup99", "memae", 2), {"paper"})],
)
def test_a_cell_is_written_with_all_that_it_takes_to_run_it_again(small_data, results, cell, protocols_judged):
    result = run_cell(cell)
    path = results / "first_light" / cell.data / cell.method / f"seed-{cell.seed}.json"
    assert json.loads(path.read_text()) == result
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert result["seed"] == cell.seed
    command = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False).stdout.strip()
    assert result["commit"].removesuffix("+changes") == commit
    assert "cores" in result["hardware"]
    assert result["command"] == f"python -m experiments run --data {cell.data} --method '{cell.method}'"
    assert result["seconds"] >= 0
    split = cell.split()
    assert result["samples"] == {
        "fit": len(split.fit),
        "test": len(split.test),
        "anomalies": int(split.labels.sum()),
    }
    assert {*result["metrics"]} == protocols_judged
    for metrics in result["metrics"].values():
        assert all(0 <= value <= 1 for value in metrics.values())
    if cell.method == "memae":
        config = result["facts"]["config"]
        assert config["network"] == "kddcup"
        assert config["train"]["validation_share"] == pytest.approx(1 / 3)
        assert config["threshold"]["calibration_share"] == 0
        assert result["facts"]["seed"] == cell.seed
        assert {*result["metrics"]["paper"]} == {"precision", "recall", "f1", "auroc"}


def test_the_same_cell_has_the_same_figures(small_data, results):
    first, again = run_cell(Cell("kddcup99", "memae", 0)), run_cell(Cell("kddcup99", "memae", 0))
    assert first["metrics"] == again["metrics"]


def test_existing_cells_are_not_computed_again(small_data, results, experiments):
    words = ("run", "--data", "kddcup99", "--method", "exact match", "--seeds", "2")
    code, err = experiments(*words)
    assert code == 0
    assert err.startswith("2 cells, 2 missing\n[1/2] kddcup99 exact match seed 0: paper precision ")
    first = results / "first_light" / "kddcup99" / "exact-match" / "seed-0.json"
    second = first.with_name("seed-1.json")
    first.write_text("kept as it is")
    second.unlink()
    code, err = experiments(*words)
    assert code == 0
    assert err.startswith("2 cells, 1 missing\n[1/1] kddcup99 exact match seed 1: ")
    assert first.read_text() == "kept as it is"
    assert json.loads(second.read_text())["seed"] == 1
    assert experiments(*words) == (0, "2 cells, 0 missing\n")


def test_no_cell_is_started_once_the_budget_is_spent(small_data, results, experiments):
    words = ("run", "--data", "mnist-8", "--method", "pca-30", "--seeds", "2", "--budget-s", "0")
    assert experiments(*words) == (0, "2 cells, 2 missing\nbudget spent; 2 cells are left\n")
    assert not results.exists()


def test_a_cell_that_fails_leaves_no_file(small_data, results):
    (small_data / "mnist" / "train-images-idx3-ubyte.gz").unlink()
    with pytest.raises(Exception, match="train-images-idx3-ubyte"):
        run_cell(Cell("mnist-8", "pca-30", 0))
    assert not results.exists()


@pytest.mark.parametrize("method", sorted({*KDD_LOOK_UPS, "memae-paper", "autoencoder"}))
def test_each_method_scores_every_row_of_kddcup_and_finds_the_easy_anomalies(small_data, method):
    split = protocols.kddcup(0)
    scores, _ = METHODS[method](split, 0)
    assert scores.shape == split.labels.shape
    assert np.isfinite(scores).all()
    if method == "exact match":
        assert (scores == 1).all()  # the stand-in has no row twice
        known, _ = METHODS[method](protocols.Split(split.fit, split.fit[:3], split.labels[:3], {}), 0)
        assert (known == 0).all()
    else:
        # three columns of 120 tell, and a forest looks at few of them
        assert auroc(split.labels, scores) > (0.55 if method == "isolation forest" else 0.9)


@pytest.mark.parametrize("method", LOOK_UPS)
def test_each_look_up_scores_every_image_and_finds_the_easy_anomalies(small_data, method):
    split = protocols.mnist(8, 0)
    scores, _ = METHODS[method](split, 0)
    assert scores.shape == (100,)
    assert auroc(split.labels, scores) > 0.99


def test_the_untrained_network_is_untrained_and_each_protocol_judges_its_own_rows(small_data, results):
    split = protocols.mnist(8, 0)
    scores, facts = METHODS["untrained"](split, 0)
    assert (facts["kept_epoch"], facts["last_epoch"]) == (0, None)
    assert facts["config"]["network"] == "mnist"
    found = run_cell(Cell("mnist-8", "untrained", 0))["metrics"]
    for protocol, rows in split.judged.items():
        assert found[protocol]["auroc"] == pytest.approx(auroc(split.labels[rows], scores[rows]), abs=1e-5)
    assert found["full"] != found["paper"]
