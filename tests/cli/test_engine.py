"""`--engine` on the command line: which runtime scores, what is said of it and why, and what is refused."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from memae.engine.openvino import OpenVinoAutoencoder
from tests.cli.conftest import Done

Run = Callable[..., Done]


@pytest.fixture
def zeros(model: Callable[..., Path], digits: Any, write_pngs: Any, folder: Path) -> Path:
    """The working directory with a model of images as `model`, and 20 images in `new`."""
    model("image")
    write_pngs(digits(3)[:20], folder / "new")
    return folder


def result_of(done: Done) -> dict[str, Any]:
    """The last line of --log-json."""
    assert done.code == 0, done.err
    result: dict[str, Any] = json.loads(done.err.splitlines()[-1])
    assert result["event"] == "result"
    return result


def scored(memae: Run, *words: str) -> tuple[dict[str, Any], np.ndarray]:
    """What `score` says at its end, and the scores that it wrote."""
    said = result_of(memae("score", "model", "new", "--out", "scores.csv", "--log-json", *words))
    return said, pd.read_csv("scores.csv")["score"].to_numpy()


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of samples that OpenVINO was asked to score; it does so all the same."""
    shapes: list[tuple[int, ...]] = []
    really = OpenVinoAutoencoder.converted

    def converted(self: OpenVinoAutoencoder, sample: tuple[int, ...]) -> Any:
        shapes.append(sample)
        return really(self, sample)

    monkeypatch.setattr(OpenVinoAutoencoder, "converted", converted)
    return shapes


def test_each_engine_scores_alike_and_is_named_with_the_reason(
    zeros: Path, memae: Run, conversions: list[tuple[int, ...]]
) -> None:
    by_torch, wanted = scored(memae, "--engine", "torch")
    assert conversions == []
    by_openvino, found = scored(memae, "--engine", "openvino")
    assert conversions == [(1, 8, 8)]
    assert (by_torch["engine"], by_torch["engine_reason"]) == ("torch", "asked for")
    assert (by_openvino["engine"], by_openvino["engine_reason"]) == ("openvino", "asked for")
    assert found == pytest.approx(wanted, rel=1e-5)


def test_left_to_itself_it_says_what_it_takes_and_why(
    zeros: Path, memae: Run, conversions: list[tuple[int, ...]]
) -> None:
    said, _ = scored(memae)
    assert said["engine"] == "openvino"
    assert said["engine_reason"] == "where there is enough to score; a shorter pass is left to torch"
    assert conversions == []  # so few do not pay


def test_without_openvino_torch_scores_and_says_what_to_install(
    zeros: Path, memae: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    said, _ = scored(memae)
    assert said["engine"] == "torch"
    assert said["engine_reason"] == "OpenVINO is not installed: pip install 'memae[openvino]'"
    done = memae("score", "model", "new", "--engine", "openvino")
    assert done.code == 1
    assert "--engine" in done.err
    assert "pip install 'memae[openvino]'" in " ".join(done.err.split())


@pytest.mark.parametrize("verb", ["score", "evaluate"])
def test_an_unknown_engine_is_refused_with_those_there_are(zeros: Path, memae: Run, verb: str) -> None:
    done = memae(verb, "model", "new", "--engine", "onnx")
    assert done == Done(1, "", "error: --engine onnx: give 'auto', 'torch', 'openvino'\n")


def test_fit_keeps_which_engine_is_for_the_model_and_why(
    folder: Path, memae: Run, benign: pd.DataFrame, digits: Any, write_pngs: Any
) -> None:
    benign.to_csv("ok.csv", index=False)
    write_pngs(digits(0), folder / "ok")
    brief = ("--set", "train.epochs=1", "--set", "memory.num_items=12", "--log-json")
    wanted = {
        "ok.csv": "torch: a network without convolutions gains nothing from OpenVINO",
        "ok": "openvino: where there is enough to score; a shorter pass is left to torch",
    }
    for source, engine in wanted.items():
        assert result_of(memae("fit", source, "--out", f"{source}.model", *brief))["engine"] == engine
        assert json.loads(memae("inspect", f"{source}.model", "--json").out)["facts"]["engine"] == engine
