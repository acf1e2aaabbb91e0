"""The verb threshold."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from memae import Detector
from tests.cli.conftest import Done

Memae = Callable[..., Done]


def test_it_shows_moves_and_undoes(memae: Memae, model: Callable[..., Path]) -> None:
    path = model("table")
    first = Detector.load(path, device="cpu").threshold
    shown = memae("threshold", "model")
    assert (shown.code, shown.err) == (0, "")
    assert shown.out.startswith(
        f"threshold: score {first.value:.6g}\nfalse-alarm rate: {first.false_alarm_rate:.3g}"
    )
    moved = memae("threshold", "model", "--false-alarm-rate", "0.2")
    second = Detector.load(path, device="cpu").threshold
    assert second.value < first.value
    assert f"threshold: score {second.value:.6g}, was {first.value:.6g}\nfalse-alarm rate: 0.2 with" in moved.out
    by_hand = memae("threshold", "model", "--at", "1e9")
    assert "set by hand: expect at most 0.0" in by_hand.out
    assert f"; 0 of {len(first.calibration):,} held-out samples are" in by_hand.out
    assert "expect at most 0.99 of normal" in memae("threshold", "model", "--at", "0").out
    assert memae("threshold", "model", "--undo").code == 0
    for value in (second.value, first.value):
        facts = json.loads(memae("threshold", "model", "--undo", "--json").out)
        assert facts["value"] == value
    assert len(facts["moves"]) == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--at", "1", "--undo"), "give one"),
        (("--false-alarm-rate", "0.00001"), "takes at least 99,999 held-out normal samples"),
        (("--undo",), "no move to undo"),
    ],
)
def test_a_move_that_cannot_be_leaves_the_model_alone(
    memae: Memae, model: Callable[..., Path], words: tuple[str, ...], message: str
) -> None:
    before = (model("table") / "config.json").read_bytes()
    done = memae("threshold", "model", *words)
    assert done.code == 1
    assert message in done.err
    assert (Path("model") / "config.json").read_bytes() == before


def test_score_and_evaluate_take_a_rate_for_one_run(
    memae: Memae, model: Callable[..., Path], folder: Path, rows: pd.DataFrame
) -> None:
    before = (model("table") / "config.json").read_bytes()
    rows.to_csv(folder / "all.csv", index=False)
    flagged = []
    for words in ((), ("--false-alarm-rate", "0.3")):
        assert memae("score", "model", "all.csv", "--drop", "label", "--out", "scores.csv", *words).code == 0
        flagged.append(pd.read_csv("scores.csv").is_anomaly.sum())
    assert flagged[0] < flagged[1]
    labels = ("--label-column", "label", "--normal", "benign", "--json", "--false-alarm-rate", "0.3")
    assert json.loads(memae("evaluate", "model", "all.csv", *labels).out)["wanted_false_alarm_rate"] == 0.3
    assert (Path("model") / "config.json").read_bytes() == before


def test_new_normal_samples_set_it_anew_and_undo_brings_the_old_back(
    memae: Memae, benign: pd.DataFrame, model: Callable[..., Path]
) -> None:
    path = model("table")
    first = Detector.load(path, device="cpu").threshold
    new = benign.assign(
        **{"mean area": benign["mean area"] * 1.2}, host=[f"h{row % 30}" for row in range(len(benign))]
    )
    new.drop(columns="host").to_csv("new.csv", index=False)
    new.to_csv("hosts.csv", index=False)
    done = memae("threshold", "model", "--from", "new.csv", "--false-alarm-rate", "0.05")
    assert (done.code, done.err) == (0, "")
    moved = Detector.load(path, device="cpu")
    assert len(moved.threshold.calibration) == len(benign)
    assert moved.threshold.false_alarm_rate == 0.05
    scores = moved.score("new.csv").values
    assert (scores > moved.threshold.value).mean() <= 0.05
    assert "in 30 groups" in memae("threshold", "model", "--from", "hosts.csv", "--group", "host").out
    assert memae("threshold", "model", "--undo").code == memae("threshold", "model", "--undo").code == 0
    back = Detector.load(path, device="cpu").threshold
    assert back.value == first.value
    assert back.calibration.tolist() == first.calibration.tolist()


def test_labels_choose_it_and_what_it_does_is_measured_apart(
    memae: Memae, rows: pd.DataFrame, model: Callable[..., Path]
) -> None:
    path = model("table")
    rows.to_csv("all.csv", index=False)
    labels = ("--labelled", "all.csv", "--label-column", "label", "--normal", "benign")
    done = memae("threshold", "model", *labels, "--recall", "0.9")
    assert (done.code, done.err) == (0, "")
    assert "on labelled samples that did not choose it: recall 0." in done.out
    detector = Detector.load(path, device="cpu")
    scores = detector.score(rows.drop(columns="label")).values
    flags = scores[(rows["label"] != "benign").to_numpy()] > detector.threshold.value
    assert 0.9 <= flags.mean() < 0.91
    measured = json.loads(memae("threshold", "model", *labels, "--f1", "--json").out)["measured"]
    assert measured["f1"]["low"] < measured["f1"]["value"] < measured["f1"]["high"]
    assert "takes one goal" in memae("threshold", "model", *labels).err
    assert "five ways to move" in memae("threshold", "model", *labels, "--f1", "--at", "1").err
