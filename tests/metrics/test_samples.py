import json
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score, roc_auc_score

from memae.errors import ConfigError, DataError
from memae.metrics import Estimate, Evaluation, Labels, SampleMeter, anomaly_labels, auroc, evaluate, read_labels
from memae.types import Skipped


def drawn(samples: int = 300, seed: int = 0, decimals: int = 8) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = generator.random(samples) < 0.3
    return labels, np.round(generator.normal(size=samples) + labels, decimals)


def figures(evaluation: Evaluation) -> list[Estimate]:
    return [
        getattr(evaluation, name) for name in ("auroc", "aupr", "precision", "recall", "f1", "false_alarm_rate")
    ]


@pytest.mark.parametrize("decimals", [8, 0], ids=["no ties", "many ties"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_figures_are_those_of_scikit_learn(decimals: int, seed: int) -> None:
    labels, scores = drawn(seed=seed, decimals=decimals)
    flags = scores > 1
    found = evaluate(labels, scores, flags, wanted_false_alarm_rate=0.1)
    assert found.auroc.value == pytest.approx(roc_auc_score(labels, scores))
    assert found.auroc.value == pytest.approx(auroc(labels, scores))
    assert found.aupr.value == pytest.approx(average_precision_score(labels, scores))
    assert found.precision.value == pytest.approx(precision_score(labels, flags))
    assert found.recall.value == pytest.approx(recall_score(labels, flags))
    assert found.f1.value == pytest.approx(f1_score(labels, flags))
    assert found.false_alarm_rate.value == pytest.approx(flags[~labels].mean())
    assert (found.samples, found.anomalies, found.wanted_false_alarm_rate) == (300, labels.sum(), 0.1)


def test_samples_given_twice_count_twice() -> None:
    labels, scores = drawn(60, decimals=1)
    again = np.random.default_rng(5).integers(60, size=60)
    repeated = evaluate(labels[again], scores[again], scores[again] > 1, wanted_false_alarm_rate=0.1)
    assert repeated.auroc.value == pytest.approx(roc_auc_score(labels[again], scores[again]))
    weights = np.bincount(again, minlength=60)
    assert repeated.auroc.value == pytest.approx(roc_auc_score(labels, scores, sample_weight=weights))
    assert repeated.aupr.value == pytest.approx(average_precision_score(labels, scores, sample_weight=weights))


def test_a_group_counts_as_one_and_comes_whole() -> None:
    """Each sample three times, in one group: the figures and the intervals of the samples themselves."""
    labels, scores = drawn(80, decimals=1)
    kinds = np.where(labels, np.where(scores > 0.5, "a", "b"), "good")
    alone = evaluate(labels, scores, scores > 1, wanted_false_alarm_rate=0.1, kinds=kinds)
    thrice = [np.tile(each, 3) for each in (labels, scores, scores > 1)]
    groups = np.tile(np.arange(80), 3)
    grouped = evaluate(*thrice, wanted_false_alarm_rate=0.1, groups=groups, kinds=np.tile(kinds, 3))
    assert (alone.groups, grouped.groups, grouped.samples) == (None, 80, 240)
    for name in ("auroc", "recall", "false_alarm_rate"):
        one, other = getattr(alone, name), getattr(grouped, name)
        assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high))
        assert one.groups == other.groups
    assert [kind.samples for kind in grouped.kinds] == [3 * kind.samples for kind in alone.kinds]
    assert [kind.groups for kind in grouped.kinds] == [kind.samples for kind in alone.kinds]
    for kind, same in zip(alone.kinds, grouped.kinds, strict=True):
        assert (kind.auroc.low, kind.recall.high) == pytest.approx((same.auroc.low, same.recall.high))
    assert grouped.table().columns[2] == "95 % over 80 groups"
    spread = evaluate(*thrice, wanted_false_alarm_rate=0.1)
    assert spread.auroc.high - spread.auroc.low < grouped.auroc.high - grouped.auroc.low


def test_fewer_than_five_groups_have_no_interval() -> None:
    labels, scores = np.arange(40) >= 20, np.arange(40.0)
    found = evaluate(labels, scores, scores > 30, wanted_false_alarm_rate=0.1, groups=np.arange(40) // 5)
    assert (found.groups, found.recall.groups, found.recall.value) == (8, 4, 9 / 20)
    assert np.isnan(found.recall.low)
    assert found.table().rows[3] == ("recall at that threshold", "0.4500", "none: too few")


def test_perfect_scores_have_perfect_figures() -> None:
    labels = np.arange(50) >= 40
    found = evaluate(labels, np.arange(50.0), labels, wanted_false_alarm_rate=0.1)
    for figure, best in zip(figures(found), (1, 1, 1, 1, 1, 0), strict=True):
        assert (figure.value, figure.low, figure.high) == pytest.approx((best, best, best))


def test_scores_of_chance_lie_around_one_half_and_upside_down_scores_below() -> None:
    labels, _ = drawn(1000)
    chance = evaluate(labels, np.random.default_rng(1).random(1000), labels, wanted_false_alarm_rate=0.1)
    assert chance.auroc.low < 0.5 < chance.auroc.high
    assert chance.auroc.high - chance.auroc.low < 0.12
    assert chance.aupr.low < labels.mean() < chance.aupr.high
    assert evaluate(labels, -labels.astype(float), labels, wanted_false_alarm_rate=0.1).auroc.value == 0


def test_equal_scores_rank_nothing() -> None:
    labels, _ = drawn(100)
    found = evaluate(labels, np.zeros(100), np.zeros(100, bool), wanted_false_alarm_rate=0.1)
    assert found.auroc.value == 0.5
    assert found.aupr.value == pytest.approx(labels.mean())
    assert (found.precision.value, found.recall.value, found.f1.value) == (0, 0, 0)


@pytest.mark.parametrize("samples", [20, 40, 500])
def test_intervals_hold_the_value_and_narrow_with_more_samples(samples: int) -> None:
    labels, scores = drawn(samples, seed=3)
    found = evaluate(labels, scores, scores > 1, wanted_false_alarm_rate=0.1)
    for figure in figures(found):
        assert 0 <= figure.low <= figure.value <= figure.high <= 1
    wide = evaluate(labels[:20], scores[:20], scores[:20] > 1, wanted_false_alarm_rate=0.1).auroc
    assert found.auroc.high - found.auroc.low <= wide.high - wide.low


def test_an_interval_holds_the_true_auroc_about_as_often_as_it_says() -> None:
    truth = 0.7602  # of normal scores one standard deviation apart: Phi(1 / sqrt 2)
    inside = 0
    for seed in range(25):
        labels, scores = drawn(150, seed=100 + seed)
        found = evaluate(labels, scores, labels, wanted_false_alarm_rate=0.1).auroc
        inside += found.low <= truth <= found.high
    assert inside >= 20  # 23.75 are expected


def test_the_seed_draws_the_intervals() -> None:
    labels, scores = drawn()
    first, same, other = (
        evaluate(labels, scores, scores > 1, wanted_false_alarm_rate=0.1, seed=seed) for seed in (0, 0, 1)
    )
    assert first == same
    assert first.auroc.value == other.auroc.value
    assert first.auroc.low != other.auroc.low


def test_labels_of_0_and_1_are_taken_like_truth_values() -> None:
    labels, scores = drawn()
    plain = evaluate(labels, scores, scores > 1, wanted_false_alarm_rate=0.1)
    numbers = evaluate(
        labels.astype(int).tolist(), scores.tolist(), (scores > 1).astype(int), wanted_false_alarm_rate=0.1
    )
    assert plain == numbers


def test_labels_that_cannot_be_held_against_scores_are_refused() -> None:
    labels, scores = drawn()
    with pytest.raises(DataError, match=r"299 labels, 300 scores and 300 flags .* give one of each a sample"):
        evaluate(labels[1:], scores, scores > 1, wanted_false_alarm_rate=0.1)
    for name in ("groups", "kinds"):
        given: Any = {name: np.zeros(3)}
        with pytest.raises(DataError, match=f"{name}: 3 values for 300 samples; give one a sample"):
            evaluate(labels, scores, scores > 1, wanted_false_alarm_rate=0.1, **given)
    for same in (np.zeros(300, bool), np.ones(300, bool)):
        with pytest.raises(
            DataError, match="labels: all the same; an evaluation needs normal samples and anomalies"
        ):
            evaluate(same, scores, scores > 1, wanted_false_alarm_rate=0.1)


@pytest.mark.parametrize(
    ("labels", "normal", "anomalous"),
    [
        (["good", "crack", "good"], ["good"], [False, True, False]),
        (["1", "1.0", "01", "2", "1e0"], ["1"], [False, False, False, True, False]),
        (["1.0", "2.0"], ["1"], [False, True]),
        (["1000001", "1000002"], ["1000001"], [False, True]),
        (["0.1", "0.10000001"], ["0.1"], [False, True]),
        (["3", "4", "5"], ["3", "5"], [False, True, False]),
        (["true", "false"], ["false"], [True, False]),
        (["nan", "inf", "1"], ["1"], [True, True, False]),
    ],
)
def test_which_labels_mean_anomaly(labels: list[str], normal: list[str], anomalous: list[bool]) -> None:
    assert anomaly_labels(np.array(labels), normal, "t.csv").tolist() == anomalous


def test_a_normal_value_that_never_occurs_is_refused_with_those_that_do() -> None:
    with pytest.raises(DataError, match=r"t\.csv: no sample is labelled 'ok'; the labels are bad, good"):
        anomaly_labels(np.array(["good", "bad", "good"]), ["ok"], "t.csv")
    with pytest.raises(DataError, match=r"t\.csv: no sample is labelled '99'; the labels are 0, 1, .*, \.\.\."):
        anomaly_labels(np.arange(50).astype(str), ["99"], "t.csv")


def test_labels_that_are_all_normal_are_refused() -> None:
    with pytest.raises(DataError, match=r"t\.csv: every sample is labelled normal; an evaluation needs anomalies"):
        anomaly_labels(np.array(["good", "good"]), ["good"], "t.csv")


class Column:
    """A source with one column of labels."""

    origin = "t.csv"

    def __init__(self, *values: str) -> None:
        self.values = np.array(values)

    def labels(self, name: str) -> np.ndarray:
        assert name == "y"
        return self.values


def test_missing_labels_are_an_error_or_unknown() -> None:
    column: Any = Column("good", "", "bad", "")
    with pytest.raises(
        DataError, match=r"t\.csv: no label in 'y' at row 1 \(2 such in all\); fill them, or leave"
    ):
        read_labels(column, "y", ["good"])
    labels = read_labels(column, "y", ["good"], skip_bad=True)
    assert labels.known.tolist() == [True, False, True, False]
    assert labels.anomalous.tolist() == [False, False, True, False]
    assert labels.kinds is not None
    assert labels.kinds.tolist() == ["good", "", "bad", ""]
    assert read_labels(column, "y", ["good", ""]).known.all()


@pytest.mark.parametrize(("column", "normal"), [(None, ["good"]), ("y", [])])
def test_labels_need_a_column_and_a_normal_value(column: str | None, normal: list[str]) -> None:
    source: Any = Column("good", "bad")
    with pytest.raises(ConfigError, match="say which labels: `label_column='NAME'` and `normal="):
        read_labels(source, column, normal)


def test_a_meter_takes_parts_and_leaves_out_what_has_no_score_or_label() -> None:
    labels, scores = drawn(60)
    known = np.arange(60) != 7
    spoilt = np.where(np.arange(60) == 20, np.nan, scores)
    meter = SampleMeter(Labels(labels, known), "t.csv")
    for start in (0, 25, 50):
        part = slice(start, start + 25)
        skipped = [Skipped(20, "is no number")] if start == 0 else []
        meter.add(range(60)[part], spoilt[part], scores[part] > 1, skipped)
    assert meter.left_out() == [Skipped(20, "is no number"), Skipped(7, "has no label")]
    kept = known & (np.arange(60) != 20)
    expected = evaluate(labels[kept], scores[kept], scores[kept] > 1, wanted_false_alarm_rate=0.1)
    assert meter.result(wanted_false_alarm_rate=0.1) == expected


def test_a_meter_wants_a_label_for_each_sample() -> None:
    meter = SampleMeter(Labels(np.array([True, False]), np.ones(2, bool)), "t.csv")
    meter.add([0], np.zeros(1), np.zeros(1, bool))
    with pytest.raises(DataError, match=r"t\.csv: 2 labels for 1 samples; give one label a sample"):
        meter.result(wanted_false_alarm_rate=0.1)


def test_a_result_is_a_dict_for_json_and_a_table_for_people() -> None:
    labels, scores = drawn()
    found = evaluate(labels, scores, scores > 1, wanted_false_alarm_rate=0.1)
    figures = json.loads(json.dumps(found.figures()))
    value, low, high = found.auroc.value, found.auroc.low, found.auroc.high
    assert figures["auroc"] == {"value": value, "low": low, "high": high, "groups": labels.sum()}
    assert (figures["samples"], figures["wanted_false_alarm_rate"]) == (300, 0.1)
    title, columns, rows, caption, below = found.table()
    assert title == f"300 samples, {labels.sum()} anomalies"
    assert (columns, caption, below) == (("figure", "value", "95 % interval"), None, ())
    assert rows[0] == ("AUROC", f"{found.auroc.value:.4f}", f"{found.auroc.low:.4f} to {found.auroc.high:.4f}")
    assert [row[0] for row in rows[1:]] == [
        "AUPR",
        "false-alarm rate (wanted 0.1)",
        "recall at that threshold",
        "precision",
        "F1",
    ]
