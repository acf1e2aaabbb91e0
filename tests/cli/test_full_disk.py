"""A file system that takes no more: real writes past RLIMIT_FSIZE, in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no RLIMIT_FSIZE there")

LIMITED = """
import resource, signal, sys
from memae.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write fails, and the process lives
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)
sys.argv[0] = "memae"
main()
"""


def limited(size, *words):
    """The command line in a process that can write no file above so many bytes."""
    command = [sys.executable, "-c", LIMITED, str(size), *map(str, words)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200"}
    )


@pytest.fixture
def place(folder, benign, model):
    benign.to_csv("ok.csv", index=False)
    model("table", "flows.model")
    Path("old.csv").write_text("old scores")
    return folder


@pytest.mark.parametrize("out", ["old.csv", "new.parquet", "new.jsonl"])
def test_scores_that_do_not_fit_leave_what_was_there(place, tree, out):
    before = tree()
    done = limited(1000, "score", "flows.model", "ok.csv", "--out", out)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {out}: cannot be written, no space left (")
    assert done.stderr.endswith("make room there, or choose another place\n")
    assert done.stderr.count("\n") == 1
    assert tree() == before


def test_a_model_that_does_not_fit_leaves_what_was_there(place, tree):
    before = tree()
    words = ("fit", "ok.csv", "--out", "flows.model", "--set", "train.epochs=1")
    done = limited(1000, *words)
    assert (done.returncode, done.stdout) == (1, "")
    warning, error = done.stderr.splitlines()
    assert warning.startswith("warning: no checkpoint of epoch 1: ")
    assert warning.endswith("; the training goes on")
    assert error.startswith("error: flows.model: cannot be written, no space left (")
    assert tree() == before


def test_a_training_goes_on_without_its_checkpoints(place):
    """A checkpoint is larger than the model: it holds the best weights and the optimiser as well."""
    words = ("fit", "ok.csv", "--out", "new.model", "--set", "train.epochs=2", "--set", "memory.num_items=12")
    size = 2 * (place / "flows.model" / "model.safetensors").stat().st_size
    done = limited(size, *words)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("warning: no checkpoint of epoch") == 2
    assert {path.name for path in (place / "new.model").iterdir()} == {"model.safetensors", "config.json"}
    assert not list(place.glob("*.checkpoint"))


def test_frames_to_train_on_that_do_not_fit_name_the_folder_of_temporary_files(camera):
    done = limited(5000, "fit", "normal", "--out", "new.model", "--preset", "video")
    assert (done.returncode, done.stdout) == (1, "")
    assert "no space left for the frames to train on" in done.stderr
    assert "TMPDIR" in done.stderr
    assert not Path("new.model").exists()


def test_a_picture_that_does_not_fit_leaves_none(folder, model):
    model("image")
    done = limited(1000, "inspect", "model", "--out", "items.png")
    assert done.returncode == 1
    assert "error: items.png: cannot be written, no space left" in done.stderr
    assert [path.name for path in folder.iterdir()] == ["model"]


def test_without_a_limit_all_of_it_fits(place):
    assert limited(1 << 30, "score", "flows.model", "ok.csv", "--out", "s.csv", "--quiet").returncode == 0
    assert np.loadtxt("s.csv", delimiter=",", skiprows=1, usecols=1).shape == (357,)
