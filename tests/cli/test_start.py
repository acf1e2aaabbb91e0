"""The commands of docs/start.md, as they stand there, on data of those names."""

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from memae import Detector
from tests.cli.conftest import Done

PAGE = (Path(__file__).parents[2] / "docs" / "start.md").read_text(encoding="utf-8")


def commands(heading: str) -> list[list[str]]:
    """The words behind `memae` of each command below a heading."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    return [shlex.split(line) for line in re.findall(r"^\$ memae (.+)$", section, flags=re.MULTILINE)]


def test_a_folder_of_images(memae: Callable[..., Done], folder: Path) -> None:
    generator = np.random.default_rng(0)
    (folder / "parts" / "ok").mkdir(parents=True)
    (folder / "parts" / "today").mkdir()
    for place in range(320):
        pixels = generator.integers(0, 60, (16, 16), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "parts" / "ok" / f"{place:03}.png")
    pixels[4:12, 4:12] = 255
    Image.fromarray(pixels).save(folder / "parts" / "today" / "bad.png")
    for words in commands("Your own folder of images"):
        done = memae(*words)
        assert done.code == 0, done.err
    found = pd.read_csv("scores.csv")
    assert found.is_anomaly.tolist() == [True]
    assert (folder / "seen" / "bad.png.png").exists()
    assert "bad.png" in (folder / "report.html").read_text(encoding="utf-8")


def test_a_table(memae: Callable[..., Done], folder: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(1000, 4))
    names = ["timestamp", "bytes", "packets", "seconds"]
    pd.DataFrame(rows, columns=names).to_csv("flows_normal.csv", index=False)
    pd.DataFrame([*rows[:5], [0, 9, -9, 9]], columns=names).to_csv("flows_today.csv", index=False)
    for words in commands("Your own table"):
        done = memae(*words)
        assert done.code == 0, done.err
    lines = [json.loads(line) for line in (folder / "why.jsonl").read_text().splitlines()]
    assert lines[-1]["key"] == 5
    assert {"column", "seen", "expected"} <= lines[-1]["columns"][0].keys()
    assert Detector.load("flows.model").threshold.false_alarm_rate == pytest.approx(0.02)


def test_a_camera_is_recorded_fitted_and_watched_under_the_same_names() -> None:
    """That they run is tested with real streams in tests/live; here that they fit together."""
    record, fit, watch = commands("Your own camera")
    assert [record[0], fit[0], watch[0]] == ["record", "fit", "watch"]
    assert record[1] == watch[2]
    assert record[record.index("--out") + 1] == fit[1]
    assert fit[fit.index("--out") + 1] == watch[1]
