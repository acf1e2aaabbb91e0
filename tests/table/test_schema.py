import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from pyarrow.lib import DataType

from memae.errors import DataError
from memae.modality import collect, modality_named, open_source
from memae.table.config import NumberScale
from memae.table.csv import CsvSource
from memae.table.fit_schema import TableSummary, survey
from memae.table.schema import Column, ColumnKind, TablePreprocess, column_kind
from memae.table.source import Table
from tests.small_tables import fit_table

FRAME = pd.DataFrame(
    {
        "width": [1.0, 2.0, 3.0, 6.0],
        "colour": ["red", "blue", "red", "green"],
        "count": [10, 10, 30, 30],
        "sealed": [True, False, True, True],
    },
    index=["p", "q", "r", "s"],
)


def samples(x: np.ndarray | pd.DataFrame) -> Any:
    return collect(open_source(x))


def fit(
    x: np.ndarray | pd.DataFrame, number_scale: NumberScale = "standard", dropped: tuple[str, ...] = ()
) -> TablePreprocess:
    return fit_table(samples(x), number_scale, dropped=dropped)


def encode(preprocess: TablePreprocess, x: np.ndarray | pd.DataFrame | Any) -> torch.Tensor:
    return preprocess.encode(collect(open_source(x, modality_named("table"), preprocess)))


def test_numbers_are_scaled_and_categories_one_hot_with_a_place_for_the_unseen() -> None:
    encoded = encode(fit(FRAME), FRAME)
    deviation = np.std([1, 2, 3, 6])
    expected = [
        [-2 / deviation, 0, 0, 1, 0, -1, 0, 1, 0],
        [-1 / deviation, 1, 0, 0, 0, -1, 1, 0, 0],
        [0, 0, 0, 1, 0, 1, 0, 1, 0],
        [3 / deviation, 0, 1, 0, 0, 1, 0, 1, 0],
    ]
    assert torch.allclose(encoded, torch.tensor(expected, dtype=torch.float32))
    assert encoded.dtype == torch.float32
    assert fit(FRAME).shape == (9,)


def test_a_schema_survives_being_written_as_json() -> None:
    fitted = fit(FRAME, dropped=("id",))
    loaded = TablePreprocess.model_validate(json.loads(json.dumps(fitted.model_dump())))
    assert loaded == fitted
    assert torch.equal(encode(loaded, FRAME), encode(fitted, FRAME))


def test_minmax_scaling_takes_least_to_greatest_to_0_to_1() -> None:
    encoded = encode(fit(FRAME, number_scale="minmax"), FRAME)
    assert encoded[:, 0].tolist() == pytest.approx([0, 0.2, 0.4, 1])
    assert encoded[:, 5].tolist() == [0, 0, 1, 1]


def test_log_scaling_draws_in_both_tails_and_keeps_the_sign() -> None:
    values = np.array([[0.0], [np.expm1(1)], [-np.expm1(1)], [np.expm1(4)], [-np.expm1(4)]])
    preprocess = fit(values, number_scale="log")
    encoded = encode(preprocess, values)[:, 0].numpy()
    assert encoded == pytest.approx(np.array([0, 1, -1, 4, -4]) / np.sqrt(34 / 5), rel=1e-6)
    assert preprocess.readable(torch.tensor([[1e9]]))[0][0] < np.inf


@pytest.mark.parametrize("number_scale", ["standard", "minmax", "log"])
def test_readable_undoes_encode(number_scale: NumberScale) -> None:
    generator = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "far": 1e6 + generator.normal(size=200),
            "small": generator.normal(size=200) * 1e-6,
            "word": generator.choice(["a", "b", "c d", "e,f"], 200),
            "flag": generator.random(200) < 0.3,
        }
    )
    preprocess = fit(frame, number_scale=number_scale)
    found = pd.DataFrame(preprocess.readable(encode(preprocess, frame)), columns=frame.columns)
    assert np.allclose(found["far"], frame["far"], rtol=0, atol=1e-5)
    assert np.allclose(found["small"], frame["small"], rtol=1e-5, atol=1e-12)
    assert found["word"].tolist() == frame["word"].tolist()
    assert found["flag"].tolist() == [str(flag).lower() for flag in frame["flag"]]


def test_sum_columns_adds_up_the_features_of_each_column() -> None:
    preprocess = fit(FRAME)
    features = torch.arange(18.0).view(2, 9)
    folded = preprocess.sum_columns(features)
    assert folded.tolist() == [[0, 10, 5, 21], [9, 46, 14, 48]]
    assert torch.equal(folded.sum(dim=1), features.sum(dim=1))


def test_cells_stand_in_their_own_units_most_surprising_first() -> None:
    preprocess = fit(FRAME)
    expected = encode(preprocess, FRAME)[0]
    errors = torch.tensor([0.1, 0.2, 0.3, 0.0, 0.0, 0.05, 0.0, 0.0, 0.0])
    cells = preprocess.cells(samples(FRAME), 3, expected, errors)
    assert [cell.column for cell in cells] == ["colour", "width", "count", "sealed"]
    assert [(cell.seen, cell.expected) for cell in cells] == [
        ("green", "red"),
        (6.0, pytest.approx(1.0)),
        (30.0, pytest.approx(10.0)),
        ("true", "true"),
    ]
    assert [cell.error for cell in cells] == pytest.approx([0.5, 0.1, 0.05, 0.0])


def test_an_unseen_category_takes_the_last_place_and_reads_as_unseen() -> None:
    preprocess = fit(FRAME)
    encoded = encode(preprocess, FRAME.assign(colour="mauve"))
    assert encoded[:, 1:5].tolist() == [[0, 0, 0, 1]] * 4
    assert [row[1] for row in preprocess.readable(encoded)] == ["(unseen)"] * 4


def test_a_truth_value_that_training_never_had_is_unseen() -> None:
    preprocess = fit(pd.DataFrame({"on": [False, False, False]}))
    assert encode(preprocess, pd.DataFrame({"on": [True, False]})).tolist() == [[0, 1], [1, 0]]


def test_a_number_is_a_category_where_training_had_words() -> None:
    preprocess = fit(pd.DataFrame({"code": ["7", "8"]}))
    assert encode(preprocess, pd.DataFrame({"code": [8, 9]})).tolist() == [[0, 1, 0], [0, 0, 1]]


@pytest.mark.parametrize("number_scale", ["standard", "minmax", "log"])
@pytest.mark.parametrize("value", [0.0, 5.0, -1e9, 1e-12])
def test_a_constant_column_stays_finite_and_shows_a_change(number_scale: NumberScale, value: float) -> None:
    preprocess = fit(np.full((4, 1), value), number_scale=number_scale)
    assert encode(preprocess, np.full((4, 1), value)).abs().max() < 1e-6
    changed = encode(preprocess, np.array([[value + max(1.0, abs(value))]]))
    assert changed.item() == pytest.approx(1.0) if number_scale != "log" else abs(changed.item()) > 0.03


def test_a_constant_column_may_be_so_large_that_its_square_is_no_number() -> None:
    (column,) = fit(np.full((4, 1), 1e200)).columns
    assert (column.constant, column.centre, column.spread) == (True, 1e200, 1e200)


def test_columns_are_found_by_name_in_any_order() -> None:
    preprocess = fit(FRAME)
    shuffled = FRAME[["sealed", "count", "width", "colour"]]
    assert torch.equal(encode(preprocess, shuffled), encode(preprocess, FRAME))


def test_columns_left_out_in_training_may_be_there_or_not() -> None:
    preprocess = fit(FRAME.drop(columns="count"), dropped=("count",))
    assert torch.equal(encode(preprocess, FRAME), encode(preprocess, FRAME.drop(columns="count")))


def test_a_column_that_training_did_not_have_changes_nothing() -> None:
    preprocess = fit(FRAME)
    assert preprocess.unknown([*FRAME.columns, "extra"]) == ["extra"]
    assert torch.equal(encode(preprocess, FRAME.assign(extra=1)), encode(preprocess, FRAME))


@pytest.mark.parametrize(
    ("given", "what"),
    [
        (
            FRAME.drop(columns=["count"]),
            "no column 'count', which the model was trained on; add it under that name",
        ),
        (FRAME.rename(columns={"width": "Width"}), "no column 'width', .*; renamed[?] unknown here: 'Width'"),
        (FRAME.assign(width=["1", "2", "three", "4"]), "column 'width' holds 'three' at row r; .*mend the cell"),
        (FRAME.assign(width=["1", "2", "3", "4"]), "column 'width' .* stored as text; convert the column to num"),
        (FRAME.assign(width=True), "column 'width' holds bool; the model was trained on numbers there; mend"),
        (
            FRAME.assign(width=[1, -np.inf, np.inf, np.inf]),
            r"row q holds -inf in column 'width' \(and 2 of the rows after it\), and in training all was",
        ),
        (
            FRAME.assign(width=[1, np.inf, 2, 3]),
            "row q holds inf in column 'width', and in training all was finite; mend .* `skip_bad=True`",
        ),
        (
            FRAME.assign(colour=pd.Timestamp("2026-01-01")),
            "column 'colour' holds timestamp.*trained on categories",
        ),
        (FRAME.assign(sealed=[1, 0, 1, 1]), "column 'sealed' holds int64, .* trained on true and false"),
    ],
    ids=[
        "missing",
        "renamed",
        "text in numbers",
        "numbers as text",
        "truth in numbers",
        "several",
        "infinite",
        "date",
        "number in truth",
    ],
)
def test_rows_that_do_not_fit_the_schema_are_refused_by_column_and_row(given: pd.DataFrame, what: str) -> None:
    with pytest.raises(DataError, match=f"the DataFrame: {what}"):
        encode(fit(FRAME), given)


@pytest.mark.parametrize(
    ("given", "what"),
    [
        (
            pd.DataFrame({"when": pd.date_range("2026", periods=3)}),
            "column 'when' holds timestamp.*`drop=\\['when'\\]`",
        ),
        (
            pl.DataFrame({"parts": [[1], [2]]}),
            "column 'parts' holds large_list.*leave it out with `drop=\\['parts'\\]`",
        ),
        (pl.DataFrame({"void": [None, None]}), "column 'void' is empty: .*leave it out with `drop=\\['void'\\]`"),
        (pl.DataFrame({"raw": [b"a", b"b"]}), "column 'raw' holds large_binary.*`drop=\\['raw'\\]`"),
        (
            pd.DataFrame({"note": [f"text {i}" for i in range(1001)]}),
            "column 'note' has 1,001 different texts in 1,001 rows.*`drop=\\['note'\\]`",
        ),
        (
            pl.DataFrame({"a": [None, float("nan"), float("inf")]}),
            "column 'a' is empty in all 3 .*`drop=\\['a'\\]`",
        ),
        (pl.DataFrame({"a": ["", None]}), "column 'a' is empty in all 2 training rows: .*`drop=\\['a'\\]`"),
        (
            pd.DataFrame({"a": [*map(str, range(30)), "oops"]}),
            "column 'a' holds 'oops' among numbers; mend .*`skip_bad=True`, or, .* `categorical=\\['a'\\]`",
        ),
        (
            pd.DataFrame({"when": pd.date_range("2026", periods=3)}),
            "column 'when' .*turn it into numbers, such as .*hour and weekday taken [(]table.dates = 'expand'[)]",
        ),
        (
            pl.DataFrame({"a": [1.0, -1.7e308, 1.7e308]}),
            "column 'a' holds numbers up to 1.7e[+]308, too large .*`drop=\\['a'\\]`",
        ),
    ],
)
@pytest.mark.parametrize("number_scale", ["standard", "minmax"])
def test_columns_that_cannot_be_learnt_are_refused(
    given: pd.DataFrame | pl.DataFrame, what: str, number_scale: NumberScale
) -> None:
    with pytest.raises(DataError, match=f"the DataFrame: {what}"):
        fit(given, number_scale=number_scale)


def test_a_thousand_categories_are_still_categories() -> None:
    (column,) = fit(pd.DataFrame({"town": [f"town {i:03}" for i in range(1000)]})).columns
    assert len(column.categories) == 1000
    assert column.width == 1001


def test_duplicate_columns_are_refused_in_training_and_later() -> None:
    twice = Table(pa.Table.from_arrays([pa.array([1.0]), pa.array([2.0])], names=["a", "a"]), [0], "t.csv")
    with pytest.raises(DataError, match=r"t\.csv: column names must differ; given twice: a"):
        fit_table(twice, "standard")
    with pytest.raises(DataError, match=r"t\.csv: column names must differ; given twice: a"):
        fit(pd.DataFrame({"a": [1.0, 2.0]})).encode(twice)


def test_a_table_without_columns_is_refused() -> None:
    with pytest.raises(DataError, match=r"t\.csv: no columns are left to learn from; drop fewer"):
        fit_table(Table(pa.table({}), [], "t.csv"), "standard")


def test_values_out_of_all_proportion_stay_finite_and_far() -> None:
    preprocess = fit(FRAME)
    encoded = encode(preprocess, FRAME.assign(width=[1.7e308, -1.7e308, 1e30, -1e30]))
    assert torch.isfinite(encoded.square()).all()
    assert encoded[:, 0].abs().min() > 1e9
    assert encoded[:, 0].sign().tolist() == [1, -1, 1, -1]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (pa.int8(), "number"),
        (pa.uint64(), "number"),
        (pa.float16(), "number"),
        (pa.decimal128(5, 2), "number"),
        (pa.bool_(), "boolean"),
        (pa.string(), "category"),
        (pa.large_string(), "category"),
        (pa.string_view(), "category"),
        (pa.dictionary(pa.int8(), pa.string()), "category"),
        (pa.dictionary(pa.int8(), pa.int64()), "category"),
        (pa.dictionary(pa.int8(), pa.date32()), None),
        (pa.date32(), None),
        (pa.timestamp("us"), None),
        (pa.binary(), None),
        (pa.null(), None),
        (pa.list_(pa.int8()), None),
    ],
    ids=str,
)
def test_the_kind_of_an_arrow_type(kind: DataType, expected: str | None) -> None:
    assert column_kind(kind) == expected


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"k": pd.Categorical(["b", "a", "b"])}),
        pd.DataFrame({"k": pd.Categorical([2, 1, 2])}),
        pl.DataFrame({"k": ["b", "a", "b"]}, schema={"k": pl.Categorical}),
        pa.table({"k": pa.array(["b", "a", "b"]).dictionary_encode()}),
    ],
)
def test_categorical_columns_are_categories(frame: pd.DataFrame | pl.DataFrame | Any) -> None:
    preprocess = fit(frame)
    assert encode(preprocess, frame).tolist() == [[0, 1, 0], [1, 0, 0], [0, 1, 0]]


HOLES = pd.DataFrame(
    {
        "width": [1.0, None, 3.0, np.inf],
        "colour": ["red", None, "blue", "red"],
        "sealed": [True, False, None, True],
    }
)


@pytest.mark.parametrize("number_scale", ["standard", "minmax", "log"])
def test_a_missing_number_is_0_and_has_a_feature_and_a_missing_category_is_one(number_scale: NumberScale) -> None:
    preprocess = fit(HOLES, number_scale=number_scale)
    encoded = encode(preprocess, HOLES)
    assert preprocess.shape == (2 + 4 + 4,)
    assert encoded[:, 1].tolist() == [0, 1, 0, 1]  # infinity is no value
    assert encoded[[1, 3], 0].tolist() == [0, 0]
    whole = fit(HOLES[["width"]].iloc[[0, 2]], number_scale=number_scale)
    assert encoded[[0, 2], 0].tolist() == encode(whole, HOLES[["width"]].iloc[[0, 2]])[:, 0].tolist()
    assert encoded[:, 2:].argmax(dim=1).tolist() == [2, 0, 1, 2]
    assert [column.categories for column in preprocess.columns] == [
        (),
        ("", "blue", "red"),
        ("", "false", "true"),
    ]
    assert [column.missing for column in preprocess.columns] == [0.5, 0.25, 0.25]
    assert preprocess.readable(encoded)[1] == ["(missing)", "(missing)", "false"]


def test_a_missing_category_that_training_never_had_is_unseen() -> None:
    encoded = encode(fit(FRAME), FRAME.assign(colour=["red", None, "red", None]))
    assert encoded[:, 1:5].tolist() == [[0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 1, 0], [0, 0, 0, 1]]
    assert torch.equal(encode(fit(FRAME), FRAME.assign(colour=None)), encode(fit(FRAME), FRAME.assign(colour="?")))


def test_a_column_without_any_value_is_missing_everywhere_whatever_its_type() -> None:
    frame = pd.DataFrame({"a": [1.0, None, 3.0], "b": ["x", "y", None]})
    preprocess = fit(frame)
    void = pa.table({"a": pa.nulls(2), "b": pa.nulls(2)})
    assert encode(preprocess, void).tolist() == [[0, 1, 1, 0, 0, 0]] * 2


def test_rows_that_cannot_be_encoded_are_named_and_the_others_are_as_ever() -> None:
    given = FRAME.assign(width=[1, -np.inf, np.inf, 6], count=[10, np.inf, 30, 30])
    x, bad, filled = fit(FRAME).encode_rows(samples(given))
    assert dict(bad) == {1: "holds -inf in column 'width'", 2: "holds inf in column 'width'"}
    assert torch.equal(x[[0, 3]], encode(fit(FRAME), FRAME)[[0, 3]])
    assert not x[[1, 2]].any()
    assert filled == {}


def test_the_mean_of_the_training_stands_for_a_number_that_none_lacked_in_training() -> None:
    given = FRAME.assign(width=[1, np.nan, None, 6], count=[10, None, 30, 30])
    x, bad, filled = fit(FRAME).encode_rows(samples(given))
    assert (bad, filled) == ({}, {"width": 2, "count": 1})
    assert torch.equal(
        x,
        encode(
            fit(FRAME),
            FRAME.assign(width=[1, *[FRAME["width"].mean()] * 2, 6], count=[10, FRAME["count"].mean(), 30, 30]),
        ),
    )


def test_only_rows_that_are_read_count_among_the_gaps() -> None:
    table = samples(FRAME.assign(width=[1, np.nan, None, 6]))
    spoilt = Table(table.columns, table.keys, table.origin, {2: "has 1 cell and the header 3"})
    assert fit(FRAME).encode_rows(spoilt).filled == {"width": 1}


def test_what_is_missing_only_among_the_held_out_rows_has_a_feature_too() -> None:
    table = samples(FRAME)
    preprocess = fit_table(table, "standard", missing={"width": 0.01})
    assert preprocess.shape == (10,)
    assert encode(preprocess, FRAME.assign(width=np.nan))[:, :2].tolist() == [[0, 1]] * 4


def test_cells_and_shares_of_a_missing_value_are_of_its_column() -> None:
    preprocess = fit(HOLES)
    expected = encode(preprocess, HOLES)[0]
    cells = preprocess.cells(samples(HOLES), 1, expected, torch.arange(10.0))
    assert [(cell.column, cell.seen, cell.expected, cell.error) for cell in cells] == [
        ("sealed", "false", "true", 6 + 7 + 8 + 9),
        ("colour", "(missing)", "red", 2 + 3 + 4 + 5),
        ("width", "(missing)", pytest.approx(1.0), 1),
    ]


@pytest.mark.parametrize("codes", [[80, 443, 80], [80.0, 443.0, 80.0]])
def test_numbers_that_the_user_calls_categories_are(codes: list[float]) -> None:
    frame = pd.DataFrame({"port": codes, "size": [1.0, 2.0, 3.0]})
    preprocess = fit_table(samples(frame), "standard", categorical=["port"])
    assert preprocess.columns[0].categories == ("443", "80")
    assert encode(preprocess, frame)[:, :3].tolist() == [[0, 1, 0], [1, 0, 0], [0, 1, 0]]
    holes = frame.assign(port=[codes[0], None, None])
    assert fit_table(samples(holes), "standard", categorical=["port"]).columns[0].categories == ("", "80")
    with pytest.raises(DataError, match=r"the DataFrame: no column 'prot' to take as categories; it has 'port'"):
        fit_table(samples(frame), "standard", categorical=["prot"])


def test_the_schema_knows_constant_columns_and_how_far_a_column_reaches() -> None:
    frame = pd.DataFrame({"same": [5.0] * 100, "tail": [0.0] * 99 + [1000.0]})
    same, tail = fit(frame).columns
    assert (same.constant, same.spread, same.reach) == (True, 5.0, 0.0)
    assert not tail.constant
    assert tail.reach == pytest.approx(990 / np.std([0.0] * 99 + [1000.0]))
    assert fit(frame, number_scale="log").columns[1].reach == pytest.approx(tail.reach)


@pytest.mark.parametrize("number_scale", ["standard", "minmax", "log"])
@pytest.mark.parametrize("size", [1, 7, 100])
def test_a_summary_of_chunks_is_that_of_the_whole(number_scale: NumberScale, size: int) -> None:
    generator = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "far": 1e6 + generator.normal(size=300),
            "hole": np.where(generator.random(300) < 0.2, np.nan, generator.exponential(size=300)),
            "late": [np.nan] * 200 + [1.0, 2.0] * 50,
            "same": 3.0,
            "code": generator.integers(5, size=300),
            "word": generator.choice(np.array(["a", "b", None], object), 300),
            "flag": generator.random(300) < 0.3,
        }
    )
    whole, summary = samples(frame), TableSummary(number_scale)
    for part in open_source(frame).chunks(size):
        summary.add(part)
    shares = survey(open_source(frame).chunks(size)).missing
    expected, found = fit(frame, number_scale=number_scale), summary.preprocess(whole.origin, (), shares)
    for one, other in zip(expected.columns, found.columns, strict=True):
        for field, value in one:
            same = pytest.approx(value, rel=1e-7) if isinstance(value, float) else value
            assert getattr(other, field) == same, (one.name, field)


def cost(columns: int) -> float:
    """Seconds of the processor to read a bad row of a CSV file so wide, and to encode it: the least of three runs."""
    names = [f"c{number}" for number in range(columns)]
    rows = pa.table({name: ["1", "2", "x"] for name in names})
    kinds: dict[str, ColumnKind] = dict.fromkeys(names, "number")
    preprocess = TablePreprocess(columns=tuple(Column(name=name, kind="number") for name in names))
    text = "\n".join(
        ",".join(row) for row in (names, *zip(*(rows[name].to_pylist() for name in names), strict=True))
    )
    found = []
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "t.csv").write_text(text + "\n")
        source = CsvSource(Path(folder) / "t.csv", kinds).skipping()
        for _ in range(3):
            began = time.process_time()
            bad = preprocess.encode_rows(collect(source)).bad
            found.append(time.process_time() - began)
            assert list(bad) == [2]
    return min(found)


def test_the_work_grows_with_the_columns_and_not_with_their_square() -> None:
    assert cost(4000) < 9 * cost(1000)  # 4 times the columns; with their square it is 16 times and more
