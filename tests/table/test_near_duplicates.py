"""Equal rows on both sides of a split are found."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from memae.datasets import data_root
from memae.modality import FitOptions, open_source, prepare, preset_config
from memae.table import near_duplicates

ROWS = pd.DataFrame(np.random.default_rng(0).normal(size=(100, 4)), columns=list("abcd"))


def notes_of(x: Any, group: Any = None, **given: Any) -> list[str]:
    found = prepare(open_source(x), preset_config(None, "table"), 0, FitOptions(group=group, **given))
    return [note for note in found.notes if "of the held-out" in note]


@pytest.mark.parametrize("stream", [True, False])
def test_rows_that_come_several_times_are_found(stream: bool) -> None:
    rows = pd.concat([ROWS] * 4, ignore_index=True)
    (note,) = notes_of(rows, stream=stream)
    assert "of the held-out rows (" in note
    assert "are equal to rows of the training: row " in note
    assert note.endswith("say with `group` which rows belong together, or remove what is repeated")
    first, second = (int(word) for word in note.split("training: row ")[1].split(";")[0].split(" and row "))
    assert first != second
    assert first % 100 == second % 100


def test_rows_of_their_own_are_not() -> None:
    assert notes_of(pd.concat([ROWS, ROWS + 1e-3])) == []


def test_minus_zero_is_zero() -> None:
    rows = pd.concat([ROWS.assign(a=0.0), ROWS.assign(a=-0.0)], ignore_index=True)
    assert len(notes_of(rows)) == 1


def test_groups_that_keep_them_together_are_enough_and_others_are_not() -> None:
    rows = pd.concat([ROWS] * 4, ignore_index=True)
    assert notes_of(rows.assign(part=np.arange(400) % 100), "part") == []
    (note,) = notes_of(rows.assign(part=np.arange(400) // 10), "part")
    assert "of the training, although they are of different groups: row " in note


def test_of_many_rows_some_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_duplicates, "COMPARED", 20)
    assert "of 20 compared)" in notes_of(pd.concat([ROWS] * 4))[0]


@pytest.mark.real
def test_small_tables_have_none() -> None:
    for file in sorted((data_root() / "tables").glob("*.npz")):
        arrays = np.load(file)
        assert notes_of(arrays["X"][arrays["y"] == 0]) == [], file.name
