import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from memae import Detector
from tests.cli.conftest import Done

COLUMNS = ["key", "score", "p_value", "is_anomaly"]


def from_csv(text: str) -> list[tuple[str, float, float, bool]]:
    """Rows of a CSV file as the library would give them."""
    read = csv.DictReader(text.splitlines())
    return [(r["key"], float(r["score"]), float(r["p_value"]), r["is_anomaly"] == "true") for r in read]


def expected(source: Any, key: Callable[[Any], Any] = str) -> list[tuple[Any, ...]]:
    return [
        (key(v.key), v.score, v.p_value, v.is_anomaly) for v in Detector.load("model", device="cpu").detect(source)
    ]


def test_a_table_comes_out_on_stdout_in_order_with_row_numbers(
    memae: Callable[..., Done], rows: pd.DataFrame, model: Callable[..., Path]
) -> None:
    model("table")
    rows.drop(columns="label").to_csv("new.csv", index=False)
    done = memae("score", "model", "new.csv")
    assert done.code == 0
    assert done.out.splitlines()[0] == "key,score,p_value,is_anomaly"
    found = from_csv(done.out)
    assert [row[0] for row in found] == [str(i) for i in range(569)]
    assert found == expected("new.csv")
    assert sum(row[3] for row in found) > 50


def test_messages_go_to_stderr_and_quiet_stops_them(
    memae: Callable[..., Done], rows: pd.DataFrame, model: Callable[..., Path]
) -> None:
    model("table")
    rows.drop(columns="label").to_csv("new.csv", index=False)
    done = memae("score", "model", "new.csv")
    flagged = sum(row[3] for row in from_csv(done.out))
    threshold = Detector.load("model").threshold.value
    assert done.err == f"569 samples, {flagged} anomalies ({flagged / 569:.2%}) above score {threshold:.6g}\n"
    quiet = memae("score", "model", "new.csv", "--quiet")
    assert (quiet.out, quiet.err) == (done.out, "")
    named = memae("score", "model", "new.csv", "--out", "scores.csv")
    assert (named.out, named.err) == ("", done.err[:-1] + "; scores.csv\n")


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl", "CSV"])
def test_every_format_holds_the_same_rows(
    memae: Callable[..., Done], folder: Path, benign: pd.DataFrame, model: Callable[..., Path], suffix: str
) -> None:
    model("table")
    benign[:30].to_csv("new.csv", index=False)
    out = folder / "deep" / f"scores.{suffix}"
    assert memae("score", "model", "new.csv", "--out", out).code == 0
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    if suffix.lower() == "csv":
        assert from_csv(out.read_text()) == expected("new.csv")
    elif suffix == "parquet":
        table = pq.read_table(out)
        assert table.column_names == COLUMNS
        assert [str(field.type) for field in table.schema] == ["int64", "double", "double", "bool"]
        assert [tuple(row.values()) for row in table.to_pylist()] == expected("new.csv", int)
    else:
        found = [json.loads(line) for line in out.read_text().splitlines()]
        assert [*found[0]] == COLUMNS
        assert [tuple(row.values()) for row in found] == expected("new.csv", int)


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_images_come_out_in_the_order_of_their_paths(
    memae: Callable[..., Done],
    folder: Path,
    digits: Callable[[int], np.ndarray],
    write_pngs: Callable[[np.ndarray, Path], None],
    model: Callable[..., Path],
    suffix: str,
) -> None:
    model("image")
    write_pngs(digits(3)[:4], folder / "new" / 'b, "quoted"')
    write_pngs(digits(0)[:3], folder / "new" / "ä")
    write_pngs(digits(0)[3:5], folder / "new")
    out = folder / f"scores.{suffix}"
    assert memae("score", "model", "new", "--out", out).code == 0
    wanted = expected("new")
    names = sorted(path.relative_to(folder / "new").as_posix() for path in (folder / "new").rglob("*.png"))
    assert [row[0] for row in wanted] == names
    if suffix == "csv":
        assert from_csv(out.read_text(encoding="utf-8")) == wanted
    elif suffix == "parquet":
        assert [tuple(row.values()) for row in pq.read_table(out).to_pylist()] == wanted
    else:
        assert [tuple(json.loads(line).values()) for line in out.read_text("utf-8").splitlines()] == wanted


def test_a_file_name_that_is_not_utf_8_is_written_readably(
    memae: Callable[..., Done],
    folder: Path,
    digits: Callable[[int], np.ndarray],
    write_pngs: Callable[[np.ndarray, Path], None],
    model: Callable[..., Path],
) -> None:
    model("image")
    write_pngs(digits(0)[:1], folder / "new")
    (folder / "new" / "000.png").rename(os.fsdecode(b"new/caf\xe9.png"))
    done = memae("score", "model", "new")
    assert done.code == 0
    assert [row[0] for row in from_csv(done.out)] == [r"caf\xe9.png"]


def test_one_image_can_be_scored_by_its_path(
    memae: Callable[..., Done],
    folder: Path,
    digits: Callable[[int], np.ndarray],
    write_pngs: Callable[[np.ndarray, Path], None],
    model: Callable[..., Path],
) -> None:
    model("image")
    write_pngs(digits(3)[:1], folder)
    done = memae("score", "model", "000.png")
    assert [row[0] for row in from_csv(done.out)] == ["000.png"]
    assert done.err.startswith("1 samples, ")


@pytest.mark.filterwarnings("always:.*was not there in training")
def test_a_column_that_the_model_does_not_know_is_left_out_with_a_note_or_dropped_without(
    memae: Callable[..., Done], rows: pd.DataFrame, model: Callable[..., Path]
) -> None:
    model("table")
    rows.to_csv("new.csv", index=False)
    done = memae("score", "model", "new.csv")
    assert "warning: new.csv: column 'label' was not there in training, and is left out" in done.err
    dropped = memae("score", "model", "new.csv", "--drop", "label")
    assert "was not there" not in dropped.err
    assert from_csv(done.out) == from_csv(dropped.out)
    assert len(from_csv(done.out)) == 569


def test_an_existing_output_is_replaced_when_all_is_written(
    memae: Callable[..., Done], folder: Path, benign: pd.DataFrame, model: Callable[..., Path]
) -> None:
    model("table")
    benign[:30].to_csv("new.csv", index=False)
    (folder / "scores.csv").write_text("old\n" * 1000)
    assert memae("score", "model", "new.csv", "--out", "scores.csv").code == 0
    assert from_csv((folder / "scores.csv").read_text()) == expected("new.csv")


def long_table(benign: pd.DataFrame, spoilt: dict[str, Any]) -> pd.DataFrame:
    """More rows than are scored at a time, the last of them as given."""
    rows = benign.sample(70_000, replace=True, random_state=0)
    return pd.concat([rows, benign[:1].assign(**spoilt)])


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_a_bad_row_in_a_later_chunk_leaves_the_old_output(
    memae: Callable[..., Done],
    folder: Path,
    benign: pd.DataFrame,
    model: Callable[..., Path],
    tree: Callable[[], dict[str, bytes]],
    suffix: str,
) -> None:
    model("table")
    long_table(benign, {"mean area": np.inf}).to_parquet("new.parquet", index=False)
    (folder / f"scores.{suffix}").write_text("old")
    before = tree()
    done = memae("score", "model", "new.parquet", "--out", f"scores.{suffix}")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: new.parquet: row 70000 holds inf in column 'mean area'")
    assert done.err.count("\n") == 1
    assert tree() == before


def test_a_bad_row_in_a_later_chunk_of_a_csv_file_is_no_success_on_stdout_either(
    memae: Callable[..., Done], benign: pd.DataFrame, model: Callable[..., Path]
) -> None:
    model("table")
    long_table(benign, {"mean area": "wide"}).to_csv("new.csv", index=False)
    done = memae("score", "model", "new.csv")
    assert done.code == 1
    assert "holds 'wide' in the number column 'mean area'" in done.err
    assert done.out.startswith("key,score,p_value,is_anomaly\n0,")  # what was good is already out
    assert len(done.out.splitlines()) < 70_000


def test_a_corrupt_image_leaves_the_old_output(
    memae: Callable[..., Done],
    folder: Path,
    digits: Callable[[int], np.ndarray],
    write_pngs: Callable[[np.ndarray, Path], None],
    model: Callable[..., Path],
    tree: Callable[[], dict[str, bytes]],
) -> None:
    model("image")
    write_pngs(digits(0)[:9], folder / "new")
    Image.effect_noise((8, 8), 50).save("whole.png")
    content = (folder / "whole.png").read_bytes()
    (folder / "new" / "005.png").write_bytes(content[: len(content) // 2])  # its header is whole
    (folder / "scores.csv").write_text("old")
    before = tree()
    done = memae("score", "model", "new", "--out", "scores.csv")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: new/005.png: not a readable image")
    assert tree() == before


def test_the_reasons_of_the_anomalies_are_written_one_a_line(
    memae: Callable[..., Done], folder: Path, rows: pd.DataFrame, model: Callable[..., Path]
) -> None:
    model("table")
    rows.drop(columns="label").to_csv("new.csv", index=False)
    done = memae("score", "model", "new.csv", "--explain", "why.jsonl")
    flagged = [(row[0], row[1], row[2]) for row in from_csv(done.out) if row[3]]
    found = [json.loads(line) for line in (folder / "why.jsonl").read_text().splitlines()]
    assert [*found[0]] == ["key", "score", "p_value", "items", "columns"]
    assert [row["key"] for row in found] == [int(row[0]) for row in flagged]
    assert [row["score"] for row in found] == pytest.approx([row[1] for row in flagged])
    for row in found:
        assert {cell["column"] for cell in row["columns"]} == {*rows.columns[:5]}
        assert sum(cell["error"] for cell in row["columns"]) == pytest.approx(row["score"], rel=1e-4)
        assert sum(use["weight"] for use in row["items"]) == pytest.approx(1, abs=1e-4)
        seen = {cell["column"]: cell["seen"] for cell in row["columns"]}
        assert seen["mean area"] == rows["mean area"][row["key"]]


def test_the_reasons_of_images_name_their_path_and_items(
    memae: Callable[..., Done],
    folder: Path,
    digits: Callable[[int], np.ndarray],
    write_pngs: Callable[[np.ndarray, Path], None],
    model: Callable[..., Path],
) -> None:
    model("image")
    write_pngs(digits(3)[:4], folder / "new")
    assert memae("score", "model", "new", "--explain", "why.jsonl", "--out", "scores.csv").code == 0
    flagged = [row[0] for row in from_csv((folder / "scores.csv").read_text()) if row[3]]
    found = [json.loads(line) for line in (folder / "why.jsonl").read_text().splitlines()]
    assert [row["key"] for row in found] == flagged
    assert all(row["items"] and row["columns"] == [] for row in found)


def test_a_reader_that_leaves_early_is_no_crash(
    folder: Path, benign: pd.DataFrame, model: Callable[..., Path]
) -> None:
    model("table")
    benign.sample(20_000, replace=True, random_state=0).to_csv(
        "new.csv", index=False
    )  # far more than a pipe holds
    pipe = f"'{sys.executable}' -m memae score model new.csv | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", pipe], capture_output=True, text=True, check=False)
    assert done.stdout == "key,score,p_value,is_anomaly\n"
    assert done.stderr == ""
    assert done.returncode == 1


def test_the_installed_script_writes_data_to_stdout_and_messages_to_stderr(
    real_memae: Callable[..., Done], benign: pd.DataFrame, model: Callable[..., Path]
) -> None:
    model("table")
    benign[:30].to_csv("new.csv", index=False)
    done = real_memae("score", "model", "new.csv")
    assert done.code == 0
    assert from_csv(done.out) == expected("new.csv")
    assert done.err.startswith("30 samples, ")


def spoilt_csv(folder: Path, rows: pd.DataFrame) -> list[int]:
    """All rows as a CSV file in which row 2 is ragged, row 5 has a word for a number and row 7 no number."""
    lines = rows.to_csv(index=False).splitlines()
    lines[3] = lines[3].rsplit(",", 1)[0]
    lines[6] = "wide," + lines[6].split(",", 1)[1]
    lines[8] = "inf," + lines[8].split(",", 1)[1]
    (folder / "spoilt.csv").write_text("\n".join([*lines, ""]))
    return [2, 5, 7]


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_rows_that_are_skipped_keep_their_places_and_are_counted(
    memae: Callable[..., Done], folder: Path, benign: pd.DataFrame, model: Callable[..., Path], suffix: str
) -> None:
    model("table")
    bad = spoilt_csv(folder, benign)
    benign.to_csv("whole.csv", index=False)
    assert memae("score", "model", "whole.csv", "--out", "whole.csv.jsonl").code == 0
    done = memae(
        "score", "model", "spoilt.csv", "--skip-bad", "--out", f"scores.{suffix}", "--explain", "why.jsonl"
    )
    assert (done.code, done.out) == (0, "")
    assert (
        "skipped 3 bad samples: row 2 has 4 cells and the header 5; "
        "row 5 holds 'wide' in the number column 'mean radius'; " in (done.err)
    )
    assert "row 7 holds inf in column 'mean radius'" in done.err
    read = {"csv": pd.read_csv, "parquet": pd.read_parquet, "jsonl": lambda path: pd.read_json(path, lines=True)}
    found = read[suffix](f"scores.{suffix}")
    whole = pd.read_json("whole.csv.jsonl", lines=True)
    assert found["key"].tolist() == list(range(len(benign)))
    for column in ("score", "p_value", "is_anomaly"):
        assert found.index[found[column].isna()].tolist() == bad
        kept = found[column].drop(bad).astype(float)
        assert kept.tolist() == pytest.approx(whole[column].drop(bad).astype(float).tolist(), rel=1e-4)
    explained = [json.loads(line)["key"] for line in (folder / "why.jsonl").read_text().splitlines()]
    assert explained == [key for key, flag in enumerate(found["is_anomaly"]) if flag == 1]


def test_columns_of_a_file_without_a_header_are_named(
    memae: Callable[..., Done], folder: Path, benign: pd.DataFrame, model: Callable[..., Path]
) -> None:
    model("table")
    benign.to_csv("plain.csv", index=False)
    benign.to_csv("bare.csv", index=False, header=False)
    names = ",".join(benign.columns)
    wanted = memae("score", "model", "plain.csv").out
    assert memae("score", "model", "bare.csv", "--columns", names).out == wanted
    assert "error: bare.csv: no column 'mean radius'" in memae("score", "model", "bare.csv").err
    benign.to_parquet("t.parquet")
    done = memae("score", "model", "t.parquet", "--columns", names)
    assert done.err.startswith("error: t.parquet: --columns names those of a CSV file without a header")
    brief = ("--set", "train.epochs=1", "--set", "memory.num_items=5", "--columns", f'{names[:-5]}"form, whole"')
    assert memae("fit", "bare.csv", "--out", "named", *brief).code == 0
    assert "form, whole" in memae("inspect", "named", "--json").out


def test_the_columns_behind_all_anomalies_are_told(
    memae: Callable[..., Done], folder: Path, benign: pd.DataFrame, model: Callable[..., Path]
) -> None:
    model("table")
    benign.assign(**{"mean area": benign["mean area"] * 9}).to_csv("large.csv", index=False)
    done = memae("score", "model", "large.csv", "--out", "s.csv", "--explain", "why.jsonl")
    parts = [
        {cell["column"]: cell["error"] / sum(cell["error"] for cell in one["columns"]) for cell in one["columns"]}
        for one in map(json.loads, (folder / "why.jsonl").read_text().splitlines())
    ]
    share = np.mean([part["mean area"] for part in parts])
    assert f"columns behind the anomalies: mean area {share:.0%}, " in done.err
    assert "columns behind" not in memae("score", "model", "large.csv", "--out", "s.csv").err


@pytest.mark.filterwarnings("always:.*no value in column")
def test_a_gap_where_training_had_none_is_filled_and_told(
    memae: Callable[..., Done], benign: pd.DataFrame, model: Callable[..., Path]
) -> None:
    model("table")
    gaps = benign.assign(**{"mean area": benign["mean area"].where(benign.index % 100 > 0)})
    gaps.to_csv("gaps.csv", index=False)
    done = memae("score", "model", "gaps.csv", "--out", "scores.csv")
    assert (done.code, done.out) == (0, "")
    rows = int((benign.index % 100 == 0).sum())
    assert (
        f"gaps.csv: no value in column 'mean area' in {rows} rows, where none was missing in training; the mean "
        "of the training stands there" in done.err
    )
    assert pd.read_csv("scores.csv")["score"].notna().all()


def test_a_model_of_holes_scores_and_explains_them_by_column(
    memae: Callable[..., Done], folder: Path, benign: pd.DataFrame
) -> None:
    holes = benign.assign(shape=benign["shape"].where(benign.index % 5 > 0))
    holes["mean area"] = holes["mean area"].where(holes.index % 7 > 0)
    holes["mean texture"] = holes["mean texture"].round().astype(int)
    holes.to_parquet("holes.parquet")
    fit = "fit holes.parquet --out model --set train.epochs=2 --set memory.num_items=9"
    done = memae(*fit.split(), "--categorical", "mean texture")
    assert done.code == 0
    for line in ("holes.csv", "holes.feather"):
        holes.to_csv(line, index=False) if line.endswith("csv") else holes.reset_index(drop=True).to_feather(line)
    found = {}
    for name in ("holes.parquet", "holes.csv", "holes.feather"):
        assert memae("score", "model", name, "--out", "scores.csv", "--explain", "why.jsonl").code == 0
        found[name] = pd.read_csv("scores.csv")["score"].tolist()
        why = [json.loads(line) for line in (folder / "why.jsonl").read_text().splitlines()]
        assert why
        assert all({c["column"] for c in one["columns"]} == set(holes.columns) for one in why)
        assert all(sum(c["error"] for c in one["columns"]) == pytest.approx(one["score"], rel=1e-4) for one in why)
    assert found["holes.csv"] == pytest.approx(found["holes.parquet"], rel=1e-5)
    assert found["holes.feather"] == found["holes.parquet"]
    shown = memae("inspect", "model").out
    assert "one-hot: " in shown
    report = json.loads(memae("inspect", "model", "--json").out)
    columns = {column["name"]: column for column in report["input"]["columns"]}
    assert any("missing: 0, and a feature" in column["rule"] for column in columns.values())
    assert columns["mean texture"]["kind"] == "category"
    assert columns["mean area"]["missing"] == pytest.approx(holes["mean area"].isna().mean())
    assert columns["mean radius"]["rule"].endswith("never missing")


def test_columns_in_another_order_score_the_same(
    memae: Callable[..., Done], benign: pd.DataFrame, model: Callable[..., Path]
) -> None:
    model("table")
    benign.to_csv("rows.csv", index=False)
    benign[benign.columns[::-1]].to_csv("turned.csv", index=False)
    rows, turned = (memae("score", "model", name, "--quiet") for name in ("rows.csv", "turned.csv"))
    assert (rows.code, turned.code) == (0, 0)
    assert rows.out == turned.out


def test_a_loop_of_links_ends_and_each_image_is_scored_once(
    memae: Callable[..., Done],
    folder: Path,
    digits: Callable[[int], np.ndarray],
    write_pngs: Callable[[np.ndarray, Path], None],
    model: Callable[..., Path],
) -> None:
    model("image")
    write_pngs(digits(0)[:4], folder / "zeros")
    write_pngs(digits(0)[4:6], folder / "zeros" / "more")
    plain = memae("score", "model", "zeros", "--quiet")
    (folder / "zeros" / "more" / "back").symlink_to(folder / "zeros")
    looped = memae("score", "model", "zeros", "--quiet")
    assert (plain.code, looped.code) == (0, 0)
    assert plain.out == looped.out
    assert len(looped.out.splitlines()) == 7


def test_an_interrupted_score_leaves_the_old_output_and_no_half_file(
    folder: Path, benign: pd.DataFrame, model: Callable[..., Path], tree: Callable[[], dict[str, bytes]]
) -> None:
    model("table")
    rows = pa.Table.from_pandas(benign, preserve_index=False)
    pq.write_table(pa.concat_tables([rows] * 10_000), "new.parquet")
    (folder / "scores.csv").write_text("old")
    before = tree()
    words = [sys.executable, "-m", "memae", "score", "model", "new.parquet", "--out", "scores.csv"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not any(f.stat().st_size for f in folder.glob(".scores.csv.*.part")):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    assert process.returncode == 130
    assert said.splitlines()[-1] == "interrupted"
    assert tree() == before
