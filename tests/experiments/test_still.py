import json
from pathlib import Path

import numpy as np
import pytest

from experiments import still
from experiments.still import measure_still, still_table


@pytest.mark.real
def test_a_scene_is_measured_once_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(still, "NORMAL_S", 8.0)
    monkeypatch.setattr(still, "CLIPS", 1)
    monkeypatch.setattr(still, "KINDS", ("thing left", "nothing"))
    brief = {"train": {"epochs": 2}, "memory": {"warmup_epochs": 1}, "video": {"training_stride": 8}}
    monkeypatch.setattr(still, "SETTINGS", brief)
    (found,) = measure_still("both", tmp_path, scenes=1)
    assert json.loads((tmp_path / "both" / "scene-0.json").read_text())["kinds"] == found["kinds"]
    assert found["kinds"]["thing left"]["auroc"] > 0.8
    assert set(found["kinds"]["nothing"]) == {"flagged", "longest_s"}
    assert not list(measure_still("both", tmp_path, scenes=1))
    assert "| thing left | motion and appearance | 0." in still_table(tmp_path)


@pytest.mark.parametrize(("flags", "longest"), [([], 0), ([0, 0], 0), ([1, 0, 1, 1, 0, 1], 2)])
def test_the_longest_run_is_that_of_flagged_frames(flags: list[int], longest: int) -> None:
    assert still._longest(np.array(flags, dtype=bool)) == longest
