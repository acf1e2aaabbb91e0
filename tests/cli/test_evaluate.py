import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from memae import Detector, evaluate
from memae.metrics import Evaluation
from tests.cli.conftest import Done
from tests.small_data import write_idx

FIGURES = ("auroc", "aupr", "precision", "recall", "f1", "false_alarm_rate")


def by_hand(
    detector: Detector, samples: np.ndarray | pd.DataFrame, anomalous: pd.Series | list[bool]
) -> Evaluation:
    verdicts = detector.detect(samples)
    wanted = detector.threshold.false_alarm_rate
    return evaluate(np.asarray(anomalous), verdicts.scores, verdicts.is_anomaly, wanted_false_alarm_rate=wanted)


def test_json_holds_each_figure_with_its_interval(
    memae: Callable[..., Done], rows: pd.DataFrame, model: Callable[..., Path]
) -> None:
    rows.to_csv("all.csv", index=False)
    detector = Detector.load(model("table"), device="cpu")
    done = memae("evaluate", "model", "all.csv", "--label-column", "label", "--normal", "benign", "--json")
    assert (done.code, done.err) == (0, "")
    assert done.out.count("\n") == 1
    found = json.loads(done.out)
    assert {*found} == {"samples", "anomalies", *FIGURES, "wanted_false_alarm_rate", "groups", "kinds", "rates"}
    assert (found["groups"], found["kinds"]) == (None, [])  # "malignant" alone is the total
    assert (found["samples"], found["anomalies"]) == (569, 212)
    wanted = by_hand(detector, rows.drop(columns="label"), rows.label == "malignant")
    for figure in FIGURES:
        assert {*found[figure]} == {"value", "low", "high", "groups"}
        assert 0 <= found[figure]["low"] <= found[figure]["value"] <= found[figure]["high"] <= 1
        assert found[figure]["value"] == pytest.approx(getattr(wanted, figure).value, abs=1e-9)
    assert found["auroc"]["value"] > 0.85
    assert found["wanted_false_alarm_rate"] == detector.threshold.false_alarm_rate


def test_the_table_shows_the_same_figures(
    memae: Callable[..., Done], rows: pd.DataFrame, model: Callable[..., Path]
) -> None:
    rows.to_csv("all.csv", index=False)
    model("table")
    words = ("evaluate", "model", "all.csv", "--label-column", "label", "--normal", "benign")
    text, found = memae(*words), json.loads(memae(*words, "--json").out)
    assert text.err == ""
    assert "569 samples, 212 anomalies" in text.out
    lines = {line.split("│")[1].strip(): line for line in text.out.splitlines() if line.startswith("│")}
    for name, figure in {"AUROC": "auroc", "AUPR": "aupr", "precision": "precision", "F1": "f1"}.items():
        value, low, high = (f"{found[figure][part]:.4f}" for part in ("value", "low", "high"))
        assert f"{value} │ {low} to {high}" in lines[name]
    assert f"false-alarm rate (wanted {found['wanted_false_alarm_rate']:.3g})" in lines


def test_several_values_may_mean_normal(
    memae: Callable[..., Done], rows: pd.DataFrame, model: Callable[..., Path]
) -> None:
    model("table")
    stage = np.where(rows.label == "benign", np.where(rows.index % 2, "none", "early"), "late")
    rows.drop(columns="label").assign(stage=stage).to_parquet("all.parquet", index=False)
    words = ("evaluate", "model", "all.parquet", "--label-column", "stage", "--json")
    found = json.loads(memae(*words, "--normal", "none", "--normal", "early").out)
    assert found["anomalies"] == 212
    found = json.loads(memae(*words, "--normal", "none").out)
    assert found["anomalies"] == (stage != "none").sum()


def test_each_kind_of_anomaly_has_a_row_below_the_total(
    memae: Callable[..., Done], rows: pd.DataFrame, model: Callable[..., Path]
) -> None:
    model("table")
    kind = np.where(rows.label == "benign", "ok", np.where(rows.index % 50 == 0, "rare", "often"))
    rows.drop(columns="label").assign(kind=kind, host=np.arange(len(rows)) // 10).to_csv("all.csv", index=False)
    words = ("evaluate", "model", "all.csv", "--label-column", "kind", "--normal", "ok", "--drop", "host")
    found = json.loads(memae(*words, "--json").out)
    assert [(each["name"], each["samples"]) for each in found["kinds"]] == [
        (name, (kind == name).sum()) for name in ("often", "rare")
    ]
    recalls = [each["recall"]["value"] * each["samples"] for each in found["kinds"]]
    assert sum(recalls) == pytest.approx(found["recall"]["value"] * 212)
    text = memae(*words).out
    assert "2 kinds of anomalies" in text
    lines = [line.split("│")[1:3] for line in text.splitlines() if line.startswith("│")]
    assert [[cell.strip() for cell in line] for line in lines[-2:]] == [
        ["often", str((kind == "often").sum())],
        ["rare *", str((kind == "rare").sum())],
    ]
    assert "* fewer than 10: says little." in text
    grouped = json.loads(memae(*words, "--json", "--group", "host").out)
    assert (grouped["groups"], grouped["recall"]["value"]) == (57, found["recall"]["value"])
    assert grouped["kinds"][0]["groups"] < grouped["kinds"][0]["samples"]
    assert grouped["recall"] != found["recall"]  # other intervals
    assert "95 % over 57 groups" in memae(*words, "--group", "host").out


def test_a_threshold_of_too_few_groups_says_so_beside_its_figures(
    memae: Callable[..., Done], rows: pd.DataFrame, folder: Path
) -> None:
    grouped = rows.assign(host=np.arange(len(rows)) % 20)
    grouped[grouped.label == "benign"].drop(columns="label").to_csv("ok.csv", index=False)
    grouped.to_csv("all.csv", index=False)
    brief = ("--set", "train.epochs=3", "--set", "threshold.folds=0", "--quiet")
    assert memae("fit", "ok.csv", "--group", "host", "--out", "model", *brief).code == 0
    words = ("--label-column", "label", "--normal", "benign", "--group", "host", "--json")
    done = memae("evaluate", "model", "all.csv", *words)
    assert done.code == 0
    assert json.loads(done.out)["groups"] == 20
    assert done.err.startswith("note: 4 held-out groups are too few to promise a false-alarm rate of 0.01")


def test_a_group_column_without_a_value_is_refused(
    memae: Callable[..., Done], rows: pd.DataFrame, model: Callable[..., Path]
) -> None:
    model("table")
    rows.assign(host=np.where(rows.index < 7, "", "a")).to_csv("all.csv", index=False)
    words = ("evaluate", "model", "all.csv", "--label-column", "label", "--normal", "benign", "--group", "host")
    done = memae(*words)
    assert done.code == 1
    assert "the group column 'host' has no value in 7 rows, the first of them row 0; fill it in" in done.err


def test_numbers_are_labels_too_and_other_columns_can_be_dropped(
    memae: Callable[..., Done], rows: pd.DataFrame, model: Callable[..., Path]
) -> None:
    model("table")
    rows.assign(label=np.where(rows.label == "benign", 1, 0), day=20).to_csv("all.csv", index=False)
    words = ("evaluate", "model", "all.csv", "--label-column", "label", "--drop", "day", "--json")
    for normal in ("1", "1.0"):
        assert json.loads(memae(*words, "--normal", normal).out)["anomalies"] == 212


def test_a_label_that_was_dropped_in_training_still_serves(
    memae: Callable[..., Done], rows: pd.DataFrame, folder: Path
) -> None:
    rows.to_csv("all.csv", index=False)
    rows[rows.label == "benign"].to_csv("ok.csv", index=False)
    brief = ("--set", "train.epochs=3", "--quiet")
    assert memae("fit", "ok.csv", "--drop", "label", "--out", "model", *brief).code == 0
    found = json.loads(
        memae("evaluate", "model", "all.csv", "--label-column", "label", "--normal", "benign", "--json").out
    )
    assert found["samples"] == 569


def test_folders_are_labels_of_images(
    memae: Callable[..., Done],
    folder: Path,
    digits: Callable[[int], np.ndarray],
    write_pngs: Callable[[np.ndarray, Path], None],
    model: Callable[..., Path],
) -> None:
    detector = Detector.load(model("image"), device="cpu")
    for digit, count in ((0, 12), (3, 7), (7, 6)):
        write_pngs(digits(digit)[:count], folder / "all" / f"digit {digit}" / "deep")
    words = ("evaluate", "model", "all", "--label-column", "folder", "--json")
    found = json.loads(memae(*words, "--normal", "digit 0").out)
    assert (found["samples"], found["anomalies"]) == (25, 13)
    images = np.concatenate([digits(0)[:12], digits(3)[:7], digits(7)[:6]])
    wanted = by_hand(detector, images, [False] * 12 + [True] * 13)
    assert found["auroc"]["value"] == pytest.approx(wanted.auroc.value, abs=1e-9)
    assert found["auroc"]["value"] > 0.8
    assert json.loads(memae(*words, "--normal", "digit 0", "--normal", "digit 3").out)["anomalies"] == 6


def test_arrays_and_files_beside_images_are_labels(
    memae: Callable[..., Done], folder: Path, digits: Callable[[int], np.ndarray], model: Callable[..., Path]
) -> None:
    model("image")
    images = np.concatenate([digits(0)[:12], digits(3)[:7]])
    kind = np.array([0] * 12 + [3] * 7, dtype=np.uint8)
    np.savez("all.npz", X=images, kind=kind)
    write_idx(images, folder / "all-images-idx3-ubyte.gz")
    write_idx(kind, folder / "all-labels-idx1-ubyte.gz")
    by_array = memae("evaluate", "model", "all.npz", "--label-column", "kind", "--normal", "0", "--json")
    by_file = memae(
        "evaluate", "model", "all-images-idx3-ubyte.gz", "--label-column", "label", "--normal", "0", "--json"
    )
    assert json.loads(by_array.out)["anomalies"] == 7
    assert by_array.out == by_file.out


def test_the_installed_script_prints_one_json_object(
    real_memae: Callable[..., Done], rows: pd.DataFrame, model: Callable[..., Path]
) -> None:
    model("table")
    rows.to_csv("all.csv", index=False)
    done = real_memae("evaluate", "model", "all.csv", "--label-column", "label", "--normal", "benign", "--json")
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out)["samples"] == 569


def test_rows_that_are_bad_or_without_a_label_can_be_left_out(
    memae: Callable[..., Done], rows: pd.DataFrame, model: Callable[..., Path]
) -> None:
    model("table")
    good = rows.drop(index=[3, 8])
    good.to_csv("good.csv", index=False)
    spoilt = rows.assign(label=rows["label"].where(rows.index != 3))
    spoilt["mean area"] = spoilt["mean area"].where(rows.index != 8, np.inf)
    spoilt.to_csv("spoilt.csv", index=False)
    words = ("--label-column", "label", "--normal", "benign", "--json")
    expected = json.loads(memae("evaluate", "model", "good.csv", *words).out)
    done = memae("evaluate", "model", "spoilt.csv", *words, "--skip-bad")
    assert "skipped 2 bad samples: row 8 holds inf in column 'mean area'; row 3 has no label" in done.err
    found = json.loads(done.out)
    assert found["samples"] == expected["samples"] == 567
    assert found["auroc"]["value"] == pytest.approx(expected["auroc"]["value"])
