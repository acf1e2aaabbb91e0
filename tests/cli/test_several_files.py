"""Folders of tables, several tables, and standard input on the command line."""

import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from tests.cli.conftest import Done


def test_the_command_line_scores_folders_and_standard_input(
    memae: Callable[..., Done],
    folder: Path,
    benign: pd.DataFrame,
    model: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model("table")
    (folder / "days" / "2").mkdir(parents=True)
    benign[:30].to_csv("days/1.csv", index=False)
    benign[30:].to_csv("days/2/x.csv", index=False)
    benign.to_csv("whole.csv", index=False)
    one = memae("score", "model", "whole.csv").out.splitlines()
    several = memae("score", "model", "days", "--explain", "why.jsonl").out.splitlines()
    assert several[0] == "file,row,score,p_value,is_anomaly"
    rows = list(csv.reader(several))
    assert rows[31][:2] == ["2/x.csv", "0"]
    assert [row[2:] for row in rows] == [row[1:] for row in csv.reader(one)]
    flagged = [row[:2] for row in rows if row[-1] == "true"]
    why = [json.loads(line) for line in Path("why.jsonl").read_text().splitlines()]
    assert [[one["file"], str(one["row"])] for one in why] == flagged
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(Path("whole.csv").read_bytes())))
    assert memae("score", "model", "-").out.splitlines() == one
    assert "-: standard input is a source of its own; give it alone" in memae("score", "model", "-", "days").err
    assert memae("score", "model", "days", "whole.csv").out.count("\n") == 2 * len(benign) + 1
    done = memae("fit", "days", "--out", "again", "--set", "train.epochs=1", "--set", "memory.num_items=5")
    assert done.code == 0
