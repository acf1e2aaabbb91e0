"""The experiments use names that memae makes public on purpose, and no others."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

import experiments

PUBLIC = [
    "memae",
    "memae.memory",
    "memae.training",
    "memae.modality",
    "memae.metrics",
    "memae.autoencoder",
    "memae.losses",
    "memae.engine",
    "memae.predict",
    "memae.teach",
    "memae.config",
    "memae.types",
    "memae.errors",
    "memae.files.atomic",
    "memae.plots.figures",
    "memae.progress",
    "memae.datasets",
    "memae.demo",
    "memae.image.config",
    "memae.image.maps",
    "memae.image.networks",
    "memae.table.config",
    "memae.table.networks",
    "memae.video.clips",
    "memae.video.config",
    "memae.video.evaluate",
    "memae.video.events",
    "memae.video.frames",
    "memae.video.preprocess",
    "memae.video.scoring",
    "memae.video.source",
]
FILES = sorted(Path(experiments.__file__).parent.rglob("*.py"))


def imported(file: Path) -> list[tuple[str, str]]:
    """Module and name of what a file takes from memae."""
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "memae":
            found += [(node.module or "", alias.name) for alias in node.names]
        if isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names if alias.name.split(".")[0] == "memae"]
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_experiment_uses_public_names_only(file: Path) -> None:
    for module, name in imported(file):
        if (module, name) == ("memae", "datasets"):
            continue  # a module of the list
        assert module in PUBLIC, f"{file.name} imports {module}"
        assert name in importlib.import_module(module).__all__, f"{file.name} imports {name} of {module}"


def test_no_module_is_public_for_nothing() -> None:
    used = {module for file in FILES for module, _ in imported(file)} | {"memae.datasets"}
    assert set(PUBLIC) - used <= {"memae.memory", "memae.progress", "memae.types"}
