"""Moves of the threshold of a finished model: what they promise, that they can be undone, and that they are stored."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from memae import Detector, MemaeError
from memae.errors import ArtifactError, ConfigError
from memae.threshold import Threshold
from memae.threshold_moves import LOG
from tests.test_artifact import rewrite

BRIEF = {"train": {"epochs": 2}}


@pytest.fixture
def detector() -> Detector:
    rows = np.random.default_rng(0).normal(size=(600, 3))
    return Detector(seed=0, settings=BRIEF, device="cpu", engine="torch").fit(rows)


def test_detect_decides_at_a_rate_for_one_call(detector: Detector) -> None:
    rows = np.random.default_rng(1).normal(size=(400, 3))
    before = detector.detect(rows)
    found = detector.detect(rows, explained="anomalies", false_alarm_rate=0.3)
    moved = detector.threshold.moved(false_alarm_rate=0.3)
    assert found.threshold == moved.value < before.threshold
    assert np.array_equal(found.is_anomaly, moved.flags(before.scores))
    assert len(found.explanations) == found.is_anomaly.sum() > before.is_anomaly.sum()
    assert np.array_equal(found.p_values, before.p_values)
    assert np.array_equal(detector.detect(rows).is_anomaly, before.is_anomaly)
    assert LOG not in detector.facts
    with pytest.raises(ConfigError, match="takes at least 9,999 held-out normal samples"):
        detector.detect(rows, false_alarm_rate=0.0001)


class TestMoved:
    def test_a_rate_gives_what_a_fit_with_it_gives(self) -> None:
        scores = np.random.default_rng(0).gamma(2, size=500)
        groups = np.arange(500) // 2
        for group in (None, groups):
            start = Threshold.fit(scores, 0.1, group, 0.75)
            assert start.moved(false_alarm_rate=0.02).value == Threshold.fit(scores, 0.02, group, 0.75).value
            assert start.moved(false_alarm_rate=0.02).moved(false_alarm_rate=0.1).value == start.value

    def test_a_score_set_by_hand_flags_what_lies_above_it_and_tells_the_rate(self) -> None:
        moved = Threshold.fit(np.arange(1.0, 100.0), 0.1).moved(at=90.0)
        assert moved.value == 90
        assert moved.flags(np.array([89.0, 90, 91])).tolist() == [False, False, True]
        assert moved.false_alarm_rate == pytest.approx(10 / 100)  # 9 of 99 are above it
        assert moved.moved(at=1000.0).false_alarm_rate == pytest.approx(1 / 100)
        assert moved.moved(at=-1.0).false_alarm_rate == pytest.approx(
            99 / 100
        )  # all of them, and a rate is below 1
        assert moved.facts["set_by_hand"]
        assert moved.caveat is None

    @pytest.mark.parametrize(
        ("move", "message"),
        [
            ({}, "give one of the two"),
            ({"false_alarm_rate": 0.1, "at": 1.0}, "give one of the two"),
            ({"at": float("nan")}, "give a finite score"),
            ({"false_alarm_rate": 1.5}, "give one between 0 and 1"),
            ({"false_alarm_rate": 0.001}, "takes at least 999 held-out normal samples, and there are 99"),
        ],
    )
    def test_what_cannot_be_is_refused(self, move: dict[str, float], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            Threshold.fit(np.arange(1.0, 100.0), 0.1).moved(**move)


class TestDetector:
    def test_verdicts_follow_and_scores_stay(self, detector: Detector, tmp_path: Path) -> None:
        rows = np.random.default_rng(1).normal(size=(500, 3))
        before = detector.detect(rows)
        moved = detector.move_threshold(false_alarm_rate=0.2)
        assert moved.value < detector.undo_threshold().value
        detector.move_threshold(at=float(np.median(before.scores)))
        detector.save(tmp_path / "m")
        after = Detector.load(tmp_path / "m", device="cpu").detect(rows)
        assert np.allclose(after.scores, before.scores)
        assert after.is_anomaly.mean() == pytest.approx(0.5, abs=0.01)
        assert before.is_anomaly.mean() < 0.1

    def test_moves_are_undone_one_by_one_and_the_log_keeps_them(self, detector: Detector, tmp_path: Path) -> None:
        values = [detector.threshold.value]
        for rate in (0.2, 0.1):
            values.append(detector.move_threshold(false_alarm_rate=rate).value)
        values.append(detector.move_threshold(at=3.0).value)
        detector.save(tmp_path / "m")
        again = Detector.load(tmp_path / "m", device="cpu")
        assert again.threshold.value == values.pop()
        while values:
            assert again.undo_threshold().value == values.pop()
        with pytest.raises(ConfigError, match="no move to undo"):
            again.undo_threshold()
        log = again.facts[LOG]
        assert [move["after"]["at"] for move in log] == [None, None, 3.0]
        assert all(move["undone"] and move["when"].startswith("20") for move in log)

    def test_a_model_without_a_threshold_has_none_to_move(self) -> None:
        settings = {**BRIEF, "threshold": {"calibration_share": 0.0}}
        rows = np.random.default_rng(0).normal(size=(60, 3))
        with pytest.raises(MemaeError, match="has no threshold"):
            Detector(seed=0, settings=settings).fit(rows).move_threshold(at=1.0)

    @pytest.mark.parametrize("log", [3, [{}], [{"when": 1}], [{"when": "x", "before": {}, "after": {}}]])
    def test_a_log_that_is_none_is_refused_when_it_is_read(
        self, detector: Detector, tmp_path: Path, log: object
    ) -> None:
        detector.save(tmp_path / "m")
        rewrite(tmp_path / "m", lambda settings: settings["facts"].update({LOG: log}))
        with pytest.raises(ArtifactError, match="do not fit together"):
            Detector.load(tmp_path / "m")
        assert json.loads((tmp_path / "m" / "config.json").read_text())["facts"][LOG] == log
