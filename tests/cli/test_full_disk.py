"""A file system that takes no more: real writes past RLIMIT_FSIZE, in processes of their own."""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from memae import Detector
from tests.cli.conftest import Done
from tests.small_footage import FRAMES

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no RLIMIT_FSIZE there")

LIMITED = """
import resource, signal, sys
from memae.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write fails, and the process lives
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)
sys.argv[0] = "memae"
main()
"""


def limited(size: int, *words: str, **env: Any) -> subprocess.CompletedProcess[str]:
    """The command line in a process that can write no file above so many bytes."""
    command = [sys.executable, "-c", LIMITED, str(size), *map(str, words)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200", **env}
    )


@pytest.fixture
def disk(folder: Path) -> Iterator[Path]:
    """A file system of 256 KiB of its own."""
    place = folder / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("only root may mount a file system")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
def place(folder: Path, benign: pd.DataFrame, model: Callable[..., Path]) -> Path:
    benign.to_csv("ok.csv", index=False)
    model("table", "flows.model")
    Path("old.csv").write_text("old scores")
    return folder


@pytest.mark.parametrize("out", ["old.csv", "new.parquet", "new.jsonl"])
def test_scores_that_do_not_fit_leave_what_was_there(
    place: Path, tree: Callable[[], dict[str, bytes]], out: str
) -> None:
    before = tree()
    done = limited(1000, "score", "flows.model", "ok.csv", "--out", out)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {out}: cannot be written, no space left (")
    assert done.stderr.endswith("make room there, or choose another place\n")
    assert done.stderr.count("\n") == 1
    assert tree() == before


def test_a_disk_that_is_full_already_is_found_before_the_training(
    place: Path, tree: Callable[[], dict[str, bytes]]
) -> None:
    before = tree()
    words = ("fit", "ok.csv", "--out", "flows.model", "--log", "log")
    done = limited(1000, *words)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: flows.model: cannot be written, no space left (")
    assert done.stderr.count("\n") == 1
    assert tree() == before  # no log: there was no epoch


def test_a_model_that_fits_nowhere_leaves_what_was_there(
    place: Path, tree: Callable[[], dict[str, bytes]]
) -> None:
    before = tree()
    words = ("fit", "ok.csv", "--out", "flows.model", "--set", "train.epochs=1")
    done = limited(5000, *words)
    assert (done.returncode, done.stdout) == (1, "")
    warning, error = done.stderr.splitlines()
    assert warning.startswith("warning: no checkpoint of epoch 1: ")
    assert warning.endswith("; the training goes on")
    assert error.startswith("error: flows.model: cannot be written, no space left (")
    assert "The trained model is lost: it fits neither there nor into " in error
    assert tree() == before


BRIEF = ("--preset", "table-paper", "--set", "train.epochs=1", "--set", "memory.num_items=12")


def test_a_model_whose_name_was_taken_during_the_training_is_kept_beside_it(
    place: Path, memae: Callable[..., Done]
) -> None:
    words = (
        "fit",
        "ok.csv",
        "--out",
        "new.model",
        *BRIEF,
        "--set",
        "train.epochs=40",
        "--set",
        "train.batch_size=4",
    )
    command = [sys.executable, "-m", "memae", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not Path("new.model.checkpoint", "main", "state.json").exists():
            time.sleep(0.005)
        Path("new.model").write_text("years of work")
        said = process.communicate()[1]
    assert process.returncode == 1
    assert Path("new.model").read_text() == "years of work"
    kept = re.search(
        r"error: new\.model: exists and is no memae model.*\. The trained model is safe in (\S+); put it in the place "
        r"of new\.model\n$",
        said,
    )
    assert kept, said
    assert Path(kept[1]).parent == place
    assert len(Detector.load(kept[1]).score("ok.csv")) == 357
    assert not Path("new.model.checkpoint").exists()


def test_a_model_that_does_not_fit_on_its_disk_is_kept_on_another(
    disk: Path, benign: pd.DataFrame, memae: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    benign.to_csv("ok.csv", index=False)
    (disk / "rest").write_bytes(bytes(248 << 10))  # leaves too little for a model, and enough to begin
    done = memae("fit", "ok.csv", "--out", "disk/new.model", *BRIEF)
    assert (done.code, done.out) == (1, "")
    warning, error = done.err.splitlines()
    assert warning.startswith("warning: no checkpoint of epoch 1: ")
    kept = re.search(
        r"^error: disk/new\.model: cannot be written, no space left .*choose another place\. The trained model is safe "
        r"in (\S+); then:  (mv \S+ disk/new\.model)$",
        error,
    )
    assert kept, error
    assert [path.name for path in disk.iterdir()] == ["rest"]
    (disk / "rest").unlink()
    subprocess.run(kept[2].split(), check=True)
    assert memae("score", "disk/new.model", "ok.csv").code == 0


def test_a_model_that_fits_nowhere_is_written_from_its_checkpoint_once_there_is_room(
    disk: Path, benign: pd.DataFrame, memae: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(disk))
    benign.to_csv("ok.csv", index=False)
    (disk / "rest").write_bytes(
        bytes(220 << 10)
    )  # leaves enough for a checkpoint, and not for the model beside it
    words = ("fit", "ok.csv", "--out", "disk/new.model", *BRIEF)
    done = memae(*words)
    assert done.code == 1
    assert done.err.startswith("error: disk/new.model: cannot be written, no space left")
    assert done.err.endswith(
        f"{disk}/new.model.checkpoint holds the training; the same command with --resume then writes the model\n"
    )
    (disk / "rest").unlink()
    assert memae(*words, "--resume", "--log", "log").code == 0
    assert (
        not Path("log", "train.jsonl").exists() or not Path("log", "train.jsonl").read_text()
    )  # nothing was trained
    assert not (disk / "new.model.checkpoint").exists()
    assert memae("score", "disk/new.model", "ok.csv").code == 0


@pytest.mark.parametrize("verb", ["fit ok.csv --out", "score flows.model ok.csv --quiet --out"])
def test_a_place_that_is_closed_to_writing_is_found_before_the_work(
    place: Path, verb: str, memae: Callable[..., Done]
) -> None:
    Path("closed").mkdir(mode=0o500)
    out = "closed/new.csv"
    if os.access("closed", os.W_OK):  # root may write everywhere but here
        out = "/proc/new.csv"
        if not Path("/proc").exists():
            pytest.skip("root may write everywhere")
    done = memae(*verb.split(), out)
    assert (done.code, done.out) == (1, "")
    assert re.fullmatch(rf"error: {out}: cannot be written \(.+\); choose another place\n", done.err)


def test_a_training_goes_on_without_its_checkpoints(place: Path) -> None:
    """A checkpoint is larger than the model: it holds the best weights and the optimiser as well."""
    words = ("fit", "ok.csv", "--out", "new.model", "--set", "train.epochs=2", "--set", "memory.num_items=12")
    size = 2 * (place / "flows.model" / "model.safetensors").stat().st_size
    done = limited(size, *words)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("warning: no checkpoint of epoch") == 2
    assert {path.name for path in (place / "new.model").iterdir()} == {"model.safetensors", "config.json"}
    assert not list(place.glob("*.checkpoint"))


def test_a_training_goes_on_without_its_log(
    disk: Path, benign: pd.DataFrame, memae: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    benign.to_csv("ok.csv", index=False)
    (disk / "rest").write_bytes(bytes(244 << 10))
    done = memae("fit", "ok.csv", "--out", "new.model", "--log", "disk/log", *BRIEF, "--set", "train.epochs=60")
    assert done.code == 0, done.err
    assert done.err.count("warning: ") == 1
    assert "warning: disk/log/train.jsonl: cannot be written, no space left" in done.err
    assert "; the work goes on without this log" in done.err


@pytest.mark.parametrize("option", ["--overlay maps", "--explain why.jsonl"])
def test_maps_and_reasons_that_do_not_fit_leave_the_scores(
    place: Path,
    model: Callable[..., Path],
    digits: Callable[[int], np.ndarray],
    write_pngs: Callable[[np.ndarray, Path], None],
    rows: pd.DataFrame,
    option: str,
) -> None:
    file = option.split()[1]
    if file == "maps":
        model("image", "digits.model")
        noise = np.random.default_rng(0).integers(0, 256, (40, 80, 80), dtype=np.uint8)  # no PNG makes it smaller
        write_pngs(noise, place / "images")
        words = ("digits.model", "images")
    else:
        rows[rows.label == "malignant"][:40].drop(columns="label").to_csv("sick.csv", index=False)
        words = ("flows.model", "sick.csv")
    done = limited(5000, "score", *words, "--out", "scores.csv", "--quiet", *option.split())
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert done.stderr.startswith(f"error: {file}")
    assert done.stderr.count("\n") == 1
    assert ": cannot be written, no space left (" in done.stderr
    assert np.loadtxt("scores.csv", delimiter=",", skiprows=1, usecols=1).shape == (40,)
    assert not Path("why.jsonl").exists()
    assert not [path for path in place.rglob("*") if ".part" in path.name]


@pytest.mark.parametrize("option", ["--overlay overlay.mp4", "--events events.jsonl"])
def test_videos_that_do_not_fit_leave_the_rows_and_the_events(
    camera: Path, enter: tuple[str, str], option: str
) -> None:
    name = option.split()[1]
    done = limited(
        9000, "score", "camera.model", "clip.mp4", "--out", "frames.csv", "--quiet", *option.split(), *enter
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {name.removesuffix('.jsonl')}: cannot be written, no space left (")
    assert done.stderr.count("\n") == 1
    assert len(Path("frames.csv").read_text().splitlines()) == FRAMES + 1
    assert not Path("overlay.mp4").exists() and not Path("events").exists()
    assert not [path for path in camera.iterdir() if ".part" in path.name]
    if name == "events.jsonl":
        (event,) = map(json.loads, Path(name).read_text().splitlines())
        assert event["peak_score"] > 0 and event["still"] is None and event["clip"] is None


def test_frames_to_train_on_that_do_not_fit_name_the_folder_of_temporary_files(camera: Path) -> None:
    done = limited(5000, "fit", "normal", "--out", "new.model", "--preset", "video")
    assert (done.returncode, done.stdout) == (1, "")
    assert "no space left for the frames to train on" in done.stderr
    assert "TMPDIR" in done.stderr
    assert not Path("new.model").exists()


def test_a_picture_that_does_not_fit_leaves_none(folder: Path, model: Callable[..., Path]) -> None:
    model("image")
    done = limited(1000, "inspect", "model", "--out", "items.png")
    assert done.returncode == 1
    assert "error: items.png: cannot be written, no space left" in done.stderr
    assert [path.name for path in folder.iterdir()] == ["model"]


def test_without_a_limit_all_of_it_fits(place: Path) -> None:
    assert limited(1 << 30, "score", "flows.model", "ok.csv", "--out", "s.csv", "--quiet").returncode == 0
    assert np.loadtxt("s.csv", delimiter=",", skiprows=1, usecols=1).shape == (357,)
