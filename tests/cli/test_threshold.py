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
