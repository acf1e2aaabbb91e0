import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from experiments import promise
from experiments.promise import compute_promises, promise_results
from experiments.promise_tables import promise_tables, verdict
from experiments.protocols import promises
from experiments.protocols.promises import SPLITS, Draw, Splits
from experiments.records import CellError
from tests.small_footage import BRIEF


def draw(seed: int) -> Draw:
    """Rows of 40 hosts in halves; a host shifts its rows a little, an anomaly lies far out."""
    generator = np.random.default_rng(seed)
    host = np.repeat(np.arange(40), 10)
    x = generator.normal(size=(400, 3)) + generator.normal(scale=0.2, size=40)[host, None]
    fitted = host < 20
    columns = {f"x{i}": x[fitted, i] for i in range(3)}
    measured = {f"x{i}": x[~fitted, i] for i in range(3)}
    far = {name: values[:50] + 20 for name, values in measured.items()}
    table = pa.table({**columns, "host": [f"h{h}" for h in host[fitted]]})
    return Draw(table, "host", 20, pa.table(measured), host[~fitted], pa.table(far))


TINY = Splits(draw, "tiny", "rows", "host", {"train": {"epochs": 1}, "threshold": {"false_alarm_rate": 0.1}})


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(SPLITS, "tiny", TINY)
    monkeypatch.setattr(promise, "DATA", ("tiny",))
    return "tiny"


def test_a_split_is_one_file_that_says_where_it_comes_from(tiny: str, tmp_path: Path) -> None:
    (path, found), _ = compute_promises(tiny, 2, root=tmp_path)
    assert path == tmp_path / "tiny" / "split-00.json"
    assert json.loads(path.read_text()) == json.loads(json.dumps(found))
    assert {"seed", "commit", "hardware", "command", "settings", "config", "seconds"} <= {*found}
    assert found["command"] == "python -m experiments promise --data tiny"
    assert found["wanted"] == 0.1
    normal, anomalies = found["normal"], found["anomalies"]
    assert (normal["samples"], normal["groups"], found["fit"]["groups"]) == (200, 20, 20)
    assert found["fit"]["samples"] == 200  # each once, also where cross-fitting takes it twice
    assert normal["rate"] == normal["flagged"] / 200
    assert normal["mean_rate_of_groups"] == pytest.approx(normal["rate"])  # groups of one size
    assert 0 <= normal["rate"] < 0.4
    assert anomalies == {"samples": 50, "left_out": 0, "flagged": 50, "recall": 1.0}
    assert {*promise_results(tmp_path)} == {"tiny"}


def test_it_goes_on_where_it_stopped_and_refuses_other_settings(tiny: str, tmp_path: Path) -> None:
    assert len(list(compute_promises(tiny, 1, root=tmp_path))) == 1
    assert [path.stem for path, _ in compute_promises(tiny, 2, root=tmp_path)] == ["split-01"]
    assert not list(compute_promises(tiny, 2, root=tmp_path))
    assert not list(compute_promises(tiny, 5, root=tmp_path, deadline=0))
    with pytest.raises(CellError, match=r"split-00\.json: was made with the settings .*; remove the files"):
        list(compute_promises(tiny, 2, {"train": {"epochs": 2}}, root=tmp_path))


def test_settings_that_are_not_its_own_stand_in_the_command(tiny: str, tmp_path: Path) -> None:
    settings: dict[str, dict[str, Any]] = {"train": {"epochs": 2}, "threshold": {"false_alarm_rate": 0.2}}
    ((_, found),) = compute_promises(tiny, 1, settings, root=tmp_path)
    words = "--set train.epochs=2 --set threshold.false_alarm_rate=0.2"
    assert found["command"] == f"python -m experiments promise --data tiny {words}"
    assert (found["wanted"], found["config"]["train"]["epochs"]) == (0.2, 2)


def test_ped2_fits_on_some_training_videos_and_measures_the_others(
    small_ped2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promise, "FITTED_VIDEOS", 1)
    settings: dict[str, dict[str, Any]] = {}
    for word in BRIEF:
        (section, name), value = word.split("=")[0].split("."), int(word.split("=")[1])
        settings.setdefault(section, {})[name] = value
    ((_, found),) = compute_promises("ped2", 1, settings, root=tmp_path)
    normal, events = found["normal"], found["events"]
    assert (normal["groups"], normal["samples"], found["fit"]["groups"]) == (1, 24, 1)
    assert normal["videos"] in (["01"], ["02"])
    assert normal["hours"] == pytest.approx(2.4 / 3600)
    assert normal["rate"] == normal["flagged"] / 24
    assert (events["clips"], events["test"]["videos"]) == (2, 2)
    assert 0 <= events["clips_found"] <= 2
    table = promise_tables(tmp_path)["promises-events"]
    assert f"{events['clips_found']} of 2" in table


def result(split: int, wanted: float, rate: float, recall: float = 0.5, **normal: Any) -> dict[str, Any]:
    return {
        "split": split,
        "commit": "abc1234",
        "wanted": wanted,
        "fit": {"samples": 100 + split, "groups": 10},
        "normal": {"samples": 50, "groups": 5, "rate": 1.0, "mean_rate_of_groups": rate, **normal},
        "anomalies": {"recall": recall},
    }


def test_the_table_has_mean_and_worst_by_hand(tiny: str, tmp_path: Path) -> None:
    for split, (rate, recall) in enumerate(((0.01, 0.9), (0.02, 0.6), (0.0, 0.75))):
        path = tmp_path / tiny / f"split-{split:02}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(result(split, 0.02, rate, recall)))
    tables = promise_tables(tmp_path)
    cells = [cell.strip() for cell in tables["promises"].splitlines()[2].strip("|").split("|")]
    assert cells[:5] == ["tiny", "host", "3", "100 to 102 in 10 groups", "50 in 5 groups"]
    assert cells[5:] == ["2 %", "1.00 %", "0.50 ± 0.29", "1.00", "yes", "0.750 (0.600)", "abc1234"]
    assert tables["promises-splits"].splitlines()[2] == "| tiny | 1.00, 2.00, 0.00 |"
    assert tables["promises-events"] == "No committed splits."


@pytest.mark.parametrize(
    ("ratios", "said"),
    [
        ([0.4, 0.6], "yes"),
        ([0.0, 3.0, 0.0], "yes"),
        ([0.1, 0.2], "mean below a third"),
        ([1.2, 1.0], "mean above the wanted rate"),
        ([0.0, 3.1, 0.0, 0.0], "a split above three times"),
        ([4.0, 1.0], "mean above the wanted rate, a split above three times"),
    ],
)
def test_when_a_promise_is_kept(ratios: list[float], said: str) -> None:
    assert verdict(np.array(ratios)) == said


def test_no_group_stands_on_both_sides(small_data: Path) -> None:
    drawn = SPLITS["kddcup99-services"].draw(0)
    fitted = set(drawn.fit["service"].to_pylist())
    assert len(fitted) == drawn.fit_groups
    assert not fitted & set(drawn.normal_groups.tolist())
    assert drawn.normal["service"].to_pylist() == drawn.normal_groups.tolist()
    other = SPLITS["kddcup99-services"].draw(1)
    assert set(other.fit["service"].to_pylist()) != fitted
    promises._kdd.cache_clear()


def test_tiles_are_never_divided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMAE_DATA", str(tmp_path))
    folder = tmp_path / "magnetic_tile"
    folder.mkdir()
    lines = [f"{part}/good/{n}.jpg,tile-{n % 9}" for n in range(30) for part in ("train", "test")]
    (folder / "groups.csv").write_text("\n".join(["file,group", *lines, "test/crack/1.jpg,", ""]))
    told, untold = (SPLITS[name].draw(3) for name in ("magnetic-tile", "magnetic-tile-untold"))
    assert (told.fit, told.normal, untold.group) == (untold.fit, untold.normal, None)
    assert (len(told.fit) + len(told.normal), told.fit_groups) == (60, 6)
    assert not set(told.group or ()) & set(told.normal_groups.tolist())
    assert told.anomalies == [folder / "test/crack/1.jpg"]
