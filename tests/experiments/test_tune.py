import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from experiments import __main__ as main
from experiments import tune
from experiments.tune import log_table
from experiments.variants import VARIANTS

BRIEF = {"train": {"epochs": 1}}


@pytest.mark.parametrize(
    ("data", "preset_settings", "parts"),
    [
        ("mnist", {"memory": {"enabled": False}, **BRIEF}, ["8", "2"]),
        ("kddcup99", BRIEF, ["seed 0", "seed 1", "seed 2"]),
    ],
)
def test_variants_are_judged_on_validation_data_and_kept(
    small_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    data: str,
    preset_settings: dict[str, Any],
    parts: list[str],
) -> None:
    variants = {"one": preset_settings, "two": {**preset_settings, "train": {"epochs": 2}}}
    monkeypatch.setitem(VARIANTS, data, lambda: variants)
    for file in (small_data / "mnist").glob("t10k*"):
        file.unlink()
    results = dict(tune.tune(data, tmp_path))
    assert list(results) == ["one", "two"]
    assert list(results["one"]["figures"]) == parts
    assert results["one"]["mean"] == pytest.approx(sum(results["one"]["figures"].values()) / len(parts), abs=1e-5)
    assert results["one"]["settings"] == preset_settings
    assert json.loads((tmp_path / data / "01.json").read_text()) == results["two"]
    assert list(tune.tune(data, tmp_path)) == []  # kept ones are not computed again
    titles, _, first, second = log_table(data, tmp_path).splitlines()
    assert titles == "| variant | mean | " + " | ".join(parts) + " |"
    assert first.startswith("| one | ") and second.startswith("| two | ")
    assert log_table(data, tmp_path / "none") == "No committed runs."


def test_results_that_were_written_under_old_names_are_shown_under_the_present_ones() -> None:
    shown = "\n".join(log_table(data) for data in ("mnist", "cifar10", "defects", "defects-256"))
    assert "network `small`" in shown
    assert "multiples of the mean training error" in shown
    assert "patches of 4 px" in shown
    for old in ("thumbnail", "usual", "squares"):
        assert old not in shown


def test_the_old_command_is_accepted_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def tuned(data: str) -> list[Any]:
        asked.append(data)
        return []

    monkeypatch.setattr(main, "tune", tuned)
    found = CliRunner().invoke(main.app, ["choose", "--data", "mnist"])
    assert found.exit_code == 0
    assert "choose is now called tune; the old name is accepted until memae 0.2.0" in found.output
    assert asked == ["mnist"]
