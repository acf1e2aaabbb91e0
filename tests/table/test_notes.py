"""What is said of columns that a model should not learn, or that it reads oddly."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pytest

from memae.modality import open_source
from memae.table.fit_schema import survey
from memae.table.notes import Order, column_notes
from memae.table.source import Table
from tests.small_tables import fit_table

RNG = np.random.default_rng(0)
ROWS = 200
SIZES = RNG.normal(100, 10, ROWS).round(3)
START = 1_700_000_000


def notes(columns: Mapping[str, object], categorical: Sequence[str] = ()) -> list[str]:
    table: Table = next(iter(open_source(pd.DataFrame({"size": SIZES, **columns})).chunks(ROWS)))
    found = survey([table], categorical)
    preprocess = fit_table(table, "standard", categorical=categorical, missing=found.missing)
    return column_notes(preprocess, found.orders, found.rows)


PLAIN = {
    "shuffled numbers": RNG.permutation(ROWS),
    "measurements that rise": np.arange(ROWS) * 1.5 + RNG.random(ROWS),
    "flag": RNG.integers(0, 2, ROWS),
    "colour": RNG.choice(["red", "blue"], ROWS),
    "bytes": RNG.integers(START, START + 9000, ROWS),
    "valid": RNG.normal(size=ROWS),
    "humid": RNG.normal(size=ROWS),
}


@pytest.mark.parametrize("name", PLAIN)
def test_nothing_is_said_of_a_column_of_measurements(name: str) -> None:
    assert notes({name: PLAIN[name]}) == []


ROW = "looks like a name or a number of the row"
TIME = "looks like a time since 1970"
LABEL = "looks like a label"
SUSPECT = {
    "nr": (np.arange(7, 7 + ROWS), ROW),
    "Unnamed: 0": (RNG.permutation(ROWS), ROW),
    "user_id": (RNG.integers(0, 900, ROWS), ROW),
    "sessionId": (RNG.integers(0, 900, ROWS), ROW),
    "name": ([f"host {place}" for place in range(ROWS)], ROW),
    "seen": (np.sort(RNG.integers(START, START + 90, ROWS)), TIME),
    "event_time": (RNG.permutation(np.arange(START, START + ROWS)), TIME),
    "ts": ((START + np.arange(ROWS) / 7) * 1e3, TIME),
    "label": (RNG.integers(0, 2, ROWS), LABEL),
    "is_fraud": (RNG.random(ROWS) > 0.9, LABEL),
}


@pytest.mark.parametrize("name", SUSPECT)
def test_a_column_that_a_model_should_not_learn_is_named_once_with_the_cure(name: str) -> None:
    values, looks = SUSPECT[name]
    (note,) = notes({name: values})
    assert note.startswith(f"column {name!r} {looks}")
    assert note.endswith(f"`drop={[name]!r}`")


def test_columns_of_one_kind_share_a_note() -> None:
    (note,) = notes({f"{place}_id": RNG.integers(0, 900, ROWS) for place in range(7)})
    assert note.startswith("columns '0_id', '1_id', '2_id', '3_id', '4_id' and 2 more, each, looks like")


def test_codes_and_heavy_tails_are_told() -> None:
    port = RNG.choice([22, 80, 443], ROWS)
    (code,) = notes({"port": port})
    assert code == (
        "column 'port' holds few different whole numbers; where they are names of kinds and no amounts, say "
        "`categorical=['port']`"
    )
    assert notes({"port": port}, categorical=["port"]) == []
    many = np.append(RNG.normal(size=600), 1e4)
    table: Table = next(iter(open_source(pd.DataFrame({"amount": many})).chunks(601)))
    found = survey([table])
    (tail,) = column_notes(fit_table(table, "standard"), found.orders, found.rows)
    assert tail.startswith("column 'amount' has a heavy tail, up to 24 deviations from the mean")
    assert column_notes(fit_table(table, "log"), found.orders, found.rows) == []


@pytest.mark.parametrize("size", [1, 3, 200])
@pytest.mark.parametrize("name", ["nr", "seen", "event_time", "user_id"])
def test_the_order_of_chunks_is_that_of_the_whole(name: str, size: int) -> None:
    values = np.asarray(SUSPECT[name][0], dtype=np.float64)
    values[50] = np.nan
    order, whole = Order(), Order()
    whole.add(values)
    for start in range(0, ROWS, size):
        order.add(values[start : start + size])
    assert order == whole
    assert (order.rises, order.tells_time(name)) == (name == "nr", name in ("seen", "event_time"))
