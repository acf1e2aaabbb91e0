import json

import pytest

from experiments import choose
from experiments.choose import log_table

BRIEF = {"train": {"epochs": 1}}


@pytest.mark.parametrize(
    ("data", "preset_settings", "parts"),
    [
        ("mnist", {"memory": {"enabled": False}, **BRIEF}, ["8", "2"]),
        ("kddcup99", BRIEF, ["seed 0", "seed 1", "seed 2"]),
    ],
)
def test_variants_are_judged_on_validation_data_and_kept(
    small_data, tmp_path, monkeypatch, data, preset_settings, parts
):
    variants = {"one": preset_settings, "two": {**preset_settings, "train": {"epochs": 2}}}
    monkeypatch.setitem(choose.VARIANTS, data, lambda: variants)
    for file in (small_data / "mnist").glob("t10k*"):
        file.unlink()
    results = dict(choose.choose(data, tmp_path))
    assert list(results) == ["one", "two"]
    assert list(results["one"]["figures"]) == parts
    assert results["one"]["mean"] == pytest.approx(sum(results["one"]["figures"].values()) / len(parts), abs=1e-5)
    assert results["one"]["settings"] == preset_settings
    assert json.loads((tmp_path / data / "01.json").read_text()) == results["two"]
    assert list(choose.choose(data, tmp_path)) == []  # kept ones are not computed again
    titles, _, first, second = log_table(data, tmp_path).splitlines()
    assert titles == "| variant | mean | " + " | ".join(parts) + " |"
    assert first.startswith("| one | ") and second.startswith("| two | ")
    assert log_table(data, tmp_path / "none") == "No committed runs."
