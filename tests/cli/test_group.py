"""memae fit --group: what it says, and what an interruption of a fold leaves behind."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.numpy import load_file

from tests.cli.conftest import Done
from tests.cli.test_fit import interrupt_when, interruptible

BRIEF = ("--set", "train.epochs=2")
GROUP = np.repeat(np.arange(40), 5)


@pytest.fixture
def rows(folder: Path) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(40, 4))[GROUP] + rng.normal(size=(200, 4))
    frame = pd.DataFrame(values, columns=list("abcd")).assign(host=[f"host{number}" for number in GROUP])
    frame.to_csv("flows.csv", index=False)
    frame.drop(columns="host").to_csv("new.csv", index=False)


@pytest.fixture
def photographs(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for part in range(20):
        texture = rng.integers(0, 255, (8, 8))
        (folder / "parts" / f"part_{part}").mkdir(parents=True)
        for number in range(4):
            pixels = np.clip(texture + rng.normal(0, 2, (8, 8)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "parts" / f"part_{part}" / f"{number}.png")


@pytest.mark.usefixtures("rows")
def test_the_summary_says_groups_folds_and_what_to_expect(memae: Callable[..., Done]) -> None:
    done = memae("fit", "flows.csv", "--group", "host", "--out", "model", *BRIEF)
    assert done.code == 0
    lines = done.err.splitlines()
    assert any(
        line.endswith("200 for the threshold, scored in 2 folds by models that did not see them") for line in lines
    )
    assert "groups: 40; 40 for training, 0 for early stopping, 40 for the threshold" in lines
    assert any(
        line.startswith("note: 40 held-out groups are too few to promise a false-alarm rate") for line in lines
    )
    assert any(line.startswith("note: the threshold comes from cross-fitting over 2 folds") for line in lines)
    assert memae("score", "model", "new.csv").out == memae("score", "model", "flows.csv").out
    shown = " ".join(memae("inspect", "model").out.split())
    assert "for a false-alarm rate of 0.01, from 40 groups" in shown
    assert "groups 40, of which 40 trained the model; the threshold comes from 2 folds" in shown
    report = json.loads(memae("inspect", "model", "--json").out)
    assert report["threshold"]["groups"] == report["facts"]["groups"]["all"] == 40
    assert report["facts"]["folds"] == 2


@pytest.mark.usefixtures("rows")
def test_a_rate_that_the_groups_can_promise_has_no_caveat(memae: Callable[..., Done]) -> None:
    words = ("--false-alarm-rate", "0.2", *BRIEF)
    done = memae("fit", "flows.csv", "--group", "host", "--out", "model", *words)
    assert "flags at most 0.2 of normal samples of new groups" in done.err
    assert "groups: 40; 32 for training, 0 for early stopping, 8 for the threshold" in done.err
    assert "note: " not in done.err


@pytest.mark.usefixtures("photographs")
@pytest.mark.parametrize("group", ["folder", r"part_(\d+)", "groups.csv"])
def test_images_by_folder_pattern_and_table(memae: Callable[..., Done], folder: Path, group: str) -> None:
    files = sorted((folder / "parts").glob("*/*.png"))
    lines = [f"{file.relative_to(folder).as_posix()},{file.parent.name}" for file in files]
    (folder / "groups.csv").write_text("\n".join(["file,group", *lines]))
    done = memae("fit", "parts", "--group", group, "--out", "model", *BRIEF)
    assert done.code == 0
    assert "groups: 20;" in done.err
    assert "nearly equal" not in done.err


@pytest.mark.usefixtures("photographs")
def test_near_duplicates_name_the_option(memae: Callable[..., Done]) -> None:
    done = memae("fit", "parts", "--out", "model", *BRIEF)
    (line,) = (line for line in done.err.splitlines() if "nearly equal to images of the training" in line)
    assert line.startswith("warning: ")
    assert line.endswith("say with --group which images show the same thing, or keep one of each")


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize("fold", ["fold_1", "fold_2"])
def test_ctrl_c_in_a_fold_keeps_the_first_model_and_resume_ends_as_if_it_had_never_been(
    memae: Callable[..., Done], folder: Path, fold: str
) -> None:
    words = ("fit", "flows.csv", "--group", "host", "--set", "train.epochs=25", "--set", "train.batch_size=2")
    process = interruptible(folder, *words, "--out", "model")
    out, err = interrupt_when(process, (folder / "model.checkpoint" / fold / "main" / "state.json").exists)
    assert (process.returncode, out) == (130, "")
    assert f"interrupted in {fold.replace('_', ' ')} of 2; the model of fold 1, epoch " in err
    assert "which did not see all samples, is saved. Continue with the same command and --resume" in err
    facts = json.loads((folder / "model" / "config.json").read_text())["facts"]
    assert facts["interrupted"]
    assert facts["groups"]["training"] == facts["groups"]["calibration"] == 20
    assert len(memae("score", "model", "new.csv").out.splitlines()) == 201
    assert memae(*words, "--out", "model", "--resume").code == 0
    assert memae(*words, "--out", "whole").code == 0
    resumed, whole = (load_file(folder / name / "model.safetensors") for name in ("model", "whole"))
    for name, array in whole.items():
        assert np.array_equal(resumed[name], array), name
    assert not (folder / "model.checkpoint").exists()
