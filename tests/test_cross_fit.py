"""Groups, and a threshold from folds: of no group a sample is on both sides, and an interruption changes nothing."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import memae.fit
from memae import Detector
from memae.errors import ConfigError, DataError
from memae.modality import Prepared, prepare, preset_config
from memae.modality.values import FitOptions
from memae.progress import EpochRecord, Event, Plan, Stage
from memae.progress.work import Work
from tests.listening import Listener
from tests.small_detectors import BRIEF, ONES, equal, weights

GROUPS = 30
FIVE = np.repeat(np.arange(GROUPS), 5)


def grouped_rows(groups: int = GROUPS, seed: int = 0, effect: float = 2.0) -> pd.DataFrame:
    """Five rows of each group; what a group adds to its rows is `effect` times the noise of a row."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(groups), 5)
    values = effect * rng.standard_normal((groups, 6))[group] + rng.standard_normal((len(group), 6))
    return pd.DataFrame(values, columns=list("abcdef")).assign(host=[f"host {seed}-{number}" for number in group])


ROWS = grouped_rows()


def fitted(x: Any, group: Any, settings: Any = BRIEF, **given: Any) -> Detector:
    return Detector(settings=settings).fit(x, group=group, **given)


@pytest.mark.parametrize(("x", "group"), [(ROWS, "host"), (ONES[:150], FIVE)], ids=["rows", "images"])
def test_the_threshold_comes_from_folds_where_groups_are_few(x: Any, group: Any) -> None:
    detector = fitted(x, group)
    assert detector.facts["folds"] == 2
    assert detector.facts["groups"]["all"] == detector.facts["groups"]["calibration"] == GROUPS
    assert detector.facts["samples"]["calibration"] == 150
    assert detector.threshold.group_count == GROUPS
    groups = detector.threshold.groups
    assert groups is not None and np.bincount(groups).tolist() == [5] * GROUPS
    assert any("two folds" in note or "2 folds" in note for note in detector.facts["notes"])


def test_no_fold_sees_what_it_is_judged_by(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row is recognised by its own number: neither training, nor scale, nor categories know held-out groups."""
    rows = ROWS.assign(a=np.arange(150.0), kind=ROWS["host"])
    config = preset_config("table", "table")
    found = prepare(memae.modality.open_source(rows), config, 0, FitOptions(group="host"))
    held_out = [_numbers(fold(), "calibration") for fold in found.folds]
    assert sorted(number for numbers in held_out for number in numbers) == list(range(150))
    for fold, numbers in zip(found.folds, held_out, strict=True):
        part = fold()
        seen = _numbers(part, "training") | _numbers(part, "validation")
        assert not seen & numbers
        assert not {number // 5 for number in seen} & {number // 5 for number in numbers}
        known = next(column for column in part.preprocess.columns if column.name == "kind")
        assert set(known.categories) == {f"host 0-{number // 5}" for number in _numbers(part, "training")}


def _numbers(prepared: Prepared, part: str) -> set[int]:
    x = getattr(prepared, part)
    column = prepared.preprocess.columns[0]
    return set() if x is None else set(np.rint(column.own_units(x[:, 0].double().numpy())).astype(int).tolist())


def test_the_groups_of_the_scores_are_those_of_the_samples() -> None:
    """The rows of one host score far higher than all others, and the threshold knows that they are one group."""
    rows = ROWS.copy()
    rows.loc[rows["host"] == "host 0-7", list("abcdef")] += 100
    threshold = fitted(rows, "host").threshold
    assert len(set(threshold.groups[-5:].tolist())) == 1


def test_a_group_is_no_feature_and_need_not_be_there_when_scoring() -> None:
    detector = fitted(ROWS, "host")
    assert [column.name for column in detector.preprocess.columns] == list("abcdef")
    np.testing.assert_array_equal(detector.score(ROWS).values, detector.score(ROWS.drop(columns="host")).values)


@pytest.mark.parametrize("suffix", ["csv", "parquet", "arrow"])
@pytest.mark.parametrize("stream", [True, False])
def test_files_give_the_same_model_as_the_frame(suffix: str, stream: bool, tmp_path: Path) -> None:
    file = tmp_path / f"rows.{suffix}"
    write: Any = {"csv": ROWS.to_csv, "parquet": ROWS.to_parquet, "arrow": ROWS.to_feather}[suffix]
    write(file, **({"index": False} if suffix == "csv" else {}))
    whole, read = fitted(ROWS, "host"), fitted(file, "host", stream=stream)
    assert equal(weights(whole), weights(read))
    np.testing.assert_array_equal(whole.threshold.calibration, read.threshold.calibration)
    np.testing.assert_array_equal(whole.threshold.groups, read.threshold.groups)


def test_bad_rows_are_left_out_with_their_groups(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    lines = ROWS.to_csv(index=False).splitlines()
    lines[8:8] = ["1,2"]  # a row of a wrong length
    file.write_text("\n".join(lines))
    read = fitted(file, "host", skip_bad=True)
    found, expected = (pd.factorize(one.threshold.groups)[0] for one in (read, fitted(ROWS, "host")))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("x", "group", "error", "message"),
    [
        (ROWS, "hosts", DataError, "no column 'hosts'; it has 'a'"),
        (ROWS.assign(host="one"), "host", DataError, "all samples are of one group, and a group is never divided"),
        (
            ROWS.replace("host 0-3", None),
            "host",
            DataError,
            "the group column 'host' has no value in 5 rows, the first",
        ),
        (ROWS.assign(host=np.where(FIVE == 2, np.nan, FIVE)), "host", DataError, "has no value in 5 rows"),
        (ONES, "folder", DataError, "samples in memory have none; give one value for each sample"),
        (ONES, [1, 2], DataError, "`group` holds 2 values for"),
        (ROWS, [1, 2], DataError, "`group` holds 2 values for 150 samples"),
    ],
)
def test_groups_that_do_not_fit_are_errors(x: Any, group: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        fitted(x, group)


def test_the_group_is_no_category() -> None:
    with pytest.raises(ConfigError, match="column 'host' is the group, and so no feature; name it once"):
        Detector(settings=BRIEF).fit(ROWS, group="host", categorical=["host"])


def test_one_fold_is_none() -> None:
    with pytest.raises(
        ConfigError, match="folds = 1 leaves nothing to train on; give 0 for a held-out part, or 2"
    ):
        Detector(settings={"threshold": {"folds": 1}})
    with pytest.raises(ConfigError, match="folds = 2 sets a threshold, and calibration_share = 0 asks for none"):
        Detector(settings={"threshold": {"folds": 2, "calibration_share": 0}})


def test_samples_without_groups_are_folded_where_that_is_asked_for() -> None:
    settings = BRIEF | {"threshold": {"folds": 3, "false_alarm_rate": 0.01}}
    detector = Detector(settings=settings).fit(ROWS.drop(columns="host"))
    assert detector.facts["folds"] == 3
    assert len(detector.threshold.calibration) == 150
    assert detector.threshold.groups is None


class StopAt(Listener):
    """Presses Ctrl-C in a step of an epoch of the n-th training."""

    def __init__(self, training: int, epoch: int) -> None:
        self._left, self._epoch, self._now = training, epoch, 0

    def begin(self, epochs: int, samples: int, done: int) -> None:
        self._left -= 1
        self._now = 1 + round(done / samples)

    def step(self, samples: int, loss: object) -> None:
        if self._left == 0 and self._now == self._epoch:
            raise KeyboardInterrupt

    def epoch(self, record: EpochRecord) -> None:
        self._now = record.epoch + 1


class Steps(Listener):
    """Counts the steps of each training."""

    def __init__(self) -> None:
        self.counts = list[int]()

    def begin(self, epochs: int, samples: int, done: int) -> None:
        self.counts.append(0)

    def step(self, samples: int, loss: object) -> None:
        self.counts[-1] += 1


def test_a_fold_takes_the_steps_of_the_last_training_and_not_its_epochs() -> None:
    seen = Steps()
    detector = fitted(ONES[:150], FIVE, BRIEF | {"train": {"epochs": 4, "batch_size": 16}}, progress=seen)
    assert seen.counts == [8 * 5, 8 * 5, 4 * 9]  # whole epochs, and no step less
    assert detector.config.train.epochs == 4


@pytest.mark.parametrize(("x", "group"), [(ROWS, "host"), (ONES[:150], FIVE)], ids=["rows", "images"])
@pytest.mark.parametrize("training", [1, 2, 3], ids=["fold 1", "fold 2", "all"])
def test_an_interruption_changes_nothing(x: Any, group: Any, training: int, tmp_path: Path) -> None:
    whole = fitted(x, group)
    stopped = fitted(x, group, checkpoint=tmp_path / "state", progress=StopAt(training, 3))
    assert stopped.history.interrupted
    assert stopped.facts["interrupted"]
    assert stopped.facts.get("interrupted_in") == {1: "fold 1 of 2", 2: "fold 2 of 2", 3: None}[training]
    assert ("folds" in stopped.facts) == (training == 3)
    assert np.isfinite(stopped.detect(x).scores).all()
    resumed = fitted(x, group, checkpoint=tmp_path / "state", resume=True)
    assert equal(weights(resumed), weights(whole))
    np.testing.assert_array_equal(resumed.threshold.calibration, whole.threshold.calibration)
    np.testing.assert_array_equal(resumed.threshold.groups, whole.threshold.groups)
    resumed.save(tmp_path / "model")
    assert not any((tmp_path / "state").iterdir())


@pytest.mark.parametrize(("training", "place"), [(2, "fold 2 of 2"), (3, "the last training")])
def test_a_stop_before_the_first_epoch_keeps_the_model_of_the_first_fold(
    training: int, place: str, tmp_path: Path
) -> None:
    stopped = fitted(ROWS, "host", checkpoint=tmp_path / "state", progress=StopAt(training, 1))
    assert stopped.history is not None and stopped.history.interrupted
    assert stopped.facts["interrupted_in"] == place
    assert stopped.facts["groups"]["training"] == stopped.threshold.group_count == GROUPS / 2
    resumed = fitted(ROWS, "host", checkpoint=tmp_path / "state", resume=True)
    assert equal(weights(resumed), weights(fitted(ROWS, "host")))


def test_a_stop_before_the_first_epoch_of_all_passes_through() -> None:
    with pytest.raises(KeyboardInterrupt):
        fitted(ROWS, "host", progress=StopAt(1, 1))


def test_without_resume_the_folds_begin_anew(tmp_path: Path) -> None:
    fitted(ROWS, "host", checkpoint=tmp_path / "state", progress=StopAt(3, 2))
    other = fitted(grouped_rows(seed=1), "host", checkpoint=tmp_path / "state")
    assert equal(weights(other), weights(fitted(grouped_rows(seed=1), "host")))


def test_nothing_to_resume_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no training to resume"):
        fitted(ROWS, "host", checkpoint=tmp_path / "state", resume=True)


def test_stages_name_their_fold_and_the_time_left_counts_all_of_them() -> None:
    work, names, plans, lefts = Work(), list[str](), list[Plan](), list[float | None]()

    def follow(event: Event) -> None:
        pace = work.follow(event)
        if isinstance(event, Plan):
            plans.append(event)
        elif isinstance(event, Stage) and pace:
            names.append(pace.name)
        elif isinstance(event, EpochRecord):
            lefts.append(work.job_left_s)

    fitted(ROWS, "host", progress=follow)
    planned = [stage.name for stage in plans[-1].stages]
    assert planned[:2] == ["fold 1 of 2, training", "fold 1 of 2, counting the use of items"]
    assert planned[-2:] == ["training", "counting the use of items"]
    assert [name for name in names if name in planned] == planned
    assert "fold 2 of 2, encoding" in names
    seconds = {stage.name: stage.seconds for stage in plans[-1].stages}
    assert seconds["fold 2 of 2, training"] == pytest.approx(seconds["training"])
    assert all(left is not None for left in lefts)


def test_groups_are_saved_with_the_model(tmp_path: Path) -> None:
    detector = fitted(ROWS, "host")
    detector.save(tmp_path / "model")
    loaded = Detector.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.threshold.groups, detector.threshold.groups)
    assert loaded.threshold.value == detector.threshold.value
    assert loaded.threshold.caveat == detector.threshold.caveat
    assert loaded.facts["groups"] == detector.facts["groups"]


def test_maps_of_images_are_scaled_by_groups_too() -> None:
    settings = BRIEF | {"threshold": {"false_alarm_rate": 0.2}, "image": {"pool": "max"}}
    detector = fitted(ONES[:150], FIVE, settings)
    assert detector.map_threshold == detector.threshold.value


def test_with_groups_the_promise_holds_for_new_groups_and_without_it_does_not() -> None:
    """The mean over several sets of hosts; a new host differs from the known ones as they differ from each other."""
    settings = {"train": {"epochs": 10}, "threshold": {"false_alarm_rate": 0.1}}
    with_groups, without = [], []
    for seed in range(6):
        rows, new = grouped_rows(60, seed, effect=4.0), grouped_rows(200, 100 + seed, effect=4.0)
        grouped, plain = (Detector(seed=seed, settings=settings) for _ in range(2))
        grouped.fit(rows, group="host")
        plain.fit(rows.drop(columns="host"))
        with_groups.append(grouped.detect(new).is_anomaly.mean())
        without.append(plain.detect(new.drop(columns="host")).is_anomaly.mean())
    assert 0.02 < np.mean(with_groups) < 0.1
    assert np.mean(without) > 0.2
