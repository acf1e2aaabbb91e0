"""Every bad input: one message on stderr that names the input and the cure, and nothing on the disk changes."""

import gzip
import json
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.cli.conftest import Done
from tests.small_data import write_idx
from tests.small_footage import FRAMES, scene
from tests.video_files import cut, write_frames, write_sound, write_video

BRIEF = ("--set", "train.epochs=1")


@pytest.fixture
def place(
    folder: Path,
    benign: pd.DataFrame,
    rows: pd.DataFrame,
    digits: Callable[[int], np.ndarray],
    write_pngs: Callable[[np.ndarray, Path], None],
    model: Callable[..., Path],
) -> Path:
    """A working directory with good and bad inputs, two models, and outputs of an earlier run."""
    model("table", "flows.model")
    model("image", "digits.model")
    benign.to_csv("ok.csv", index=False)
    rows.to_csv("all.csv", index=False)
    write_pngs(digits(0)[:40], folder / "zeros")
    (folder / "scores.csv").write_text("old scores")
    (folder / "items.png").write_text("old picture")
    (folder / "full").mkdir()
    (folder / "full" / "thesis.txt").write_text("years of work")
    return folder


def write_bad_files(folder: Path, benign: pd.DataFrame, digits: Callable[..., Any]) -> None:
    """One file of each kind of trouble."""
    images = digits(0)[:40]
    benign[:1].to_csv("one.csv", index=False)
    benign[:0].to_csv("none.csv", index=False)
    (folder / "empty.csv").write_bytes(b"")
    pd.DataFrame({"size": range(1600), "note": [f"text {i}" for i in range(1600)]}).to_csv("text.csv", index=False)
    benign.assign(**{"mean area": np.inf}).to_csv("inf.csv", index=False)
    benign.astype({"mean area": object}).assign(**{"mean area": "wide"}).to_csv("word.csv", index=False)
    benign.rename(columns={"mean area": "area"}).to_csv("renamed.csv", index=False)
    benign.assign(day=pd.Timestamp("2024-01-01")).to_parquet("dates.parquet")
    pd.DataFrame({"size": [2.5] * 40, "kind": ["a"] * 40}).to_csv("same.csv", index=False)
    (folder / "ragged.csv").write_text("a,b\n1,2\n3\n" * 20)
    benign.assign(**{"mean area": None}).to_csv("void.csv", index=False)
    area = benign["mean area"].astype(object)
    benign.assign(**{"mean area": area.where(benign.index != benign.index[7], "wide")}).to_csv(
        "slip.csv", index=False
    )
    (folder / "twice.csv").write_text("a,a\n" + "1,2\n" * 40)
    (folder / "nul.csv").write_text("a,b\n" + "1,\0\n" * 40)
    (folder / "sheet.csv").write_bytes(b"PK\x03\x04 and no more")
    (folder / "lake.csv").write_bytes(b"PAR1 and no more")
    (folder / "half.arrow").write_bytes(b"ARROW1 and no more")
    (folder / "stub.csv").write_text("a,b\n1\n2\n")
    rows = pd.read_csv("all.csv")
    rows.assign(label=rows["label"].where(rows.index != 3)).to_csv("unlabelled.csv", index=False)
    (folder / "half.csv.gz").write_bytes(gzip.compress((folder / "ok.csv").read_bytes())[:500])
    (folder / "half.parquet").write_bytes(b"PAR1 and no more")
    (folder / "notes.txt").write_text("hello")
    np.save("vector.npy", np.zeros(50))
    np.save("odd.npy", np.zeros((30, 5, 8, 7)))
    np.save("words.npy", np.array([["a", "b"]] * 30))
    np.save("objects.npy", np.array([{"a": 1}] * 30, dtype=object), allow_pickle=True)
    np.save("wide.npy", np.zeros((30, 8, 9), np.uint8))
    np.save("tiny.npy", np.random.default_rng(0).random((40, 3, 3)))
    np.save("colour.npy", np.zeros((30, 8, 8, 3), np.uint8))
    np.save("nan.npy", np.where(np.arange(40)[:, None, None] == 7, np.nan, images))
    np.save("flat.npy", np.full((40, 8, 8), 0.5))
    np.save("unlabelled.npy", images)
    np.savez("two.npz", a=images, b=images)
    np.savez("lengths.npz", X=images, y=np.arange(39) % 2)
    (folder / "broken.npz").write_bytes(b"PK\x03\x04 and no more")
    write_idx(images, folder / "cut-images-idx3-ubyte")
    (folder / "cut-images-idx3-ubyte").write_bytes((folder / "cut-images-idx3-ubyte").read_bytes()[:-5])
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8))
    for name in ("zipped", "texts", "holes", "bomb", "half", "single", "black"):
        (folder / name).mkdir()
        Image.new("L", (64, 64) if name == "half" else (8, 8)).save(folder / name / "0.png")
    for place in range(40):
        Image.new("L", (8, 8)).save(folder / "black" / f"{place}.png")
    (folder / "zipped" / "1.png").write_bytes(b"PK\x03\x04 and no more")
    (folder / "texts" / "1.png").write_bytes(b"a picture says more than a thousand words")
    (folder / "holes" / "1.png").write_bytes(b"")
    noise.save(folder / "half" / "1.jpg")
    (folder / "half" / "1.jpg").write_bytes((folder / "half" / "1.jpg").read_bytes()[:1500])
    Image.new("1", (20_000, 20_000)).save(folder / "bomb" / "0.png")
    (folder / "parts.zip").write_bytes(b"PK\x03\x04 and no more")
    (folder / "notes.md").write_text("hello")
    (folder / "list.txt").write_text("zeros/000.png\ngone.png\n")
    (folder / "broken").mkdir()
    (folder / "broken" / "0.png").write_bytes(b"\x89PNG and no more")
    (folder / "nothing").mkdir()
    (folder / "run.toml").write_text("[train]\nepoch = 3\n")
    (folder / "type.toml").write_text("[train]\nepochs = 'many'\n")
    (folder / "scalar.toml").write_text("threshold = 3\n")
    (folder / "syntax.toml").write_text("[train\nepochs = 3\n")


@pytest.fixture(scope="session")
def bad_files(
    tmp_path_factory: pytest.TempPathFactory,
    benign: pd.DataFrame,
    rows: pd.DataFrame,
    digits: Callable[[int], np.ndarray],
) -> Path:
    """A folder with one file of each kind of trouble, written once."""
    path = tmp_path_factory.mktemp("bad") / "files"
    path.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        benign.to_csv("ok.csv", index=False)
        rows.to_csv("all.csv", index=False)
        write_bad_files(path, benign, digits)
    return path


# the type is in quotes, as pytest before 9.2 does not name it
def case(name: str, words: str, *message: str, code: int = 1) -> "pytest.ParameterSet":
    return pytest.param(words.split(), message, code, id=name)


FIT = "fit {} --out new.model --set train.epochs=1"
SCORE = "score flows.model {} --out scores.csv"
SCORE_IMAGES = "score digits.model {} --out scores.csv"
EVALUATE = "evaluate flows.model {} --label-column {} --normal {}"

SOURCES = [
    case("no such file", FIT.format("gone.csv"), "gone.csv: no such file or folder", "check the path"),
    case("an empty file", FIT.format("empty.csv"), "empty.csv: the file is empty", "check how it was written"),
    case("a header alone", FIT.format("none.csv"), "none.csv: ", "no samples|needs at least|give at least"),
    case("constant rows", FIT.format("same.csv"), "same.csv: every training row is the same", "nothing to learn"),
    case("one sample", FIT.format("one.csv"), "one.csv: holds 1 sample, too few", "give at least 20"),
    case("an unknown kind", FIT.format("notes.md"), "notes.md: no reader for this kind of file", r"known: \.csv"),
    case(
        "a text file", FIT.format("notes.txt"), "notes.txt: line 1 is 'hello', no path of an image", "one path a l"
    ),
    case("an archive", FIT.format("parts.zip"), r"parts\.zip: is an archive", "unpack it"),
    case(
        "a list with a gap", FIT.format("list.txt"), r"list\.txt line 2: gone\.png: not a readable image \(no such"
    ),
    case(
        "a pattern without match", FIT.format("zeros/*.bmp"), r"zeros/\*\.bmp: matches no \.png", "check the path"
    ),
    case(
        "a zip called PNG",
        FIT.format("zipped"),
        r"zipped/1\.png: not a readable image \(it is a zip",
        "--skip-bad",
    ),
    case(
        "text called PNG", FIT.format("texts"), r"texts/1\.png: not a readable image \(it is a text", "--skip-bad"
    ),
    case(
        "an empty PNG",
        FIT.format("holes"),
        r"holes/1\.png: not a readable image \(the file is empty",
        "--skip-bad",
    ),
    case(
        "a bomb", FIT.format("bomb"), r"bomb/0\.png: not a readable image \(too large to be opened", "--skip-bad"
    ),
    case("half a JPEG", FIT.format("half"), r"half/1\.jpg: not a readable image \(.*truncated", "--skip-bad"),
    case(
        "nothing but bad ones",
        FIT.format("broken --skip-bad"),
        "broken: none of its 1 images can be read",
        "check",
    ),
    case("one image", FIT.format("single"), "single: holds 1 sample, too few", "give at least 20"),
    case("black images", FIT.format("black"), "black: every pixel is 0", "nothing to learn"),
    case(
        "a size of nothing",
        FIT.format("zeros --size 0"),
        "image.size_px = 0",
        "greater than or equal to 4",
    ),
    case(
        "free text",
        FIT.format("text.csv"),
        "text.csv: column 'note' has 1,2.. different texts",
        "with --drop note",
    ),
    case(
        "no value at all", FIT.format("inf.csv"), "inf.csv: column 'mean area' is empty in all 286", "with --drop"
    ),
    case(
        "a void column", FIT.format("void.csv"), "void.csv: column 'mean area' is empty", "with --drop mean area"
    ),
    case(
        "a word among numbers",
        FIT.format("slip.csv"),
        "slip.csv: column 'mean area' holds 'wide' among numbers",
        "mend the cell, .* --skip-bad",
    ),
    case("names given twice", FIT.format("twice.csv"), "twice.csv: column names must differ; given twice: a$"),
    case("NUL bytes", FIT.format("nul.csv"), "nul.csv: holds NUL bytes", "save the file as UTF-8"),
    case(
        "an Excel file",
        FIT.format("sheet.csv"),
        "sheet.csv: is no CSV file but a zip or an Excel",
        "save the sheet",
    ),
    case(
        "Parquet in CSV", FIT.format("lake.csv"), "lake.csv: is no CSV file but a Parquet file", "name it .parquet"
    ),
    case(
        "an Arrow file that is none",
        FIT.format("half.arrow"),
        "half.arrow: not a readable Arrow",
        "write it again",
    ),
    case(
        "categories that are not there",
        FIT.format("ok.csv --categorical port"),
        r"ok\.csv: no column 'port' to take as categories",
        "it has 'mean radius'",
    ),
    case("categories of images", FIT.format("zeros --categorical port"), "zeros: images have no column 'port'"),
    case("nothing but bad rows", FIT.format("stub.csv --skip-bad"), "stub.csv: holds no sample that can be read"),
    case("dates", FIT.format("dates.parquet"), "dates.parquet: column 'day' holds timestamp", "with --drop day"),
    case(
        "ragged rows",
        FIT.format("ragged.csv"),
        r"ragged.csv: line 3 has 1 cell and the header 2 \(3\)",
        "mend that line, or .* --skip-bad",
    ),
    case("half a gz", FIT.format("half.csv.gz"), r"half\.csv\.gz: ", "write it again"),
    case(
        "half a Parquet file",
        FIT.format("half.parquet"),
        r"half\.parquet: not a readable Parquet",
        "write it again",
    ),
    case("a vector", FIT.format("vector.npy"), r"vector\.npy: of shape 50; pass \(S, D\) for a table"),
    case(
        "no colour axis",
        FIT.format("odd.npy"),
        r"odd\.npy: of shape 30 x 5 x 8 x 7: cannot tell",
        r"pass \(S, C, H",
    ),
    case("an array of words", FIT.format("words.npy"), r"words\.npy: holds <U1, not numbers", "pass numbers"),
    case(
        "pickled objects",
        FIT.format("objects.npy"),
        r"objects\.npy: not a readable",
        "never unpickles; save plain",
    ),
    case("tiny images", FIT.format("tiny.npy"), "3 x 3 px are too small", "at least 4 x 4"),
    case("a NaN pixel", FIT.format("nan.npy"), r"nan\.npy: image 7 holds NaN", "mend or remove it"),
    case("constant images", FIT.format("flat.npy"), r"flat\.npy: every pixel is 0\.5", "nothing to learn"),
    case("two arrays", FIT.format("two.npz"), r"two\.npz: holds the arrays a, b", "name the samples X"),
    case("a broken npz", FIT.format("broken.npz"), r"broken\.npz: not a readable numpy file", "write it again"),
    case(
        "half an idx", FIT.format("cut-images-idx3-ubyte"), "cut-images-idx3-ubyte: .*cut short", "fetch it again"
    ),
    case("half a PNG", FIT.format("broken"), r"broken/0\.png: not a readable image", "mend or remove it"),
    case("an empty folder", FIT.format("nothing"), r"nothing: holds no \.png, \.jpg, .* file", "check the path"),
]

SETTINGS = [
    case(
        "an unknown preset",
        FIT.format("ok.csv --preset tabel"),
        "preset 'tabel' is unknown",
        "did you mean 'table'",
    ),
    case(
        "a preset for images",
        FIT.format("ok.csv --preset mnist"),
        "preset 'mnist' is for images",
        "leave the preset",
    ),
    case(
        "a preset for tables",
        FIT.format("zeros --preset kddcup"),
        "'kddcup' is for tables",
        "leave the preset out",
    ),
    case(
        "an unknown key",
        FIT.format("ok.csv --set train.epoch=3"),
        r"train\.epoch: unknown key",
        r"did you mean train\.",
    ),
    case(
        "an unknown section", FIT.format("ok.csv --set tarin.epochs=3"), "tarin: unknown key", "did you mean train"
    ),
    case(
        "a value out of range",
        "fit ok.csv --out new.model --set train.epochs=-3",
        r"train\.epochs = -3",
        "greater than or",
    ),
    case(
        "a value of no type",
        "fit ok.csv --out new.model --set train.epochs=many",
        r"train\.epochs = 'many'",
        "valid integer",
    ),
    case(
        "a word that sets nothing",
        FIT.format("ok.csv --set train.epochs"),
        r"--set train\.epochs: ",
        "section.key=",
    ),
    case(
        "items that would stay random",
        FIT.format("ok.csv --set memory.initialisation=uniform"),
        r"memory: trained = false needs initialisation 'data' or 'kmeans'",
        "would stay random for ever",
    ),
    case("too deep a word", FIT.format("ok.csv --set a.b.c=1"), r"--set a\.b\.c=1: ", r"such as train\.epochs=30"),
    case(
        "an unknown key in the file",
        FIT.format("ok.csv --config run.toml"),
        r"run\.toml: train\.epoch: unknown",
        "did",
    ),
    case(
        "a bad value in the file",
        FIT.format("ok.csv --config type.toml"),
        r"type\.toml: train\.epochs = 'many'",
        "int",
    ),
    case(
        "a section that is none",
        FIT.format("ok.csv --config scalar.toml"),
        r"scalar\.toml: threshold = 3",
        "should be",
    ),
    case(
        "a section that is none, and a rate",
        FIT.format("ok.csv --config scalar.toml --false-alarm-rate 0.1"),
        r"scalar\.toml: threshold = 3",
        "should be",
    ),
    case(
        "no TOML",
        FIT.format("ok.csv --config syntax.toml"),
        r"syntax\.toml: not valid TOML",
        r"see docs/config\.md",
    ),
    case("no such config", FIT.format("ok.csv --config gone.toml"), r"gone\.toml: cannot read", "check the path"),
    case(
        "a rate that cannot be promised",
        FIT.format("ok.csv --false-alarm-rate 0.001"),
        r"false_alarm_rate = 0\.001 takes at least 999 held-out normal samples, and there are 71",
        "give more data",
    ),
    case("a rate above 1", FIT.format("ok.csv --false-alarm-rate 1.5"), r"false_alarm_rate = 1\.5", "less than 1"),
    case("a negative seed", FIT.format("ok.csv --seed -1"), "seed = -1", "give a whole number, 0 or more"),
    case("an unknown device", FIT.format("ok.csv --device tpu"), "--device tpu", "take auto or cpu"),
    case(
        "an unknown column", FIT.format("ok.csv --drop labl"), r"ok\.csv: no column 'labl'", "it has 'mean radius'"
    ),
    case(
        "a column of images",
        FIT.format("zeros --drop folder --drop label"),
        "zeros: images have no column 'label'",
    ),
    case(
        "nothing to resume",
        FIT.format("ok.csv --resume"),
        r"new\.model\.checkpoint: holds no training",
        "leave --resume",
    ),
]

OUTPUTS = [
    case(
        "a model over other files",
        "fit ok.csv --out full --log log --set train.epochs=1",
        "full: exists and is no memae model",
        "choose another",
    ),
    case(
        "a model over a file",
        "fit ok.csv --out scores.csv --set train.epochs=1",
        r"scores\.csv: exists and is no",
        "choose another",
    ),
    case(
        "a model below a file",
        "fit ok.csv --out ok.csv/model --set train.epochs=1",
        r"ok\.csv",
        "check|choose another",
    ),
    case("a log below a file", FIT.format("ok.csv --log scores.csv/log"), r"scores\.csv", "check the path"),
    case(
        "scores of no known format",
        "score flows.model ok.csv --out scores.xlsx",
        r"--out scores\.xlsx",
        r"must end in \.csv",
    ),
    case(
        "scores over a folder",
        "score flows.model ok.csv --out full.csv",
        r"--out full\.csv: is a directory",
        "name a file in it",
    ),
    case("scores below a file", "score flows.model ok.csv --out ok.csv/scores.csv", r"ok\.csv", "check the path"),
    case(
        "reasons of no known format",
        "score flows.model ok.csv --explain why.csv",
        r"--explain why\.csv",
        r"must end in \.jsonl",
    ),
    case(
        "a picture of no known format",
        "inspect digits.model --out items.jpg",
        r"--out items\.jpg",
        r"must end in \.png",
    ),
    case(
        "a picture of rows",
        "inspect flows.model --out items.png",
        r"--out items\.png: .*of a table",
        "leave --out away",
    ),
    case("a demo over a file", "demo --out scores.csv", r"--out scores\.csv: is a file", "name a folder"),
]

SCORING = [
    case(
        "no such file to score", SCORE.format("gone.csv"), r"gone\.csv: no such file or folder", "check the path"
    ),
    case("no samples", SCORE.format("none.csv"), r"none\.csv: holds no samples"),
    case(
        "infinity to score",
        SCORE.format("inf.csv"),
        r"inf\.csv: row 0 holds inf in column 'mean area' \(and \d+ of the rows after it\), and in training all was",
        "mend or remove it, or leave such rows out with --skip-bad",
    ),
    case(
        "nothing but bad rows to score",
        SCORE.format("inf.csv --skip-bad"),
        r"inf\.csv: holds no sample that is not bad; the first: holds inf in column 'mean area'",
    ),
    case(
        "labels that are missing",
        EVALUATE.format("unlabelled.csv", "label", "benign"),
        r"unlabelled\.csv: no label in 'label' at row 3 \(1 such in all\)",
        "fill them, or leave such rows out with --skip-bad",
    ),
    case(
        "labels of another length",
        "evaluate digits.model lengths.npz --label-column y --normal 0",
        r"lengths\.npz: 39 labels for 40 samples",
        "give one label a sample",
    ),
    case(
        "text for a number",
        SCORE.format("word.csv"),
        r"word\.csv: line \d+ holds 'wide' in the number column 'mean area'",
        "mend that line, .* --skip-bad",
    ),
    case(
        "a renamed column", SCORE.format("renamed.csv"), r"renamed\.csv: no column 'mean area'", "renamed.*'area'"
    ),
    case(
        "a column that is not there",
        SCORE.format("ok.csv --drop day"),
        r"ok\.csv: no column 'day'",
        "it has 'mean",
    ),
    case(
        "images for a table",
        SCORE.format("zeros"),
        "zeros: the model was trained on tables and these are images",
        "take a model of that kind",
    ),
    case(
        "a table for images",
        SCORE_IMAGES.format("ok.csv"),
        r"ok\.csv: the model was trained on images and this is a table",
    ),
    case(
        "arrays of another size",
        SCORE_IMAGES.format("wide.npy"),
        "wide.npy: images of shape 1 x 8 x 9",
        "resize or",
    ),
    case(
        "arrays of other colours",
        SCORE_IMAGES.format("colour.npy"),
        "colour.npy: images of shape 3 x 8 x 8",
        "convert",
    ),
    case(
        "a NaN pixel to score", SCORE_IMAGES.format("nan.npy"), r"nan\.npy: image 7 holds NaN", "mend or remove it"
    ),
    case(
        "a broken image to score",
        SCORE_IMAGES.format("broken"),
        r"broken/0\.png: not a readable image",
        "mend or remove",
    ),
    case(
        "maps of a table",
        SCORE.format("ok.csv --maps heat"),
        "--maps is for models of images, .*; a table has --exp",
    ),
    case(
        "maps among images",
        SCORE_IMAGES.format("zeros --maps zeros/heat"),
        "zeros/heat: lies in zeros",
        "elsewhere",
    ),
    case("maps of some", SCORE_IMAGES.format("zeros --maps-of few"), "--maps-of few: take all or anomalies"),
    case("an unknown device to score on", SCORE.format("ok.csv --device tpu"), "--device tpu", "take auto or cpu"),
    case(
        "bad input on stdout",
        "score flows.model inf.csv",
        r"inf\.csv: row 0 holds inf in column 'mean area'",
        "mend or remove it",
    ),
    case(
        "an unknown label column",
        EVALUATE.format("all.csv", "lable", "benign"),
        r"all\.csv: no column 'lable'",
        "it has",
    ),
    case(
        "an unknown label",
        EVALUATE.format("all.csv", "label", "fine"),
        r"all\.csv: no sample is labelled 'fine'",
        "the labels are benign, malignant",
    ),
    case(
        "one label only",
        EVALUATE.format("all.csv", "label", "benign --normal malignant"),
        r"all\.csv: every sample is",
        "needs anomalies too",
    ),
    case(
        "no such file to evaluate",
        EVALUATE.format("gone.csv", "label", "benign"),
        r"gone\.csv: no such file",
        "check the path",
    ),
    case(
        "images with a column",
        "evaluate digits.model zeros --label-column label --normal 0",
        "zeros: images have no column 'label'",
        "say --label-column folder",
    ),
    case(
        "images in no folder",
        "evaluate digits.model zeros --label-column folder --normal 0",
        r"zeros/000\.png: lies in no folder",
        "sort it into one",
    ),
    case(
        "an array without labels",
        "evaluate digits.model unlabelled.npy --label-column y --normal 0",
        r"unlabelled\.npy: comes without labels",
    ),
    case(
        "an unknown data set", "demo --data minst", "--data minst: unknown", "take one of bundled, mnist, kddcup99"
    ),
    case(
        "no label column", "evaluate flows.model all.csv --normal benign", "say which labels: --label-column NAME"
    ),
    case("no normal value", "evaluate flows.model all.csv --label-column label", "and --normal VALUE"),
    case(
        "tables of other columns",
        "score flows.model ok.csv all.csv",
        r"all\.csv: has a column 'label' that ok\.csv lacks, and several files make one table if all have the same",
        "mend it, or name the files that belong together",
    ),
    case("an address", "score flows.model s3://bucket/ok.csv", "s3://bucket/ok.csv: is an address", "download it"),
    case("a data set that is not there", "demo --data mnist", "no such folder of data sets", "set MEMAE_DATA"),
]


@pytest.mark.parametrize(("words", "message", "code"), SOURCES + SETTINGS + OUTPUTS + SCORING)
def test_one_message_names_the_input_and_the_cure_and_nothing_changes(
    memae: Callable[..., Done],
    place: Path,
    bad_files: Path,
    tree: Callable[[], dict[str, bytes]],
    words: list[str],
    message: tuple[str, ...],
    code: int,
) -> None:
    shutil.copytree(bad_files, place, dirs_exist_ok=True)
    (place / "full.csv").mkdir()
    before = tree()
    done = memae(*words)
    assert done.code == code
    assert done.out == ""
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    for part in message:
        assert re.search(part, done.err), done.err
    assert tree() == before


def write_bad_footage(folder: Path) -> None:
    """Footage, labels and masks of each kind of trouble; the good ones stand beside them."""
    frames = scene(5)[0]
    (folder / "zero.mp4").write_bytes(b"")
    cut(folder / "clip.mp4", 0.7, folder / "cut.mp4")
    cut(write_video(folder / "whole.mkv", frames, like="ffv1.mkv"), 0.6, folder / "half.mkv")
    for name, like, options in (
        ("half.ts", "h264.ts", {}),
        ("half.mpg", "mpeg2.mpg", {}),
        ("half.wmv", "wmv2.wmv", {}),
        ("half.mp4", "h264.mp4", {"movflags": "frag_keyframe+empty_moov"}),
    ):
        whole = write_video(folder / f"whole{Path(name).suffix}", frames, like=like, container=options)
        cut(whole, 0.6, folder / name)
    write_sound(folder / "sound.mp4")
    (folder / "noise.mp4").write_bytes(bytes(range(256)) * 40)
    (folder / "list.m3u8").write_text("#EXTM3U\nclip.mp4\n")
    (folder / "list.mp4").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nclip.mp4\n#EXT-X-ENDLIST\n")
    for name in ("gap", "sizes"):
        write_frames(folder / name, frames[:12])
    (folder / "gap" / "008.png").unlink()
    Image.new("L", (70, 48)).save(folder / "sizes" / "011.png")
    write_frames(folder / "brief", frames[:2])
    for name in ("a.mp4", "b.mp4"):
        (folder / "many").mkdir(exist_ok=True)
        shutil.copy(folder / "clip.mp4", folder / "many" / name)
    (folder / "few.csv").write_text("\n".join(["video,frame,label", *(f"clip,{n},0" for n in range(99)), ""]))
    (folder / "late.csv").write_text("video,start,end\nclip,90,100\n")
    (folder / "good.csv").write_text("video,start,end\nclip,40,59\n")
    (folder / "columns.csv").write_text("name,frame\nclip,3\n")
    (folder / "unknown.csv").write_text("video,start,end\ngate,1,3\n")
    masks = np.zeros((FRAMES, 48, 72), np.uint8)
    for name, few in (("small", masks[:, ::2, ::2]), ("few", masks[1:])):
        (folder / name).mkdir()
        np.save(folder / name / "clip.npy", few)
    Image.new("L", (72, 72), 255).save(folder / "square.png")
    Image.new("L", (72, 48), 0).save(folder / "black.png")
    (folder / "line.json").write_text('{"width": 72, "height": 48, "exclude": [[[0, 0], [9, 9]]]}')
    (folder / "words.json").write_text("everything")


@pytest.fixture(scope="session")
def bad_footage(footage: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the good footage, its model, and the bad."""
    path = tmp_path_factory.mktemp("bad") / "footage"
    shutil.copytree(footage, path, ignore=shutil.ignore_patterns("masks"))
    write_bad_footage(path)
    return path


@pytest.fixture
def gate(
    bad_footage: Path,
    folder: Path,
    model: Callable[..., Path],
    benign: pd.DataFrame,
    digits: Callable[[int], np.ndarray],
    write_pngs: Callable[[np.ndarray, Path], None],
) -> Path:
    """A working directory with all of that, models of other kinds, and the outputs of an earlier run."""
    shutil.copytree(bad_footage, folder, dirs_exist_ok=True)
    model("table", "flows.model")
    model("image", "digits.model")
    benign.to_csv("ok.csv", index=False)
    write_pngs(digits(0)[:4], folder / "zeros")
    for name in ("frames.csv", "events.jsonl", "overlay.mp4", "events/event-0001.png", "full/thesis.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("old")
    return folder


WATCH = "score camera.model {} --out frames.csv --events events.jsonl --overlay overlay.mp4"
JUDGE = "evaluate camera.model clip.mp4 --labels {}"
TRAIN = "fit {} --out new.model --set train.epochs=1"

FOOTAGE = [
    case("no such video", WATCH.format("gone.mp4"), r"gone\.mp4: no such file or folder", "check the path"),
    case("a file of zero bytes", WATCH.format("zero.mp4"), r"zero\.mp4: the file is empty", "check how it was"),
    case("a file without its index", WATCH.format("cut.mp4"), r"cut\.mp4: not a readable video", "copy it again"),
    case(
        "half a file",
        WATCH.format("half.mkv"),
        r"half\.mkv: was cut short, as its last part is not whole",
        "copy the",
    ),
    *(
        case(
            f"half a {suffix} file",
            WATCH.format(f"half.{suffix}"),
            rf"half\.{suffix}: was cut short, as its last part is not whole; copy the file again, or .* WHOLE\.mkv",
        )
        for suffix in ("ts", "mpg", "wmv", "mp4")
    ),
    case(
        "nothing but half a file",
        WATCH.format("zero.mp4 --skip-bad"),
        "holds no video that can be read; the first,",
    ),
    case(
        "half a test set",
        JUDGE.format("good.csv --skip-bad"),
        "--skip-bad: figures without some of the videos are figures of another test set",
    ),
    case(
        "a half file behind a whole",
        "score camera.model clip.mp4 half.mkv --out frames.csv",
        "half.mkv: was cut short",
    ),
    case(
        "sound alone", WATCH.format("sound.mp4"), r"sound\.mp4: holds no video, only sound", "give a file with pic"
    ),
    case("noise", WATCH.format("noise.mp4"), r"noise\.mp4: not a readable video", "copy it again"),
    case("a playlist", WATCH.format("list.m3u8"), r"list\.m3u8: is a playlist", "give the video files it names"),
    case(
        "a playlist in disguise",
        WATCH.format("list.mp4"),
        r"list\.mp4: is a playlist inside, which may point anywhere",
        "give the video files that it names",
    ),
    case(
        "a web address", WATCH.format("http://gate/x.mp4"), "http://gate/x.mp4: is an address", "download it first"
    ),
    case("a camera's address", WATCH.format("rtsp://gate/1"), "rtsp://gate/1: is an address", "only local files"),
    case("another scheme", WATCH.format("concat:clip.mp4"), "concat:clip.mp4: is an address", "download it first"),
    case("a gap in the frames", WATCH.format("gap"), r"gap: frame 8 is missing after 007\.png", "restore it"),
    case(
        "frames of two sizes",
        WATCH.format("sizes"),
        r"011\.png: is 70 x 48 px, and 001\.png is 72 x 48",
        "one size",
    ),
    case("an empty folder of video", WATCH.format("new"), r"new: no such file or folder"),
    case(
        "a table for video",
        WATCH.format("ok.csv"),
        r"ok\.csv: the model was trained on videos and this is a table",
    ),
    case(
        "video for a table",
        "score flows.model clip.mp4",
        r"clip\.mp4: the model was trained on tables and this is video",
        "take",
    ),
    case(
        "video for images",
        "score digits.model clip.mp4",
        r"clip\.mp4: the model was trained on images and this is video",
        "take",
    ),
    case("a column of video", WATCH.format("clip.mp4 --drop x"), r"clip\.mp4: a video has no column 'x'"),
    case("a video to learn from that is half", TRAIN.format("normal half.mkv"), r"half\.mkv: was cut short"),
    case("a playlist to learn from", TRAIN.format("list.m3u8"), r"list\.m3u8: is a playlist"),
    case(
        "too few frames",
        TRAIN.format("brief --preset video"),
        "holds 2 frames, too few to train on",
        "at least 20",
    ),
    case(
        "a table among videos",
        TRAIN.format("normal ok.csv"),
        r"ok\.csv: no reader for this kind of video; known: \.mp4",
    ),
    case(
        "a rate of rows",
        TRAIN.format("ok.csv --frame-rate 3"),
        r"ok\.csv: --frame-rate is not for tables; leave it out",
    ),
    case(
        "images by preset",
        TRAIN.format("normal --preset image"),
        "'image' is for images, .* set of videos",
        "leave",
    ),
    case(
        "a rate of frames", TRAIN.format("brief --frame-rate 0"), "--frame-rate 0: give frames per second, above 0"
    ),
    case(
        "a rate without held-out footage",
        TRAIN.format("normal --false-alarm-rate 0.001 --set threshold.calibration_share=0"),
        r"false_alarm_rate = 0\.001 needs held-out samples",
    ),
]

EVENTS = [
    case(
        "a format that is no overlay",
        "score camera.model clip.mp4 --overlay o.avi",
        r"o\.avi: give a file that ends",
    ),
    case(
        "one overlay of two",
        "score camera.model many --overlay overlay.mp4",
        "the overlays of 2 videos; name a fol",
    ),
    case(
        "an overlay over its video",
        "score camera.model clip.mp4 --overlay clip.mp4",
        r"clip\.mp4 is a video to be",
    ),
    case(
        "overlays over their videos", "score camera.model many --overlay many", r"many/a\.mp4: cannot be written"
    ),
    case(
        "one file twice", "score camera.model clip.mp4 --out x.jsonl --events x.jsonl", "another output has that"
    ),
    case(
        "events of no known format",
        "score camera.model clip.mp4 --events e.csv",
        r"--events e\.csv",
        "end in .jsonl",
    ),
    case(
        "stills over other files",
        "score camera.model clip.mp4 --events full.jsonl",
        r"it holds thesis\.txt",
        "give",
    ),
    case(
        "stills over the video",
        "score camera.model many --events many.jsonl",
        r"it holds a\.mp4; give --events ano",
    ),
    case(
        "stills over a file", "score camera.model many/a.mp4 --events ok.csv.jsonl", "but it is a file; give --eve"
    ),
    case(
        "an overlay below a file",
        "score camera.model clip.mp4 --overlay ok.csv/o.mp4",
        r"ok\.csv",
        "check the path",
    ),
    case(
        "reasons of frames",
        "score camera.model clip.mp4 --explain why.jsonl",
        "of video --events says why",
    ),
    case(
        "events of rows",
        "score flows.model ok.csv --events events.jsonl",
        "--events is for models of videos, and fl",
    ),
    case(
        "an overlay of rows",
        "score flows.model ok.csv --overlay o.mp4",
        "--overlay is for models of images and videos",
        "leave",
    ),
    case(
        "a score of events of rows",
        "score flows.model ok.csv --on-threshold 3",
        "--on-threshold is for models of video",
        "leave",
    ),
    case("a rate of what is scored", "score flows.model ok.csv --frame-rate 3", "--frame-rate is not for tables"),
    case("less than nothing before", WATCH.format("clip.mp4 --before -1"), "--before -1: give seconds, 0 or more"),
    case("no time after", WATCH.format("clip.mp4 --after nan"), "--after nan: give seconds"),
    case(
        "an end above the start",
        WATCH.format("clip.mp4 --on-threshold 3 --off-threshold 4"),
        "off_threshold = 4: .* not lie above on_threshold",
    ),
    case(
        "a score and a rate of events",
        WATCH.format("clip.mp4 --on-threshold 3 --false-alarms-per-hour 2"),
        "--on-threshold and --false-alarms-per-hour both set the score that begins an event; give one of them",
    ),
    case(
        "a rate of events among rows",
        "score flows.model ok.csv --false-alarms-per-hour 2",
        "--false-alarms-per-hour is for models of video",
    ),
    case("no rate at all", WATCH.format("clip.mp4 --false-alarms-per-hour 0"), "-per-hour 0: give a rate above 0"),
    case(
        "no rate at all in an evaluation",
        "evaluate camera.model clip.mp4 --labels masks --false-alarms-per-hour 0",
        "-per-hour 0: give a rate above 0",
    ),
    case("a rate that is no number", WATCH.format("clip.mp4 --false-alarms-per-hour nan"), "give a rate above 0"),
    case("a negative length", WATCH.format("clip.mp4 --least -1"), "least_s = -1: give seconds, 0 or more"),
    case(
        "a mask of another shape",
        WATCH.format("clip.mp4 --mask square.png"),
        r"square\.png: the mask is 72 x 72 px",
    ),
    case(
        "a mask of everything",
        WATCH.format("clip.mp4 --mask black.png"),
        r"black\.png: excludes the whole picture",
    ),
    case(
        "a polygon that is a line",
        WATCH.format("clip.mp4 --mask line.json"),
        r"line\.json: List should have at least 3 items .*, at exclude 0; give",
    ),
    case(
        "a mask that is no JSON",
        WATCH.format("clip.mp4 --mask words.json"),
        r"words\.json: cannot read this mask .* give",
    ),
    case("no such mask", WATCH.format("clip.mp4 --mask gone.png"), r"gone\.png: no such mask; check the path"),
]

LABELS = [
    case(
        "no labels of video", "evaluate camera.model clip.mp4", "compared with labels, a CSV file or a folder of"
    ),
    case(
        "labels of a column",
        JUDGE.format("good.csv --label-column y"),
        "--label-column is for models of tables and images",
    ),
    case(
        "no such labels",
        JUDGE.format("gone.csv"),
        r"gone\.csv: no such file or folder of labels",
        "check the path",
    ),
    case(
        "labels too few",
        JUDGE.format("few.csv"),
        r"few\.csv: video 'clip\.mp4' has 100 frames and 99 labels",
        "give",
    ),
    case(
        "a segment too long", JUDGE.format("late.csv"), r"late\.csv: line 2: the segment from 90 to 100 of video"
    ),
    case(
        "labels of no format",
        JUDGE.format("columns.csv"),
        r"columns\.csv: has the columns name, frame",
        "give video",
    ),
    case("labels of another video", JUDGE.format("unknown.csv"), r"unknown\.csv: line 2: unknown video 'gate'"),
    case(
        "masks too small", JUDGE.format("small"), r"small: the masks of video 'clip\.mp4' are 36 x 24 px, and the"
    ),
    case(
        "masks too few",
        JUDGE.format("few"),
        r"few/clip\.npy: video 'clip\.mp4' has 100 frames and 99 masks",
        "give one",
    ),
    case(
        "labels that are text", JUDGE.format("words.json"), r"words\.json: .* neither a \.csv file of labels nor a"
    ),
    case(
        "a place to leave out", JUDGE.format("good.csv --mask square.png"), r"square\.png: the mask is 72 x 72 px"
    ),
    case("half a video to judge", "evaluate camera.model half.mkv --labels good.csv", r"half\.mkv: was cut short"),
    case(
        "labels of rows",
        "evaluate flows.model ok.csv --labels good.csv",
        "--labels is for models of images and videos",
        "leave",
    ),
]


@pytest.mark.parametrize(("words", "message", "code"), FOOTAGE + EVENTS + LABELS)
def test_trouble_with_video_is_one_message_and_nothing_changes(
    memae: Callable[..., Done],
    gate: Path,
    tree: Callable[[], dict[str, bytes]],
    words: list[str],
    message: tuple[str, ...],
    code: int,
) -> None:
    before = tree()
    done = memae(*words)
    assert done.code == code
    assert done.out == ""
    assert done.err.startswith("error: "), done.err
    assert done.err.count("\n") == 1, done.err
    for part in message:
        assert re.search(part, done.err), done.err
    assert tree() == before


def test_half_a_video_on_stdout_is_no_success(memae: Callable[..., Done], gate: Path) -> None:
    done = memae("score", "camera.model", "half.mkv")
    assert done.code == 1
    assert re.search(r"half\.mkv: was cut short", done.err)


def rewritten(path: Path, change: Callable[[Any], object]) -> None:
    """Changes the JSON of a file."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def spoil_weights(model: Path, change: Callable[[bytes], bytes]) -> None:
    path = model / "model.safetensors"
    path.write_bytes(change(path.read_bytes()))


def remove(model: Path, *names: str) -> None:
    for name in names:
        (model / name).unlink()
    if len(names) == 2:
        model.rmdir()


DAMAGES: dict[str, tuple[Any, ...]] = {
    "no such folder": (
        lambda m: remove(m, "config.json", "model.safetensors"),
        "no such model directory",
        "check the path",
    ),
    "no weights": (lambda m: remove(m, "model.safetensors"), "model.safetensors: missing", "copy the whole model"),
    "no config": (lambda m: remove(m, "config.json"), "config.json: missing", "check the path"),
    "half the weights": (
        lambda m: spoil_weights(m, lambda content: content[: len(content) // 2]),
        "model.safetensors: .*cut short or changed",
        "copy the model again",
    ),
    "one byte of the weights": (
        lambda m: spoil_weights(m, lambda content: content[:-1] + bytes([content[-1] ^ 1])),
        "model.safetensors: .*cut short or changed",
        "copy the model again",
    ),
    "half the config": (
        lambda m: (m / "config.json").write_bytes((m / "config.json").read_bytes()[:200]),
        "config.json: not readable",
        "copy the model again",
    ),
    "a changed threshold": (
        lambda m: rewritten(m / "config.json", lambda c: c["threshold"].update(false_alarm_rate=0.9)),
        "config.json: was changed after it was written",
        "copy the model again",
    ),
    "a newer format": (
        lambda m: rewritten(m / "config.json", lambda c: c.update(format=99)),
        "is of format 99",
        "upgrade memae",
    ),
    "other JSON": (lambda m: (m / "config.json").write_text("[]"), "no memae model", "check the path"),
    "a pickle": (
        lambda m: (m / "extra.pkl").write_bytes(pickle.dumps([1])),
        "extra.pkl: may hold a pickle",
        "Remove the file",
    ),
    "a pickle by another name": (
        lambda m: spoil_weights(m, lambda _: pickle.dumps([1])),
        "model.safetensors: may hold a pickle",
        "get the model",
    ),
}

VERBS = {
    "score": "score flows.model ok.csv --out scores.csv",
    "evaluate": "evaluate flows.model all.csv --label-column label --normal benign --json",
    "inspect": "inspect flows.model --out items.png",
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("verb", VERBS)
def test_a_damaged_model_is_refused_by_every_verb(
    memae: Callable[..., Done], place: Path, tree: Callable[[], dict[str, bytes]], verb: str, damage: str
) -> None:
    spoil, *message = DAMAGES[damage]
    spoil(place / "flows.model")
    before = tree()
    done = memae(*VERBS[verb].split())
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: flows.model")
    assert done.err.count("\n") == 1
    for part in message:
        assert re.search(part, done.err), done.err
    assert tree() == before


def test_a_file_in_the_place_of_a_model_is_refused(
    memae: Callable[..., Done], place: Path, tree: Callable[[], dict[str, bytes]]
) -> None:
    before = tree()
    done = memae("score", "ok.csv", "ok.csv")
    assert (done.code, done.out) == (1, "")
    assert re.search("error: ok.csv: no such model directory; check the path", done.err)
    assert tree() == before


@pytest.mark.parametrize("verb", ["fit ok.csv --out flows.model --set train.epochs=1 --set memory.num_items=5"])
@pytest.mark.parametrize(
    "trouble", ["--set memory.shrinkage=5", "--false-alarm-rate 0.001", "--resume", "--drop x"]
)
def test_a_fit_that_fails_leaves_the_model_before_it(
    memae: Callable[..., Done], place: Path, tree: Callable[[], dict[str, bytes]], verb: str, trouble: str
) -> None:
    before = tree()
    done = memae(*verb.split(), *trouble.split())
    assert (done.code, done.out) == (1, "")
    assert done.err.count("\n") == 1
    assert tree() == before


USAGE = {
    "an unknown verb": ("fitt ok.csv", "No such command 'fitt'"),
    "an unknown option": ("fit ok.csv --out m --epoch 3", "No such option: --epoch"),
    "no source": ("fit --out m", "Missing argument 'SOURCE'"),
    "no output": ("fit ok.csv", "Missing option '--out'"),
    "no model": ("score", "Missing argument 'MODEL'"),
    "a seed that is no number": ("fit ok.csv --out m --seed x", "Invalid value for '--seed'"),
    "too many words": ("inspect flows.model digits.model", "unexpected extra argument"),
}


@pytest.mark.parametrize("mistake", USAGE)
def test_a_wrong_command_line_is_exit_code_2(
    memae: Callable[..., Done], place: Path, tree: Callable[[], dict[str, bytes]], mistake: str
) -> None:
    words, message = USAGE[mistake]
    before = tree()
    done = memae(*words.split())
    assert (done.code, done.out) == (2, "")
    assert message in " ".join(done.err.replace("│", " ").split())
    assert tree() == before


def test_the_command_alone_shows_its_help(memae: Callable[..., Done]) -> None:
    done = memae()
    assert done.code == 2
    assert "memae demo" in done.out + done.err


def test_the_version_is_that_of_the_package(memae: Callable[..., Done]) -> None:
    from memae import __version__

    done = memae("--version")
    assert (done.code, done.out) == (0, __version__ + "\n")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (SCORE.format("inf.csv"), 1, "error: inf.csv: row 0 holds inf in column 'mean area'"),
        ("fit void.csv --out flows.model", 1, "error: void.csv: column 'mean area' is empty"),
        ("fit", 2, "Missing argument 'SOURCE'"),
    ],
)
def test_a_real_process_shows_no_traceback(
    real_memae: Callable[..., Done],
    place: Path,
    bad_files: Path,
    tree: Callable[[], dict[str, bytes]],
    words: str,
    code: int,
    message: str,
) -> None:
    shutil.copytree(bad_files, place, dirs_exist_ok=True)
    before = tree()
    done = real_memae(*words.split())
    assert (done.code, done.out) == (code, "")
    assert message in done.err
    assert "Traceback" not in done.err
    assert tree() == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no disk that is always full")
def test_a_full_disk_is_one_message_and_no_success(place: Path) -> None:
    words = ["score", "flows.model", "ok.csv", "--quiet"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "memae", *words], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert done.stderr == "error: No space left on device; check the path, its permissions and the free space\n"
