import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from memae import Detector
from tests.cli.conftest import Done
from tests.small_data import write_idx

BRIEF = ("--set", "train.epochs=2", "--set", "memory.num_items=12")


def settings(folder: Path, name: str = "model") -> Any:
    return json.loads((folder / name / "config.json").read_text())


def log(folder: Path, name: str = "log") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name / "train.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "parquet", "npz", "npy", "png", "idx", "idx.gz"])
def test_it_learns_from_every_kind_of_source(
    memae: Callable[..., Done],
    folder: Path,
    benign: pd.DataFrame,
    digits: Callable[[int], np.ndarray],
    write_pngs: Callable[[np.ndarray, Path], None],
    kind: str,
) -> None:
    images = digits(0)[:60]
    source = f"ok.{kind}"
    if kind.startswith("csv"):
        benign.to_csv(source, index=False)
    elif kind == "parquet":
        benign.to_parquet(source, index=False)
    elif kind == "npz":
        np.savez(source, X=benign.drop(columns="shape").to_numpy(), y=np.zeros(len(benign)))
    elif kind == "npy":
        np.save(source, images)
    elif kind == "png":
        source = "ok"
        write_pngs(images, folder / source)
    else:
        source = "ok-images-idx3-ubyte" + kind.removeprefix("idx")
        write_idx(images, folder / source)
    before = {path.name for path in folder.iterdir()}
    done = memae("fit", source, "--out", "model", *BRIEF)
    assert (done.code, done.out) == (0, "")
    assert {path.name for path in folder.iterdir()} - before == {"model"}
    detector = Detector.load("model")
    table = kind.startswith("csv") or kind in ("parquet", "npz")
    assert detector.config.network == ("wide" if table else "small")
    assert detector.facts["origin"] == source
    assert sum(detector.facts["samples"].values()) == (len(benign) if table else 60)
    assert np.isfinite(detector.detect(source).scores).all()
    assert detector.history is None


def test_the_summary_tells_epochs_samples_memory_and_threshold(
    memae: Callable[..., Done], benign: pd.DataFrame
) -> None:
    benign.to_csv("ok.csv", index=False)
    done = memae("fit", "ok.csv", "--out", "model", "--preset", "table-paper", *BRIEF)
    detector = Detector.load("model")
    assert done.err.splitlines()[0].startswith(f"model: table, {detector.facts['parameters']:,} parameters, ")
    assert "epoch 2 of 2" in done.err
    assert "samples: 250 for training, 36 for early stopping, 71 for the threshold" in done.err
    assert f"memory: {detector.memory.counts.line}, " in done.err and detector.memory.help in done.err
    assert f"threshold: score {detector.threshold.value:.6g} flags at most 0.0193 of normal samples" in done.err


def test_the_summary_of_a_memory_that_is_filled_at_the_end_tells_its_size(
    memae: Callable[..., Done], benign: pd.DataFrame
) -> None:
    benign.to_csv("ok.csv", index=False)
    done = memae("fit", "ok.csv", "--out", "model", *BRIEF)
    assert done.err.splitlines()[0].startswith("model: wide, ")
    assert "samples: 286 for training, 0 for early stopping, 71 for the threshold" in done.err
    assert "with a duplicate, filled after training" in done.err


def test_the_summary_warns_when_the_shrinkage_lets_no_item_through(
    memae: Callable[..., Done], benign: pd.DataFrame
) -> None:
    benign.to_csv("ok.csv", index=False)
    words = ("--preset", "table-paper", *BRIEF)
    assert "warning" not in memae("fit", "ok.csv", "--out", "a", *words, "--set", "memory.shrinkage=0").err
    sharp = ("--set", "memory.temperature=100", "--set", "memory.shrinkage=5")
    done = memae("fit", "ok.csv", "--out", "b", *words, *sharp)
    assert "warning: for most queries no item passed the shrinkage" in done.err
    assert "lower memory.shrinkage or memory.temperature" in done.err


def test_quiet_says_nothing(memae: Callable[..., Done], folder: Path, benign: pd.DataFrame) -> None:
    benign.to_csv("ok.csv", index=False)
    done = memae("fit", "ok.csv", "--out", "model", *BRIEF, "--quiet")
    assert (done.code, done.out, done.err) == (0, "", "")
    assert (folder / "model").is_dir()


@pytest.mark.parametrize(
    ("preset", "network", "similarity", "scale"),
    [
        ("mnist", "small", "cosine", None),
        ("released", "image", "dot", "none"),
        ("cifar10-paper", "cifar10", "cosine", "none"),
    ],
)
def test_a_preset_is_taken_by_name(
    memae: Callable[..., Done],
    folder: Path,
    digits: Callable[[int], np.ndarray],
    preset: str,
    network: str,
    similarity: str,
    scale: str | None,
) -> None:
    np.save("ok.npy", digits(0)[:40])
    assert memae("fit", "ok.npy", "--out", "model", "--preset", preset, *BRIEF).code == 0
    config = settings(folder)["config"]
    assert (config["network"], config["memory"]["similarity"]) == (network, similarity)
    assert scale in (None, config["image"]["scale"])


def test_dropped_columns_are_left_out_then_and_later(memae: Callable[..., Done], rows: pd.DataFrame) -> None:
    ok = rows[rows.label == "benign"].assign(day="2024-01-01")
    ok.to_csv("ok.csv", index=False)
    done = memae("fit", "ok.csv", "--out", "model", "--drop", "label", "--drop", "day", *BRIEF)
    assert done.code == 0
    detector = Detector.load("model")
    assert [column.name for column in detector.preprocess.columns] == [*ok.columns[:5]]
    assert detector.preprocess.dropped == ("label", "day")
    assert len(detector.score("ok.csv")) == len(ok)


def test_the_normal_rows_of_a_labelled_table_alone_train_the_model(
    memae: Callable[..., Done], rows: pd.DataFrame
) -> None:
    rows.sample(frac=1, random_state=0).to_csv("all.csv", index=False)
    shuffled = pd.read_csv("all.csv")
    shuffled[shuffled.label == "benign"].drop(columns="label").to_csv("ok.csv", index=False)
    labelled = ("--label-column", "label", "--normal", "benign")
    assert memae("fit", "all.csv", "--out", "labelled", *labelled, *BRIEF).code == 0
    assert memae("fit", "ok.csv", "--out", "plain", *BRIEF).code == 0
    one, other = Detector.load("labelled"), Detector.load("plain")
    assert one.preprocess.columns == other.preprocess.columns
    assert one.threshold.value == other.threshold.value
    assert len(one.score("all.csv")) == len(rows)  # the labels are known there, and left out
    done = memae("fit", "all.csv", "--out", "none", "--label-column", "label", "--normal", "bening", *BRIEF)
    assert (done.code, Path("none").exists()) == (1, False)
    assert "no sample is labelled 'bening'; the labels are benign, " in done.err
    assert "--label-column NAME" in memae("fit", "all.csv", "--out", "none", "--normal", "benign").err


def test_a_config_file_is_read_and_set_wins_over_it(
    memae: Callable[..., Done], folder: Path, benign: pd.DataFrame
) -> None:
    benign.to_csv("ok.csv", index=False)
    (folder / "run.toml").write_text(
        "[train]\nepochs = 3\nbatch_size = 50\n[memory]\nnum_items = 7\n[threshold]\nfalse_alarm_rate = 0.2\n"
    )
    words = ("--set", "train.epochs=1", "--set", "memory.initialisation=kmeans", "--set", "memory.enabled=true")
    assert memae("fit", "ok.csv", "--out", "model", "--config", "run.toml", *words).code == 0
    config = settings(folder)["config"]
    assert (config["train"]["epochs"], config["train"]["batch_size"]) == (1, 50)
    assert (config["memory"]["num_items"], config["memory"]["initialisation"]) == (7, "kmeans")
    assert config["threshold"]["false_alarm_rate"] == 0.2
    assert settings(folder)["facts"]["last_epoch"]["epoch"] == 1


def test_the_option_for_the_false_alarm_rate_wins_over_the_config_file(
    memae: Callable[..., Done], folder: Path, benign: pd.DataFrame
) -> None:
    benign.to_csv("ok.csv", index=False)
    (folder / "run.toml").write_text(
        "[threshold]\nfalse_alarm_rate = 0.2\ncalibration_share = 0.4\n[train]\nepochs = 1\n"
    )
    words = ("--config", "run.toml", "--false-alarm-rate", "0.05")
    assert memae("fit", "ok.csv", "--out", "model", *words).code == 0
    threshold = settings(folder)["config"]["threshold"]
    assert (threshold["false_alarm_rate"], threshold["calibration_share"]) == (0.05, 0.4)
    assert Detector.load("model").threshold.false_alarm_rate == 0.05


def test_a_share_of_anomalies_is_left_out_of_training_and_threshold_and_the_summary_says_which(
    memae: Callable[..., Done], folder: Path, benign: pd.DataFrame
) -> None:
    benign = benign.reset_index(drop=True)
    numbers = benign.select_dtypes("number").columns
    benign.loc[[3, 30, 60, 90, 120, 150], numbers] *= 9
    benign.to_csv("mixed.csv", index=False)
    done = memae("fit", "mixed.csv", "--out", "model", "--contamination", "0.05", *BRIEF)
    assert done.code == 0
    config = settings(folder)["config"]
    assert config["train"]["contamination"] == config["threshold"]["contamination"] == 0.05
    found = settings(folder)["facts"]["left_out"]
    training, calibration = found["training"], found["calibration"]
    first = ", ".join(training["first"][:5])
    lines = " ".join(done.err.split())
    assert (
        f"left out of the training: {training['count']} of {training['samples']} samples that may be anomalies, "
        f"such as {first};"
    ) in lines
    assert f"left out of the threshold: the {calibration['count']} highest of {calibration['samples']}" in lines
    assert "up to 0.05 more of the normal" in lines
    assert "left out" not in memae("fit", "mixed.csv", "--out", "other", *BRIEF).err


def test_the_plain_autoencoder_is_one_setting_away(
    memae: Callable[..., Done], folder: Path, benign: pd.DataFrame
) -> None:
    benign.to_csv("ok.csv", index=False)
    done = memae("fit", "ok.csv", "--out", "model", "--set", "memory.enabled=false", "--set", "train.epochs=1")
    assert done.code == 0
    assert "memory:" not in done.err
    assert not any("memory" in name for name in load_file(folder / "model" / "model.safetensors"))


def test_the_untrained_network_and_one_without_a_threshold_can_be_saved(
    memae: Callable[..., Done], benign: pd.DataFrame
) -> None:
    benign.to_csv("ok.csv", index=False)
    done = memae("fit", "ok.csv", "--out", "untrained", "--set", "train.epochs=0")
    assert done.code == 0
    assert "epoch 0 of 0" in done.err
    done = memae("fit", "ok.csv", "--out", "bare", *BRIEF, "--set", "threshold.calibration_share=0")
    assert done.code == 0
    assert "threshold" not in done.err.splitlines()[-1]
    done = memae("score", "bare", "ok.csv")
    assert done.code == 1
    assert "no threshold" in done.err


def test_the_same_seed_gives_the_same_model_and_another_seed_another(
    memae: Callable[..., Done], folder: Path, benign: pd.DataFrame
) -> None:
    benign.to_csv("ok.csv", index=False)
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        assert memae("fit", "ok.csv", "--out", name, "--seed", seed, *BRIEF).code == 0
    a, b, c = ((folder / name / "model.safetensors").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_an_existing_model_is_replaced(
    memae: Callable[..., Done], folder: Path, benign: pd.DataFrame, model: Callable[..., Path]
) -> None:
    benign.to_csv("ok.csv", index=False)
    model("image")
    assert memae("fit", "ok.csv", "--out", "model", *BRIEF).code == 0
    assert settings(folder)["config"]["network"] == "wide"


def test_a_model_may_be_written_into_a_new_folder_and_into_the_empty_one_it_stands_in(
    memae: Callable[..., Done], folder: Path, benign: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    benign.to_csv("ok.csv", index=False)
    assert memae("fit", "ok.csv", "--out", "deep/er/model", *BRIEF).code == 0
    assert [path.name for path in (folder / "deep" / "er").iterdir()] == ["model"]
    (folder / "here").mkdir()
    monkeypatch.chdir(folder / "here")
    assert memae("fit", "../ok.csv", "--out", ".", *BRIEF).code == 0
    assert len(Detector.load(folder / "here").score(folder / "ok.csv")) == len(benign)
    assert {path.name for path in folder.iterdir()} == {"ok.csv", "deep", "here"}


def test_the_log_has_a_line_and_tensorboard_points_for_every_epoch(
    memae: Callable[..., Done], folder: Path, benign: pd.DataFrame
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    benign.to_csv("ok.csv", index=False)
    words = ("--log", "log", "--preset", "table-paper", "--set", "train.epochs=4")
    assert memae("fit", "ok.csv", "--out", "model", *words).code == 0
    lines = log(folder)
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    assert lines[-1] == settings(folder)["facts"]["last_epoch"]
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert lines[0]["memory"].keys() >= {"items", "items_used", "items_dead", "items_duplicate", "items_per_query"}

    events = EventAccumulator(str(folder / "log")).Reload()
    read: dict[str, Callable[[dict[str, Any]], float]] = {
        "loss/training": lambda line: line["loss"],
        "loss/held_out": lambda line: line["held_out_loss"],
        "loss/held_out_entropy": lambda line: line["held_out_terms"]["entropy"],
        "memory/items_used": lambda line: line["memory"]["items_used"],
        "memory/items_per_query": lambda line: line["memory"]["items_per_query"],
    }
    for tag, of in read.items():
        points = events.Scalars(tag)
        assert [point.step for point in points] == [1, 2, 3, 4]
        assert [point.value for point in points] == pytest.approx([of(line) for line in lines])


def test_without_tensorboard_there_is_the_install_command_and_the_rest_of_the_log(
    folder: Path, benign: pd.DataFrame
) -> None:
    benign.to_csv("ok.csv", index=False)
    without = "import sys; sys.modules['tensorboard'] = None; from memae.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", without, "fit", "ok.csv", "--out", "model", "--log", "log", *BRIEF],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert "no TensorBoard events: " in done.stderr
    assert "pip install 'memae[tensorboard]'" in done.stderr
    assert [path.name for path in (folder / "log").iterdir()] == ["train.jsonl"]
    assert len(log(folder)) == 2


def interruptible(folder: Path, *words: str) -> subprocess.Popen[str]:
    """Starts the command line in a process that answers to SIGINT even where this one was told to ignore it."""
    answer = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    command = [sys.executable, "-c", f"{answer}; from memae.cli import main; main()", *words]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def interrupt_when(
    process: subprocess.Popen[str], ready: Callable[..., Any], timeout_s: int = 120
) -> tuple[str, str]:
    """Sends one SIGINT as soon as `ready()`; returns stdout and stderr."""
    deadline = time.monotonic() + timeout_s
    try:
        while not ready():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        return process.communicate(timeout=timeout_s)
    finally:
        process.kill()  # does nothing to one that has ended


LONG = ("--preset", "table-paper", "--set", "train.epochs=25", "--set", "train.batch_size=8", "--seed", "5")


def test_ctrl_c_keeps_the_best_model_and_resume_ends_as_if_it_had_never_been(
    memae: Callable[..., Done], folder: Path, benign: pd.DataFrame
) -> None:
    benign.to_csv("ok.csv", index=False)
    process = interruptible(folder, "fit", "ok.csv", "--out", "model", "--log", "log", *LONG)
    lines = folder / "log" / "train.jsonl"
    out, err = interrupt_when(process, lambda: lines.exists() and lines.read_text().count("\n") >= 4)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert "Continue with the same command and --resume" in err
    stopped = log(folder)
    assert 4 <= len(stopped) < 25
    assert (folder / "model.checkpoint").is_dir()

    facts = settings(folder)["facts"]
    assert facts["interrupted"]
    assert facts["kept_epoch"] == 1 + int(np.argmin([line["held_out_loss"] for line in stopped]))
    assert f"the model of epoch {facts['kept_epoch']} is saved" in err
    assert f"interrupted in epoch {len(stopped) + 1};" in err
    assert len(memae("score", "model", "ok.csv").out.splitlines()) == len(benign) + 1

    assert memae("fit", "ok.csv", "--out", "model", "--log", "log", *LONG, "--resume").code == 0
    assert memae("fit", "ok.csv", "--out", "whole", "--log", "log-whole", *LONG).code == 0
    resumed, whole = (load_file(folder / name / "model.safetensors") for name in ("model", "whole"))
    assert resumed.keys() == whole.keys()
    for name, tensor in whole.items():
        assert np.array_equal(resumed[name], tensor), name
    assert not settings(folder)["facts"]["interrupted"]
    assert log(folder)[:3] == stopped[:3]  # with their seconds: these epochs were not trained again
    assert [line["epoch"] for line in log(folder)] == [*range(1, 26)]
    assert [line["loss"] for line in log(folder)] == [line["loss"] for line in log(folder, "log-whole")]
    assert {path.name for path in folder.iterdir()} == {"ok.csv", "model", "log", "whole", "log-whole"}


def test_ctrl_c_before_there_is_a_model_keeps_the_old_one_and_says_how_to_go_on(
    folder: Path, benign: pd.DataFrame, model: Callable[..., Path], tree: Callable[[], dict[str, bytes]]
) -> None:
    benign.to_csv("ok.csv", index=False)
    model("image")
    before = tree()
    words = ("--set", "train.epochs=1", "--set", "memory.warmup_epochs=100000", "--set", "memory.trained=true")
    process = interruptible(folder, "fit", "ok.csv", "--out", "model", *words)
    out, err = interrupt_when(process, (folder / "model.checkpoint" / "warmup" / "state.json").exists)
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1] == "interrupted"
    assert "model.checkpoint holds the training so far; the same command with --resume continues it" in err
    after = tree()
    assert {name: content for name, content in after.items() if not name.startswith("model.checkpoint")} == before


def test_a_resumed_training_that_is_not_the_same_leaves_the_checkpoint_alone(
    memae: Callable[..., Done], folder: Path, benign: pd.DataFrame, tree: Callable[[], dict[str, bytes]]
) -> None:
    benign.to_csv("ok.csv", index=False)
    process = interruptible(folder, "fit", "ok.csv", "--out", "model", "--quiet", *LONG)
    interrupt_when(process, (folder / "model.checkpoint" / "main" / "state.json").exists)
    before = tree()
    done = memae("fit", "ok.csv", "--out", "model", *LONG, "--set", "train.epochs=26", "--resume")
    assert done.code == 1
    assert "model.checkpoint" in done.err
    assert "of a training with other data, settings or seed; resume with the same ones, or remove it" in done.err
    assert tree() == before
    fresh = memae("fit", "ok.csv", "--out", "model", *BRIEF)
    assert fresh.code == 0
    assert {path.name for path in folder.iterdir()} == {"ok.csv", "model"}


def test_bad_rows_are_left_out_of_the_training_and_named(
    memae: Callable[..., Done], folder: Path, benign: pd.DataFrame
) -> None:
    benign.to_csv("whole.csv", index=False)
    lines = (folder / "whole.csv").read_text().splitlines()
    (folder / "spoilt.csv").write_text(
        "\n".join([*lines[:5], "1,2", *lines[5:], "wide," + lines[1].split(",", 1)[1]])
    )
    words = ["--set", "train.epochs=1", "--set", "memory.num_items=5"]
    assert memae("fit", "whole.csv", "--out", "whole", *words).code == 0
    assert memae("fit", "spoilt.csv", "--out", "spoilt", *words).code == 1
    done = memae("fit", "spoilt.csv", "--out", "spoilt", *words, "--skip-bad")
    assert done.code == 0
    last = len(benign) + 1
    assert (
        "skipped 2 bad samples: row 4 has 2 cells and the header 5; "
        f"row {last} holds 'wide' in the number column 'mean radius'" in done.err
    )
    assert (folder / "whole" / "model.safetensors").read_bytes() == (
        folder / "spoilt" / "model.safetensors"
    ).read_bytes()


def test_what_was_found_out_about_the_data_is_said(
    memae: Callable[..., Done], folder: Path, benign: pd.DataFrame
) -> None:
    frame = benign.assign(
        port=[22, 80, 443] * 119, shape=benign["shape"].where(benign.index % 2 == 0, "gr\xfc\xdfe")
    )
    frame.to_csv("t.csv", index=False, sep=";", decimal=",", encoding="cp1252")
    words = ["fit", "t.csv", "--out", "model", "--set", "train.epochs=1", "--set", "memory.num_items=5"]
    done = memae(*words)
    assert "note: t.csv: is not UTF-8 and was read as cp1252" in done.err
    assert "note: column 'port' holds few different whole numbers; " in done.err
    assert "--categorical" not in memae(*words, "--categorical", "port").err
    assert "note: t.csv" in memae("score", "model", "t.csv", "--out", "s.csv").err
