import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from memae import Detector
from tests.cli.conftest import Done


def test_text_tells_what_a_table_model_is_and_what_its_items_are(
    memae: Callable[..., Done], model: Callable[..., Path]
) -> None:
    detector = Detector.load(model("table"), device="cpu")
    done = memae("inspect", "model")
    assert (done.code, done.err) == (0, "")
    facts = detector.facts
    assert f"wide, {facts['parameters']:,} parameters" in done.out
    assert "tables of 5 columns (4 number, 1 category)" in done.out
    assert "286 samples of the DataFrame" in done.out
    assert f"kept {facts['kept_epoch']}; " in done.out
    assert f"score {detector.threshold.value:.6g} for a false-alarm rate of 0.0193" in done.out
    items = detector.memory
    assert f"memory: {items.counts.line}" in done.out and items.help in done.out
    shown = [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.out.splitlines() if "│" in line]
    columns, shown = shown[:5], shown[5:]
    assert [line[:3] for line in columns[::4]] == [["mean radius", "number", "-"], ["shape", "category", "-"]]
    assert columns[4][4] == "one-hot: 2 categories and unseen"
    assert 99 < sum(float(line[3].rstrip("%")) for line in columns if line[3].endswith("%")) < 101
    order = np.argsort(-items.usage_counts, kind="stable")
    assert [int(line[0]) for line in shown] == order.tolist()
    first = order[0]
    assert shown[0][1] == f"{items.usage_counts[first] / items.usage_counts.sum():.1%}"
    assert int(shown[0][2]) == sum(first in pair for pair in items.duplicates)
    assert shown[0][3] == f"{items.rows[first]['mean radius']:.4g}"


def test_text_points_to_the_picture_of_an_image_model(
    memae: Callable[..., Done], model: Callable[..., Path]
) -> None:
    model("image")
    done = memae("inspect", "model")
    assert "images of 1 x 8 x 8 (channels, height, width), scale unit" in done.out
    assert "the items as pictures: --out items.png" in done.out


def test_a_model_without_memory_says_so(memae: Callable[..., Done], model: Callable[..., Path]) -> None:
    model("plain")
    done = memae("inspect", "model")
    assert done.code == 0
    assert "no memory: a plain autoencoder" in done.out
    assert json.loads(memae("inspect", "model", "--json").out)["items"] is None


def test_what_does_not_fit_the_screen_is_said(memae: Callable[..., Done], folder: Path) -> None:
    rng = np.random.default_rng(0)
    names = [f"a rather long name {i}" for i in range(30)]
    settings = {"train": {"epochs": 1}, "memory": {"num_items": 50}}
    Detector(settings=settings).fit(pd.DataFrame(rng.normal(size=(70, 30)), columns=names)).save("model")
    done = memae("inspect", "model")
    shown = sum(name in done.out for name in names)
    assert "30 more items and " in done.out
    assert "more columns: see --json" in done.out
    assert "…" not in done.out
    assert shown < 30
    assert max(map(len, done.out.splitlines())) <= 100


def test_column_names_with_brackets_and_colons_stay_as_they_are(memae: Callable[..., Done], folder: Path) -> None:
    rng = np.random.default_rng(0)
    names = ["weight [kg]", "a [/b]", ":smile:"]
    Detector(settings={"train": {"epochs": 1}}).fit(pd.DataFrame(rng.normal(size=(60, 3)), columns=names)).save(
        "model"
    )
    done = memae("inspect", "model")
    assert done.code == 0
    for name in names:
        assert name in done.out


def test_a_model_without_a_threshold_or_training_can_be_inspected(
    memae: Callable[..., Done], benign: pd.DataFrame
) -> None:
    settings = {"train": {"epochs": 0, "patience": 0}, "threshold": {"calibration_share": 0}}
    Detector(settings=settings).fit(benign).save("model")
    done = memae("inspect", "model")
    assert done.code == 0
    assert "threshold" not in done.out
    assert json.loads(memae("inspect", "model", "--json").out)["threshold"] is None


@pytest.mark.parametrize("kind", ["table", "image"])
def test_json_holds_it_all(memae: Callable[..., Done], model: Callable[..., Path], kind: str) -> None:
    detector = Detector.load(model(kind), device="cpu")
    done = memae("inspect", "model", "--json")
    assert (done.code, done.err) == (0, "")
    assert done.out.count("\n") == 1
    found = json.loads(done.out)
    assert {*found} == {"config", "input", "facts", "threshold", "items"}
    assert found["config"]["network"] == {"table": "wide", "image": "small"}.get(kind, kind)
    assert found["input"]["kind"] == kind
    assert found["facts"] == detector.facts
    assert found["threshold"] == {
        "value": detector.threshold.value,
        "false_alarm_rate": detector.threshold.false_alarm_rate,
        "set_by_hand": False,
        "groups": None,
        "caveat": None,
    }
    items = detector.items()
    assert found["items"]["usage_counts"] == items.usage_counts.tolist()
    assert found["items"]["duplicates"] == [list(pair) for pair in items.duplicates]
    if kind == "table":
        assert len(found["items"]["rows"]) == 12
        assert {*found["items"]["rows"][0]} == {column["name"] for column in found["input"]["columns"]}
    else:
        assert found["items"]["rows"] is None


def test_the_items_of_an_image_model_are_drawn(
    memae: Callable[..., Done], folder: Path, model: Callable[..., Path]
) -> None:
    model("image")
    done = memae("inspect", "model", "--out", "pictures/items.png")
    assert done.code == 0
    assert done.err == "items drawn: pictures/items.png\n"
    with Image.open(folder / "pictures" / "items.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > 800 and picture.height > 250  # 12 items in two rows of ten
        pixels = np.asarray(picture.convert("L"))
    assert len(np.unique(pixels)) > 20
    assert 0.2 < (pixels < 250).mean() < 0.99
    assert [path.name for path in (folder / "pictures").iterdir()] == ["items.png"]


def test_json_and_picture_come_together(
    memae: Callable[..., Done], folder: Path, model: Callable[..., Path]
) -> None:
    model("image")
    done = memae("inspect", "model", "--json", "--out", "items.png")
    assert json.loads(done.out)["config"]["network"] == "small"
    assert (folder / "items.png").stat().st_size > 1000
