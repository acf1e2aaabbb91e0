"""The verb export."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Done

Memae = Callable[..., Done]


@pytest.mark.slow
def test_it_writes_a_file_and_says_how_far_it_is_from_memae(memae: Memae, model: Callable[..., Path]) -> None:
    model("table")
    done = memae("export", "model", "--to", "onnx", "--out", "out")
    assert (done.code, done.err) == (0, "")
    first, second = done.out.splitlines()
    assert first == "out: model.json, model.onnx"
    assert second.startswith("golden samples in onnxruntime ")
    again = memae("export", "model", "--to", "openvino", "--out", "out", "--json")
    assert (again.code, again.err) == (0, "")
    assert json.loads(again.out)["files"] == ["model.bin", "model.json", "model.xml"]


def test_unknown_words_are_refused(memae: Memae, model: Callable[..., Path]) -> None:
    model("table")
    done = memae("export", "model", "--to", "coreml", "--out", "out")
    assert (done.code, done.err) == (1, "error: --to coreml: take onnx or openvino\n")
    done = memae("export", "model", "--to", "onnx", "--out", "out", "--layout", "keras")
    assert (done.code, done.err) == (1, "error: --layout keras: take memae or anomalib\n")
    assert not Path("out").exists()


def test_what_is_no_model_and_a_directory_of_other_things_are_refused(
    memae: Memae, model: Callable[..., Path], folder: Path
) -> None:
    model("table")
    (folder / "mine").mkdir()
    (folder / "mine" / "notes.txt").write_text("keep me")
    done = memae("export", "model", "--to", "onnx", "--out", "mine")
    assert done.code == 1
    assert "mine: holds 'notes.txt', which is of no export; choose another directory" in done.err
    done = memae("export", "mine", "--to", "onnx", "--out", "out")
    assert done.code == 1
    assert "no memae model" in done.err
    done = memae("export", "model", "--to", "onnx", "--out", "out", "--layout", "anomalib")
    assert done.code == 1
    assert "a model of tables has 'memae'" in done.err
