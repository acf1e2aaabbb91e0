import json
from pathlib import Path

import numpy as np
import pytest

from experiments import contamination
from experiments.contamination import contamination_table, measure
from experiments.protocols.contaminated import PROBLEMS, Problem, anomalies_for
from experiments.records import CellError

BRIEF = {"train": {"epochs": 1}, "memory": {"num_items": 8, "warmup_epochs": 0}}


@pytest.mark.parametrize(("share", "normal", "anomalies"), [(0.0, 500, 0), (0.05, 95, 5), (0.01, 990, 10)])
def test_so_many_anomalies_make_the_share(share: float, normal: int, anomalies: int) -> None:
    assert anomalies_for(share, normal) == anomalies


def test_fitted_anomalies_are_never_judged_and_normal_samples_are_the_same_at_each_share(small_data: Path) -> None:
    rows = {}
    for share in (0.0, 0.05):
        with PROBLEMS["mnist"].data("3", share, 0) as data:
            assert len(data.fit) == data.normal + data.anomalies
            assert data.labels.sum() == 90 and len(data.labels) == len(data.test)
            rows[share] = {image.tobytes() for image in data.fit}
            assert not rows[share] & {image.tobytes() for image in data.test}
    assert rows[0.0] < rows[0.05]
    assert len(rows[0.05]) - len(rows[0.0]) == anomalies_for(0.05, len(rows[0.0])) == data.anomalies > 0


def test_attacks_are_shared_out_between_fit_and_test(small_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.protocols.contaminated.MOST_ROWS", 40)
    with PROBLEMS["kddcup99-attacks"].data("all", 0.05, 1) as data:
        assert (data.normal, data.anomalies, data.fit.num_rows) == (40, 2, 42)
        assert (~data.labels).sum() == 20 and data.labels.sum() == 200
        assert data.test.num_rows == 220


def test_stretches_of_videos_that_are_not_judged_lie_among_the_training_videos(
    small_ped2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiments.protocols.contaminated.DONORS", ("02",))
    monkeypatch.setattr("experiments.protocols.contaminated.STRETCH", 5)
    monkeypatch.setattr("experiments.protocols.contaminated.SLOT", 6)
    with PROBLEMS["ped2"].data("all", 0.2, 0) as data:
        assert (data.normal, data.anomalies) == (48, 10)
        assert data.fit.videos == ("01", "02", "stretch-0", "stretch-1")
        assert data.test.videos == ("01",)
        assert np.flatnonzero(data.labels).tolist() == list(range(8, 16))


def test_fits_are_computed_once_judged_at_three_thresholds_and_shown(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = Problem("mnist", PROBLEMS["mnist"].data, ("3",), BRIEF)
    monkeypatch.setitem(PROBLEMS, "mnist", problem)
    monkeypatch.setattr(contamination, "SEEDS", (0,))
    monkeypatch.setattr(contamination, "SHARES", (0.0, 0.05))
    found = dict(measure("mnist", "all", tmp_path)) | dict(measure("mnist", "trimmed", tmp_path))
    assert list(found) == [
        f"mnist, {how}, seed 0: 3 at {share}" for how, share in (("all", 0), ("all", 0.05), ("trimmed", 0.05))
    ]
    for metrics in found.values():
        assert metrics["flagged_all"] <= metrics["flagged_overtrimmed"]
        assert metrics["recall_all"] <= metrics["recall_overtrimmed"]
    assert list(measure("mnist", "all", tmp_path)) == []
    part = json.loads((tmp_path / "mnist" / "trimmed" / "seed-0.json").read_text())["parts"]["3 at 0.05"]
    assert part["samples"]["anomalies"] == 5 and part["commit"] and part["hardware"]
    lines = contamination_table("mnist", tmp_path).splitlines()
    assert [line.split(" | ")[:3] for line in lines[2:]] == [
        ["| 0%", "all samples", "all scores"],
        ["| 0%", "all samples", "5 % left out"],
        ["| 5%", "all samples", "all scores"],
        ["| 5%", "all samples", "the true share left out"],
        ["| 5%", "the true share left out", "all scores"],
        ["| 5%", "the true share left out", "the true share left out"],
    ]
    assert contamination_table("ped2", tmp_path) == "No committed runs."
    monkeypatch.setitem(PROBLEMS, "mnist", Problem("mnist", problem.data, ("3",), {}))
    with pytest.raises(CellError, match="other settings"):
        list(measure("mnist", "all", tmp_path))
