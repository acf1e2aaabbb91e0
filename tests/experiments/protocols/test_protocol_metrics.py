import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from experiments.protocols.metrics import above, ranking, top


def test_the_highest_are_flagged_by_hand() -> None:
    labels = np.array([1, 0, 1, 0, 0, 0, 0, 0, 1, 0], dtype=bool)
    scores = np.array([9, 8, 7, 1, 2, 3, 4, 5, 6, 0], dtype=float)
    found = top(labels, scores, 2)
    assert found["precision"] == 1 / 2
    assert found["recall"] == 1 / 3
    assert found["f1"] == pytest.approx(2 * (1 / 2) * (1 / 3) / (1 / 2 + 1 / 3))
    # of 3 x 7 pairs the anomaly is above in 7, 6 and 6
    assert found["auroc"] == pytest.approx(19 / 21)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("count", [1, 17, 300])
def test_exactly_so_many_are_flagged_ties_or_not(count: int, tied: bool) -> None:
    rng = np.random.default_rng(0)
    scores = np.zeros(1000) if tied else rng.random(1000)
    labels = rng.random(1000) < 0.5
    first = np.arange(1000) if tied else np.argsort(-scores)  # ties go by the order of the rows
    assert top(labels, scores, count)["recall"] == labels[first[:count]].sum() / labels.sum()


def test_the_figures_do_not_depend_on_scale_and_are_perfect_for_perfect_scores() -> None:
    labels = np.arange(100) < 20
    perfect = {"precision": 1, "recall": 1, "f1": pytest.approx(1), "auroc": 1}
    assert top(labels, labels * 1e-9, 20) == perfect
    assert top(labels, -labels.astype(float), 20)["f1"] == 0
    assert ranking(labels, labels * 1e-9) == {"auroc": 1.0, "average_precision": 1.0}


def test_a_threshold_flags_what_lies_above_it_and_not_on_it() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1], dtype=bool)
    scores = np.array([0.1, 0.2, 0.5, 0.9, 0.5, 0.8])
    assert above(labels, scores, 0.5) == {
        "precision": 1 / 2,
        "recall": 1 / 2,
        "f1": pytest.approx(1 / 2),
        "false_alarm_rate": 1 / 4,
    }
    nothing = above(labels, scores, 1.0)
    assert nothing == {"precision": 0, "recall": 0, "f1": 0, "false_alarm_rate": 0}


def test_the_figures_are_those_of_scikit_learn_and_of_counts() -> None:
    rng = np.random.default_rng(1)
    labels = rng.random(500) < 0.3
    scores = labels + rng.normal(0, 1, 500)
    assert ranking(labels, scores) == {
        "auroc": pytest.approx(roc_auc_score(labels, scores)),
        "average_precision": pytest.approx(average_precision_score(labels, scores)),
    }
    found = above(labels, scores, 0.7)
    flagged = scores > 0.7
    hits = (flagged & labels).sum()
    expected = hits / flagged.sum(), hits / labels.sum(), 2 * hits / (flagged.sum() + labels.sum())
    assert (found["precision"], found["recall"], found["f1"]) == pytest.approx(expected)
    found = top(labels, scores, int((scores > 0.7).sum()))
    assert (found["precision"], found["recall"], found["f1"]) == pytest.approx(expected)
