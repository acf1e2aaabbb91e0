"""Tables that are streamed: the same parts, the same schema and the same rows as of those held in memory."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

import memae.table.prepare
from memae import Detector
from memae.config import Config, override
from memae.errors import ConfigError, DataError
from memae.modality import FitOptions, Prepared, open_source, prepare, preset_config
from memae.table.dataset import Rows

GENERATOR = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {
        "far": 1e6 + GENERATOR.normal(size=400),
        "hole": np.where(GENERATOR.random(400) < 0.2, np.nan, GENERATOR.exponential(size=400)),
        "code": GENERATOR.integers(5, size=400),
        "word": GENERATOR.choice(np.array(["a", "b", None], object), 400),
        "flag": GENERATOR.random(400) < 0.3,
    }
)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memae.table.prepare, "CHUNK_ROWS", 37)


def config(**table: str) -> Config:
    return override(
        preset_config("table-paper", "table"),
        {"table": table, "train": {"validation_share": 0.1}},
        "test",
    )


def written(path: Path, suffix: str) -> Path:
    path = path / f"t.{suffix}"
    if suffix == "parquet":
        FRAME.to_parquet(path, row_group_size=90)
    elif suffix == "feather":
        FRAME.to_feather(path)
    else:
        FRAME.to_csv(path, index=False, sep=";", decimal=",", float_format="%.17g")
    return path


@pytest.mark.parametrize("scale", ["standard", "minmax", "log"])
@pytest.mark.parametrize("suffix", ["parquet", "feather", "csv"])
def test_streamed_rows_are_those_in_memory(tmp_path: Path, suffix: str, scale: str) -> None:
    source = open_source(written(tmp_path, suffix))
    held = prepare(source, config(number_scale=scale), 3, FitOptions(categorical=["code"]))
    streamed = prepare(source, config(number_scale=scale), 3, FitOptions(categorical=["code"], stream=True))
    assert isinstance(held.training, torch.Tensor)
    assert isinstance(streamed.training, Rows)
    assert streamed.counts == held.counts
    assert streamed.preprocess.shape == held.preprocess.shape == (1 + 2 + 6 + 4 + 3,)
    for name in ("training", "whole", "validation", "calibration"):
        assert torch.allclose(getattr(streamed, name)[:], getattr(held, name), rtol=1e-5, atol=1e-5), name
    assert (streamed.notes, streamed.origin) == (held.notes, held.origin)


def test_a_streamed_training_gives_the_model_of_one_in_memory(tmp_path: Path) -> None:
    path = written(tmp_path, "parquet")
    settings = {"train": {"epochs": 3, "patience": 2}, "memory": {"num_items": 9, "revive_epochs": 1}}
    held, streamed = (
        Detector("table-paper", seed=1, settings=settings, device="cpu").fit(
            path, stream=stream, checkpoint=tmp_path / "c"
        )
        for stream in (False, True)
    )
    assert streamed.score(path).values == pytest.approx(held.score(path).values, rel=1e-3)
    assert streamed.threshold.value == pytest.approx(held.threshold.value, rel=1e-3)
    assert streamed.facts["samples"] == held.facts["samples"]


def test_rows_are_streamed_where_memory_is_too_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, "parquet")
    assert not isinstance(prepare(open_source(path), config(), 0).training, Rows)
    monkeypatch.setattr(memae.table.prepare, "STREAMED_SHARE", 1e-9)
    for x in (path, FRAME, written(tmp_path, "csv"), written(tmp_path, "feather")):
        assert isinstance(prepare(open_source(x), config(), 0).training, Rows)


def test_bad_rows_of_a_streamed_file_are_left_out(tmp_path: Path) -> None:
    lines = [f"{i},{i % 3}" for i in range(300)]
    whole, spoilt = tmp_path / "whole.csv", tmp_path / "spoilt.csv"
    whole.write_text("\n".join(["a,b", *lines, ""]))
    spoilt.write_text("\n".join(["a,b", *lines[:9], "wide,1", *lines[9:100], "7", *lines[100:], ""]))
    expected = prepare(open_source(whole), config(), 0)
    found = prepare(open_source(spoilt, skip_bad=True), config(), 0, FitOptions(stream=True))
    assert [tuple(bad) for bad in found.skipped] == [
        (9, "holds 'wide' in the number column 'a'"),
        (101, "has 1 cell and the header 2"),
    ]
    assert torch.allclose(found.training[:], expected.training[:], atol=1e-6)


@pytest.mark.parametrize(
    ("columns", "what"),
    [
        ({"a": ["2024-01-01", "2024-01-02"] * 50}, "column 'a' holds date32.*`drop=\\['a'\\]`"),
        ({"a": [""] * 100, "b": range(100)}, "column 'a' is empty: .*`drop=\\['a'\\]`"),
        ({"a": [*range(99), "oops"]}, "column 'a' holds 'oops' among numbers; mend .*`categorical=\\['a'\\]`"),
        ({"a": [1, 2]}, "holds 2 samples, too few"),
    ],
)
def test_what_cannot_be_learnt_is_refused_in_a_stream_too(
    tmp_path: Path, columns: dict[str, Any], what: str
) -> None:
    pd.DataFrame(columns).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(DataError, match=rf"t\.csv: {what}"):
        prepare(open_source(tmp_path / "t.csv"), config(), 0, FitOptions(stream=True))


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["0", "1"] * 40 + ["2"] * 80, "number"),
        (["0", "1"] * 40 + ["true"] * 80, "boolean"),
        (["1"] * 80 + ["x"] * 80, "category"),
        (["true"] * 80 + ["5"] * 80, "category"),
        (["2024-01-01"] * 80 + ["x"] * 80, "category"),
        ([""] * 80 + ["2.5"] * 80, "number"),
    ],
)
def test_the_kind_of_a_csv_column_is_that_of_all_its_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cells: list[str], kind: str
) -> None:
    path = tmp_path / "t.csv"
    path.write_text("\n".join(["a,b", *(f"{cell},{'z' * 20_000}" for cell in cells), ""]))  # three blocks
    (found,) = (
        c
        for c in prepare(open_source(path), config(), 0, FitOptions(stream=True)).preprocess.columns
        if c.name == "a"
    )
    (held,) = (c for c in prepare(open_source(path), config(), 0).preprocess.columns if c.name == "a")
    assert found.kind == held.kind == kind


def test_equal_rows_cannot_be_dropped_from_a_stream() -> None:
    with pytest.raises(ConfigError, match=r"duplicates = 'drop' compares all rows .*; set it to 'keep'"):
        prepare(open_source(pa.table({"a": range(100)})), config(duplicates="drop"), 0, FitOptions(stream=True))


def test_the_default_streams_without_a_part_to_stop_early_on(tmp_path: Path) -> None:
    source = open_source(written(tmp_path, "parquet"))
    default = preset_config("table", "table")
    held, streamed = (prepare(source, default, 3, FitOptions(stream=stream)) for stream in (False, True))
    assert held.validation is streamed.validation is None
    assert streamed.counts == held.counts
    assert torch.allclose(streamed.training[:], held.training[:], rtol=1e-5, atol=1e-5)


def test_equal_rows_train_and_hold_out_once_where_duplicates_are_dropped_and_calibrate_as_often_as_they_came() -> (
    None
):
    kinds = np.random.default_rng(0).choice([1.0, 2.0, 7.0], p=[0.6, 0.3, 0.1], size=400)
    rows = np.stack([kinds, -kinds], axis=1)

    def dealt_rows(duplicates: str) -> Prepared:
        settings = {
            "table": {"duplicates": duplicates},
            "train": {"validation_share": 0.1, "patience": 0},
        }
        return prepare(open_source(rows), override(preset_config("table", "table"), settings, "test"), seed=0)

    kept, dropped = dealt_rows("keep"), dealt_rows("drop")
    assert kept.counts == {"training": 280, "held_out": 40, "calibration": 80}
    assert dropped.counts == {"training": 3, "held_out": 3, "calibration": 80}
    assert dropped.validation is not None and len(torch.unique(dropped.validation[:], dim=0)) == 3
    own_units = {tuple(np.round(row, 5)) for row in dropped.preprocess.readable(dropped.training)}
    assert own_units == {(1.0, -1.0), (2.0, -2.0), (7.0, -7.0)}
    assert dropped.training[:].mean(dim=0).abs().max() < 1e-6, "scales are those of the rows that train"
