from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.protocols import kddcup
from experiments.protocols.kddcup import attacks, features, judge, judge_attacks, paper, tuning
from experiments.protocols.metrics import above, top
from experiments.protocols.split import Split
from memae import datasets


def rows_of(samples: np.ndarray) -> set[bytes]:
    return {row.tobytes() for row in samples.reshape(len(samples), -1)}


@pytest.fixture
def with_duplicates(monkeypatch: pytest.MonkeyPatch, fresh: None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """40 kinds of rows, some of them often; the first 30 kinds are attacks, and kind 29 is normal traffic too."""
    kinds = np.random.default_rng(0).integers(0, 40, 400)
    rows = np.repeat(kinds[:, None].astype(np.float32), 120, axis=1)
    normal = kinds >= 30
    normal[np.flatnonzero(kinds == 29)[::2]] = True
    kddcup._kinds.cache_clear()
    monkeypatch.setattr(kddcup, "features", lambda: (rows, normal))
    yield rows, normal
    kddcup._kinds.cache_clear()


def test_rows_become_120_numbers(small_data: Path) -> None:
    found, normal = features()
    rows, labels = datasets.kddcup99()
    assert found.shape == (300, 120)
    assert found.dtype == np.float32
    assert np.array_equal(normal, labels == "normal")
    assert np.array_equal(found[:, 0], rows["duration"].to_numpy().astype(np.float32))
    # protocol_type is the second column: one of its three features is 1
    assert np.array_equal(found[:, 1:4].argmax(axis=1), [row % 3 for row in range(300)])
    assert (found[:, 1:4].sum(axis=1) == 1).all()
    one_hot = found[:, [np.isin(column, (0, 1)).all() for column in found.T]]
    assert one_hot.shape[1] == 86
    assert (one_hot.sum(axis=1) == 6).all()  # six categories; the seventh has one value and is left out


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("rule", "anomaly_is_normal_traffic"), [(paper, True), (attacks, False)])
def test_one_half_is_fitted_without_its_anomalies_and_the_other_tested(
    small_data: Path, rule: Callable[..., Any], anomaly_is_normal_traffic: bool, seed: int
) -> None:
    split = rule(seed)
    found, normal = features()
    anomalous = normal if anomaly_is_normal_traffic else ~normal
    usual, test = rows_of(found[~anomalous]), rows_of(split.test)
    assert len(split.test) == 150
    assert rows_of(split.fit) == usual - test
    assert rows_of(split.test[split.labels]) == rows_of(found[anomalous]) & test
    protocol = "paper" if rule is paper else "full"
    assert {*split.judged} == {protocol, "distinct", "training threshold"}
    assert np.array_equal(split.judged[protocol], np.arange(150))


def test_both_ways_round_halve_alike_and_halves_follow_the_seed(small_data: Path) -> None:
    assert np.array_equal(paper(0).test, attacks(0).test)
    assert np.array_equal(paper(0).labels, ~attacks(0).labels)
    assert rows_of(paper(0).test) != rows_of(paper(1).test)


@pytest.mark.parametrize("rule", [paper, attacks])
def test_distinct_rows_equal_no_training_row_and_stand_there_once(
    with_duplicates: tuple[np.ndarray, np.ndarray], rule: Callable[..., Any]
) -> None:
    split = rule(3)
    rows = split.judged["distinct"]
    taken, trained = split.test[rows, 0], set(split.fit[:, 0])
    assert len(set(taken)) == len(taken)
    assert not set(taken) & trained
    assert set(taken) == set(split.test[:, 0]) - trained
    assert 0 < len(taken) < len(split.test) / 4
    assert all(row == np.flatnonzero(split.test[:, 0] == split.test[row, 0])[0] for row in rows)
    assert np.array_equal(rows, np.sort(rows))


def test_the_paper_flags_a_fifth_and_the_variants_what_they_say() -> None:
    rng = np.random.default_rng(0)
    labels = rng.random(200) < 0.3
    scores = rng.random(200) + 0.5 * labels
    fitted = rng.random(1000)
    distinct = np.arange(0, 200, 3)
    split = Split(np.zeros((1000, 2)), np.zeros((200, 2)), labels, {"distinct": distinct})
    found = judge(split, scores, lambda: fitted)
    assert {*found} == {"paper", "distinct", "training threshold"}
    assert found["paper"] == top(labels, scores, 40)
    assert found["distinct"] == top(labels[distinct], scores[distinct], int(labels[distinct].sum()))
    assert found["distinct"]["precision"] == found["distinct"]["recall"]
    assert found["training threshold"] == above(labels, scores, float(np.quantile(fitted, 0.95)))


def test_with_attacks_as_the_anomaly_so_many_are_flagged_as_there_are() -> None:
    labels = np.array([1, 1, 1, 0, 0], dtype=bool)
    scores = np.array([5.0, 4, 1, 3, 2])
    split = Split(np.zeros((4, 2)), np.zeros((5, 2)), labels, {"distinct": np.arange(5)})
    found = judge_attacks(split, scores, lambda: np.array([0.0, 1, 2, 3.5]))
    assert found["full"]["precision"] == found["full"]["recall"] == 2 / 3
    assert found["distinct"] == found["full"]
    # the threshold is .95 of the way: 2 + .85 * 1.5
    assert found["training threshold"] == above(labels, scores, 3.275)
    assert found["training threshold"]["false_alarm_rate"] == 0


def test_the_training_threshold_takes_nothing_from_the_test() -> None:
    labels = np.arange(100) < 50
    split = Split(np.zeros((10, 2)), np.zeros((100, 2)), labels, {"distinct": np.arange(100)})
    fitted = np.linspace(0, 1, 10)
    low, high = (judge(split, labels + shift, lambda: fitted)["training threshold"] for shift in (0.5, 2.0))
    assert low["false_alarm_rate"] == 0
    assert high["false_alarm_rate"] == 1


def test_settings_are_chosen_on_rows_that_the_test_of_the_seed_does_not_hold(small_data: Path) -> None:
    chosen, tested = tuning(0), rows_of(paper(0).test)
    assert not rows_of(chosen.fit) & rows_of(chosen.test)
    assert not (rows_of(chosen.fit) | rows_of(chosen.test)) & tested
    assert len(chosen.test) == 75


@pytest.mark.real
def test_the_real_kddcup99_has_the_sizes_of_the_paper(fresh: Any) -> None:
    found, normal = features()
    assert found.shape == (494_021, 120)
    assert normal.sum() == 97_278
    split = paper(0)
    assert len(split.test) == 494_021 // 2
    assert len(split.fit) + (~split.labels).sum() == (~normal).sum()
    assert split.labels.mean() == pytest.approx(0.197, abs=0.005)  # so a fifth flagged is about right
    assert len(np.unique(kddcup._kinds())) == 145_584
    assert len(tuning(0).test) == pytest.approx(494_021 / 4, abs=2)
    assert kddcup.FLAGGED == 0.2
