"""The verb teach."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from memae import Detector
from tests.cli.conftest import Done

Memae = Callable[..., Done]


def test_it_teaches_shows_what_changed_and_undoes(memae: Memae, benign: pd.DataFrame) -> None:
    path = Path("model")
    Detector(settings={"train": {"epochs": 3}, "memory": {"num_items": 100}}).fit(benign).save(path)
    odd = benign.iloc[:10].copy()
    numbers = odd.select_dtypes("number").columns
    odd[numbers] += 8 * benign[numbers].std()
    odd.to_csv("odd.csv", index=False)
    before = Detector.load(path, device="cpu").detect("odd.csv")
    assert before.is_anomaly.any()
    done = memae("teach", "model", "odd.csv", "--most-lost", "1")
    assert (done.code, done.err) == (0, "")
    assert "taught 10 samples: " in done.out and f"{before.is_anomaly.sum()} of 10" in done.out
    assert not Detector.load(path, device="cpu").detect("odd.csv").is_anomaly.any()
    undone = memae("teach", "model", "--undo", "--json")
    assert json.loads(undone.out)["teachings"][0]["undone"]
    after = Detector.load(path, device="cpu").detect("odd.csv")
    assert (after.scores == before.scores).all() and after.threshold == before.threshold


@pytest.mark.parametrize(("words", "message"), [((), "give either"), (("--undo",), "nothing to undo")])
def test_what_cannot_be_taught_is_an_error(
    memae: Memae, model: Callable[..., Path], words: tuple[str, ...], message: str
) -> None:
    model("table")
    done = memae("teach", "model", *words)
    assert done.code == 1 and message in done.err
