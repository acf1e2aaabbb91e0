import dataclasses
import json
import runpy
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch

from experiments import data, records
from experiments.data import DATA
from experiments.methods import METHODS, Fitted
from experiments.records import Cell, CellError
from experiments.runner import Job, compute, plan, run_all, seconds_of
from memae.metrics import auroc

MNIST: Any = DATA["mnist"]

FOREVER = float("inf")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of cells, empty."""
    monkeypatch.setattr(records, "RESULTS", tmp_path / "results")
    return tmp_path / "results" / "cells"


@pytest.fixture
def methods(monkeypatch: pytest.MonkeyPatch) -> tuple[Callable[..., None], list[Any]]:
    """Puts methods of its own on MNIST; they score by the mean of an image. The seeds and classes that were fitted."""
    fitted: list[Any] = []

    def put(
        name: str,
        settings: dict[str, int] | None = None,
        before: Callable[..., Any] = lambda: None,
        facts: dict[str, bool] | None = None,
    ) -> None:
        def method(fit: np.ndarray, seed: int) -> Fitted:
            before()
            fitted.append((name, seed, len(fitted)))
            mean = lambda x: x.reshape(len(x), -1).mean(axis=1)  # noqa: E731  one short rule of several
            return Fitted(mean, settings=settings or {}, facts=facts or {})

        known = {**DATA["mnist"].methods, name: method}
        monkeypatch.setitem(data.DATA, "mnist", dataclasses.replace(MNIST, methods=known))

    return put, fitted


def job(method: str, *parts: str, seed: int = 0) -> Job:
    return Job(Cell("mnist", method, seed), parts or DATA["mnist"].parts, "the command")


@pytest.mark.parametrize(
    ("budget", "seconds"), [("90s", 90), ("60m", 3600), ("2h", 7200), ("1.5h", 5400), (" 3 m ", 180)]
)
def test_budgets_are_durations(budget: str, seconds: int) -> None:
    assert seconds_of(budget) == seconds


@pytest.mark.parametrize("budget", ["60", "h", "1d", "-5m", "1h30m", ""])
def test_a_budget_without_its_unit_is_refused(budget: str) -> None:
    with pytest.raises(ValueError, match="give a number and s, m or h"):
        seconds_of(budget)


def test_the_plan_goes_seed_by_seed_and_then_as_the_table(root: Path) -> None:
    found, count = plan("table3", root, data="kddcup99", seeds=2)
    order = [(job.cell.seed, job.cell.method) for job in found]
    rows = [method for seed, method in order if seed == 0]
    assert order == [(seed, method) for seed in (0, 1) for method in rows]
    assert rows.index("autoencoder") < rows.index("memae") < rows.index("untrained") < rows.index("1-nn-l2")
    assert count == len(found) == 2 * len(rows)
    assert all(job.parts == ("all",) for job in found)
    assert {job.cell.seed for job in plan("table3", root)[0]} == set(range(20))
    assert {job.cell.data for job in plan("table3", root)[0]} == {"kddcup99", "kddcup99-attacks"}
    assert {job.cell.seed for job in plan("table1", root)[0]} == set(range(3))


def test_only_what_is_asked_for_and_not_there_is_planned(root: Path, small_data: Path) -> None:
    found, count = plan("table1", root, "mnist", ["pca-30"], 1, ["8", "2"])
    assert (count, [(job.cell, job.parts) for job in found]) == (1, [(Cell("mnist", "pca-30", 0), ("2", "8"))])
    assert found[0].command == "python -m experiments run table1 --data mnist --method pca-30 --seeds 1"
    compute(found[0], root, FOREVER, lambda _: None)
    assert plan("table1", root, "mnist", ["pca-30"], 1, ["8", "2"]) == ([], 1)
    (rest,), _ = plan("table1", root, "mnist", ["pca-30"], 1)
    assert rest.parts == tuple("01345679")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ({"name": "table9"}, "'table9': no such table; there is others, table1, table2"),
        ({"name": "table1", "data": "ped2"}, "'ped2': no such data set in table1; there is cifar10, mnist"),
        (
            {"name": "table1", "methods": ["pca-30", "dagmm"]},
            "'dagmm': no such method in table1 for mnist, cifar10; there is",
        ),
        ({"name": "table1", "data": "mnist", "parts": ["8", "x"]}, "'x': no such part of mnist; there is 0, 1, 2"),
    ],
)
def test_a_wrong_word_is_named_with_the_right_ones(root: Path, words: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        plan(root=root, **words)


def test_slow_methods_run_only_when_named_and_those_for_a_gpu_where_there_is_one(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[Any] = []
    found, _ = plan("table1", root, seeds=1, say=said.append)
    assert "pixelcnn" not in {job.cell.method for job in found}
    assert "mnist pixelcnn: left out, it takes hours; name it with --method pixelcnn" in said
    found, _ = plan("table1", root, methods=["pixelcnn"], seeds=1)
    assert [job.cell.data for job in found] == ["mnist", "cifar10"]

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    said.clear()
    found, _ = plan("table4", root, methods=["memae-paper"], seeds=1, say=said.append)
    assert [job.cell.data for job in found] == ["mnist", "kddcup99"]  # only the video network takes a GPU
    assert said == ["ped2 memae-paper: left out, it needs a GPU"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    found, _ = plan("table2", root, methods=["memae-paper"], seeds=1)
    assert [job.cell.data for job in found] == ["ped2"]


def test_a_cell_has_the_figures_of_each_part(root: Path, small_data: Path) -> None:
    assert compute(job("pca-30", "8", "2", seed=1), root, FOREVER, lambda _: None)
    found = json.loads((root / "mnist" / "pca-30" / "seed-1.json").read_text())
    assert (found["data"], found["method"], found["seed"]) == ("mnist", "pca-30", 1)
    assert found["settings"] == {"components": 30}
    assert found["command"] == "the command"
    assert {*found["parts"]} == {"2", "8"}
    part = found["parts"]["8"]
    assert {*part} == {"metrics", "seconds", "samples", "stored", "facts", "commit", "hardware"}
    assert part["samples"] == {"fit": 100, "test": 100, "anomalies": 90}
    assert part["stored"] == 30
    assert {*part["metrics"]} == {"full", "paper"}
    split = MNIST.split("8", 1)
    scores = METHODS["pca-30"](split.fit, 1).score(split.test)
    assert part["metrics"]["full"]["auroc"] == pytest.approx(auroc(split.labels, scores), abs=1e-6)


def test_each_part_is_kept_before_the_next_begins(
    root: Path, small_data: Path, methods: tuple[Callable[..., None], list[Any]]
) -> None:
    put, fitted = methods

    def third_time_is_ctrl_c() -> None:
        if len(fitted) == 2:
            raise KeyboardInterrupt

    put("mine", before=third_time_is_ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        run_all([job("mine")], root, FOREVER, lambda _: None)
    assert Cell("mnist", "mine", 0).parts(root) == {"0", "1"}
    assert [file.name for file in (root / "mnist" / "mine").iterdir()] == ["seed-0.json"]
    before = Cell("mnist", "mine", 0).read(root)["parts"]
    put("mine")
    assert compute(job("mine"), root, FOREVER, lambda _: None)
    after = Cell("mnist", "mine", 0).read(root)["parts"]
    assert len(fitted) == 10
    assert {part: after[part] for part in before} == before


def test_a_training_that_ctrl_c_ended_early_is_no_result(
    root: Path, small_data: Path, methods: tuple[Callable[..., None], list[Any]]
) -> None:
    methods[0]("mine", facts={"interrupted": True})
    with pytest.raises(KeyboardInterrupt):
        compute(job("mine", "8"), root, FOREVER, lambda _: None)
    assert not root.exists()


def test_no_part_is_begun_after_the_deadline(
    root: Path, small_data: Path, methods: tuple[Callable[..., None], list[Any]]
) -> None:
    put, fitted = methods
    put("mine")
    assert not compute(job("mine"), root, time.time() - 1, lambda _: None)
    assert fitted == []
    said: list[Any] = []
    assert run_all([job("mine"), job("mine", seed=1)], root, time.time() - 1, said.append) == []
    assert said == ["budget spent; 2 cells are left"]
    assert not root.exists()


def test_a_part_that_another_process_has_written_is_left_to_it(
    root: Path, small_data: Path, methods: tuple[Callable[..., None], list[Any]]
) -> None:
    put, fitted = methods
    put("mine")
    compute(job("mine", "8"), root, FOREVER, lambda _: None)
    compute(job("mine", "8", "2"), root, FOREVER, lambda _: None)
    assert len(fitted) == 2


def test_a_cell_of_other_settings_is_refused(
    root: Path, small_data: Path, methods: tuple[Callable[..., None], list[Any]]
) -> None:
    put, _ = methods
    put("mine", settings={"width": 3})
    compute(job("mine", "8"), root, FOREVER, lambda _: None)
    put("mine", settings={"width": 4})
    with pytest.raises(CellError, match=r"width was 3, is 4\); remove the file to compute the cell anew"):
        compute(job("mine", "2"), root, FOREVER, lambda _: None)
    assert Cell("mnist", "mine", 0).parts(root) == {"8"}


def test_a_cell_that_fails_is_named_and_the_others_go_on(
    root: Path, small_data: Path, methods: tuple[Callable[..., None], list[Any]]
) -> None:
    put, _ = methods

    def fail() -> NoReturn:
        raise ZeroDivisionError("by nought")

    put("broken", before=fail)
    put("mine")
    said: list[Any] = []
    failed = run_all([job("broken", "8"), job("mine", "8")], root, FOREVER, said.append)
    assert len(failed) == 1
    assert failed[0].startswith("mnist broken seed 0: ZeroDivisionError: by nought (test_runner.py:")
    assert said[0] == f"FAILED {failed[0]}"
    assert said[1].startswith("mnist mine seed 0 class 8: full auroc ")
    assert not (root / "mnist" / "broken").exists()
    assert Cell("mnist", "mine", 0).parts(root) == {"8"}


@pytest.fixture
def experiments(
    root: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs `python -m experiments` in this process: its exit code, stdout and stderr."""

    def run(*words: str) -> tuple[Any, str, str]:
        monkeypatch.setattr(sys, "argv", ["experiments", *words])
        capfd.readouterr()
        monkeypatch.delitem(sys.modules, "experiments.__main__", raising=False)  # another test may have loaded it
        with pytest.raises(SystemExit) as exit:
            runpy.run_module("experiments", run_name="__main__")
        return exit.value.code, *capfd.readouterr()

    return run


def test_the_command_computes_what_is_missing_and_then_nothing(
    small_data: Path, root: Path, experiments: Callable[..., tuple[int, str, str]]
) -> None:
    words = ("run", "table1", "--data", "mnist", "--method", "pca-30", "--seeds", "2", "--parts", "8,2")
    code, out, err = experiments(*words)
    assert (code, out) == (0, "")
    assert err.startswith(
        "table1: 2 cells, 2 incomplete, 4 parts to compute\nmnist pca-30 seed 0 class 2: full auroc "
    )
    assert len(err.splitlines()) == 5
    first = root / "mnist" / "pca-30" / "seed-0.json"
    kept = first.read_bytes()
    first.with_name("seed-1.json").unlink()
    code, _, err = experiments(*words)
    assert code == 0
    assert err.startswith("table1: 2 cells, 1 incomplete, 2 parts to compute\nmnist pca-30 seed 1 class 2: ")
    assert first.read_bytes() == kept
    assert experiments(*words) == (0, "", "table1: 2 cells, 0 incomplete, 0 parts to compute\n")


def test_the_command_ends_with_1_if_a_cell_failed(
    small_data: Path, root: Path, experiments: Callable[..., tuple[int, str, str]]
) -> None:
    (small_data / "mnist" / "train-images-idx3-ubyte.gz").unlink()
    code, _, err = experiments("run", "table1", "--method", "pca-30", "--seeds", "1", "--parts", "8")
    assert code == 1
    assert "1 failed, of 2 cells:\n  mnist pca-30 seed 0: DataError: " in err
    assert "train-images-idx3-ubyte.gz: not found" in err
    assert Cell("cifar10", "pca-30", 0).parts(root) == {"8"}  # the other goes on


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("table7",), "'table7': no such table"),
        (("table1", "--budget", "10"), "budget '10': give a number and s, m or h"),
        (("table1", "--parts", "12"), "'12': no such part"),
    ],
)
def test_a_wrong_word_ends_the_command_with_2(
    root: Path, experiments: Callable[..., tuple[int, str, str]], words: tuple[str, ...], complaint: str
) -> None:
    code, out, err = experiments("run", *words)
    assert (code, out) == (2, "")
    assert complaint in err
    assert len(err.splitlines()) == 1


def test_a_spent_budget_is_no_failure(
    small_data: Path, root: Path, experiments: Callable[..., tuple[int, str, str]]
) -> None:
    code, _, err = experiments("run", "table1", "--method", "pca-30", "--seeds", "1", "--budget", "0s")
    assert code == 0
    assert err.endswith("budget spent; 2 cells are left\n")
    assert not root.exists()
