"""Does what docs/add-your-own.md says, with the code that stands there."""

import importlib
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import experiments
from experiments import data, methods, tables
from experiments.data import DATA
from experiments.runner import plan, run_all
from experiments.summary import as_json, summarise

PAGE = Path(__file__).parents[2] / "docs" / "add-your-own.md"
BLOCK = re.compile(r"<!-- (file|line): (\S+) -->\n```python\n(.*?)```", re.DOTALL)


def blocks(kind: str) -> dict[str, str]:
    return {name: code for found, name, code in BLOCK.findall(PAGE.read_text(encoding="utf-8")) if found == kind}


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The files of the page are modules of the project, and its lines stand in the registries."""
    found = {}
    for name, code in blocks("file").items():
        dotted = name.removesuffix(".py").replace("/", ".")
        package, short = dotted.rsplit(".", 1)
        module = ModuleType(dotted)
        monkeypatch.setitem(sys.modules, dotted, module)
        monkeypatch.setattr(importlib.import_module(package), short, module, raising=False)
        exec(compile(code, name, "exec"), vars(module))
        # the registry's file imports a module for data sets, and the function of that name for methods
        found[short] = getattr(module, short, module)
    for name, registry, home in (("DATA", data.DATA, data), ("METHODS", methods.METHODS, methods)):
        line = blocks("line")[name]
        for key, value in eval(f"{{{line}}}", {**vars(home), **found}).items():
            assert key not in registry
            monkeypatch.setitem(registry, key, value)
    return found


def test_the_page_adds_one_data_set_and_one_method_in_a_file_and_a_line_each() -> None:
    files = blocks("file")
    assert [name.rsplit("/", 1)[0] for name in files] == ["experiments/protocols", "experiments/methods"]
    assert {*blocks("line")} == {"DATA", "METHODS"}
    root = Path(experiments.__file__).parent.parent
    for name, code in files.items():
        assert not (root / name).exists(), "the page would overwrite a file of the project"
        assert len(code.splitlines()) + 1 < 50
    for line in blocks("line").values():
        assert len(line.splitlines()) == 1


def test_the_new_data_set_and_the_new_method_are_run_and_summed_up(added: dict[str, Any], tmp_path: Path) -> None:
    said: list[Any] = []
    jobs, count = plan("others", tmp_path, data="digits", methods=["mean-distance"], seeds=2)
    assert count == len(jobs) == 2
    assert run_all(jobs, tmp_path, float("inf"), said.append) == []
    jobs, _ = plan("others", tmp_path, data="digits", methods=["pca-30"], seeds=1, parts=["0"])
    assert run_all(jobs, tmp_path, float("inf"), said.append) == []
    assert len(said) == 2 * len(DATA["digits"].parts) + 1

    found = json.loads(as_json(summarise(tmp_path)))["others"]
    assert {*found} == {"digits", "digits-0", "digits-1"}
    figures = found["digits"]["mean-distance"]["full"]
    assert {*figures} == {"auroc", "average_precision"}
    assert figures["auroc"]["seeds"] == 2
    assert 0.9 < figures["auroc"]["mean"] < 1
    assert figures["auroc"]["low"] < figures["auroc"]["mean"] < figures["auroc"]["high"]
    assert found["digits"]["mean-distance"]["cost"]["stored"]["mean"] == 1
    assert {*found["digits-0"]} == {"mean-distance", "pca-30"}
    assert {*found["digits"]} == {"mean-distance"}


def test_the_split_of_the_page_is_a_fair_one(added: dict[str, Any]) -> None:
    digits: Any = DATA["digits"]
    split = digits.split("1", 0)
    fitted, tested = ({row.tobytes() for row in images} for images in (split.fit, split.test))
    assert not fitted & tested
    assert len(split.fit) + len(split.test) == 1797
    assert 100 < len(split.fit) == pytest.approx(2 * (~split.labels).sum(), abs=2)
    other = digits.split("1", 1)
    assert fitted != {row.tobytes() for row in other.fit}


def test_the_new_row_that_the_page_names_is_a_row(added: dict[str, Any]) -> None:
    row = eval(re.search(r"`(Row\(.*?\))`", PAGE.read_text())[1], vars(tables))
    assert row.method in methods.METHODS
