"""Numbers and times that are text: "$1,234.50", "12 %", dates."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from memae import Detector
from memae.errors import DataError
from memae.modality import collect, open_source
from memae.table.fit_schema import survey
from memae.table.readings import Written, WrittenNumbers, date_part
from memae.table.schema import TablePreprocess
from memae.table.source import Table
from tests.small_tables import fit_table

BRIEF = {"train": {"epochs": 1}, "memory": {"num_items": 8}}


def texts(*cells: str | None) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(cells, pa.string())])


WRITTEN: dict[str, tuple[list[str | None], list[float | None], Written]] = {
    "dollars": (
        ["$1,234.50", "$7", "-$3.25", "$-2", "(4.00)", "12"],
        [1234.5, 7, -3.25, -2, -4, 12],
        Written(unit="$"),
    ),
    "euros": (["1.234,50 €", "7 €", "-0,5 €", None], [1234.5, 7, -0.5, None], Written(unit="€", decimal=",")),
    "per cent": (["12 %", "3.5%", "-1%"], [12, 3.5, -1], Written(unit="%")),
    "thousands": (["1,234", "950", "12,345,678"], [1234, 950, 12345678], Written()),
    "thousands of Europe": (["1.234", "12.345.678"], [1234, 12345678], Written(decimal=",")),
    "Swiss": (["CHF 1'234.50", "CHF 2.00"], [1234.5, 2], Written(unit="CHF")),
    "spaces": (["1 234,5", "2\u00a0000", "1\u202f000,25"], [1234.5, 2000, 1000.25], Written(decimal=",")),
    "holes": (["$1", "NA", "?", "", "$2"], [1, None, None, None, 2], Written(unit="$")),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_written_numbers_are_found_and_read(name: str) -> None:
    cells, numbers, how = WRITTEN[name]
    found = WrittenNumbers()
    for cell in cells:
        found.add(texts(cell))
    assert found.found == how
    assert found.example in cells
    assert how.numbers(texts(*cells)).to_pylist() == numbers


@pytest.mark.parametrize(
    "cells",
    [
        ["1", "2.5", "-3e7"],
        ["$1", "€2"],
        ["12 %", "0.12"],
        ["1,23", "4,567.8"],
        ["12,34,567", "1"],
        ["10.0.0.1", "10.0.0.2"],
        ["2024-01-01", "2024-01-02"],
        ["$1", "free"],
        ["+49 30 1234", "+49 30 123"],
        ["", "NA"],
        ["12 kg", "7 kg"],
    ],
)
def test_other_texts_are_no_numbers(cells: list[str]) -> None:
    found = WrittenNumbers()
    found.add(texts(*cells))
    assert found.found is None


def schema(frame: pd.DataFrame, **options: object) -> TablePreprocess:
    table: Table = collect(open_source(frame))
    return fit_table(table, "standard", **options)  # type: ignore[arg-type]


PRICES = pd.DataFrame({"price": ["$1,200.00", "$800.00", "NA", "$1,000.00"], "kind": ["a", "b", "a", "b"]})


def test_the_schema_reads_written_numbers_in_every_table_to_come(tmp_path: Path) -> None:
    preprocess = schema(PRICES)
    price = preprocess.columns[0]
    assert (price.kind, price.centre, price.missing) == ("number", 1000.0, 0.25)
    plain = schema(PRICES.assign(price=[1200.0, 800.0, None, 1000.0]))
    wanted = plain.encode(collect(open_source(PRICES.assign(price=[1200.0, 800.0, None, 1000.0]))))
    PRICES.to_csv(tmp_path / "t.csv", index=False)
    from memae.modality import modality_named

    source = open_source(tmp_path / "t.csv", modality_named("table"), preprocess)
    assert preprocess.encode(collect(source)).tolist() == wanted.tolist()
    assert preprocess.encode(collect(open_source(PRICES))).tolist() == wanted.tolist()
    number = collect(open_source(PRICES.assign(price=[1200.0, 800.0, None, 1000.0])))
    assert preprocess.encode(number).tolist() == wanted.tolist()
    share = schema(pd.DataFrame({"share": ["1 %", "2 %"]}))
    with pytest.raises(
        DataError, match="column 'share' holds double, but the model was trained on texts such as '12 %'"
    ):
        share.encode(collect(open_source(pd.DataFrame({"share": [0.01, 0.02]}))))


def test_a_categorical_column_stays_text() -> None:
    assert survey([collect(open_source(PRICES))], ["price"]).written == {}


TIMES = ["2024-01-01 00:30:00", "2024-01-06T23:59:59", "2024-02-29 12:00", "2024-03-01"]


def test_parts_of_times_are_the_same_from_text_and_from_times() -> None:
    given = texts(*TIMES, None, "soon", "2024-02-31 12:00")
    times = pa.chunked_array(
        [pa.array(pd.to_datetime(pd.Series(TIMES), format="ISO8601").astype("datetime64[us]"))]
    )
    hours, days = ["00", "23", "12", "00"], ["Monday", "Saturday", "Thursday", "Friday"]
    for part, wanted in (("hour", hours), ("weekday", days)):
        assert date_part(times, part).to_pylist() == wanted  # type: ignore[arg-type]
        assert date_part(given, part).to_pylist() == [*wanted, None, None, None]  # type: ignore[arg-type]
    zoned = texts("2024-01-01T23:30:00-02:00", "2024-01-01T01:30:00Z")
    assert date_part(zoned, "hour").to_pylist() == ["01", "01"]  # in UTC, as a CSV file is read
    assert date_part(texts("07:15", "23:00:10"), "hour").to_pylist() == ["07", "23"]
    assert date_part(pa.chunked_array([pa.nulls(2)]), "hour").to_pylist() == [None, None]


def test_dates_are_refused_and_expanded_when_asked(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    when = pd.Timestamp("2024-01-01") + pd.to_timedelta(generator.integers(0, 24 * 90, 300), unit="h")
    frame = pd.DataFrame({"when": when, "size": generator.normal(size=300)})
    frame = frame[(frame["when"].dt.hour > 6) & (frame["when"].dt.day_of_week < 5)]
    with pytest.raises(DataError, match=r"column 'when' holds timestamp.*table\.dates = 'expand'"):
        Detector(settings=BRIEF).fit(frame)
    frame.to_csv(tmp_path / "t.csv", index=False)
    detector = Detector(settings={**BRIEF, "table": {"dates": "expand"}}).fit(tmp_path / "t.csv")
    names = [column.name for column in detector.preprocess.columns]
    assert names == ["when (hour)", "when (weekday)", "size"]
    assert detector.score(tmp_path / "t.csv").values == pytest.approx(detector.score(frame).values)
    night = pd.DataFrame({"when": [pd.Timestamp("2024-06-02 03:00")], "size": [0.0]})
    (one,) = detector.explain(night)
    assert {cell.column: cell.seen for cell in one.cells[:2]} == {"when (hour)": "03", "when (weekday)": "Sunday"}
    with pytest.raises(DataError, match="no column 'when'"):
        detector.score(night.drop(columns="when"))
    detector.save(tmp_path / "model")
    assert Detector.load(tmp_path / "model").score(night).values == detector.score(night).values
