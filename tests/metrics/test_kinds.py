import json
import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from memae.metrics import Evaluation, evaluate
from memae.metrics.kinds import SHOWN_KINDS

NAMES = np.array(["ok", "ok", "ok", "ok", "dent", "dent", "dent", "hole", "hole"])
SCORES = np.array([1.0, 2, 3, 4, 5, 3, 2.5, 9, 0])


def measured(names: np.ndarray, scores: np.ndarray, at: float = 4.5, seed: int = 0) -> Evaluation:
    return evaluate(names != "ok", scores, scores > at, wanted_false_alarm_rate=0.1, kinds=names, seed=seed)


def test_a_case_by_hand() -> None:
    dent, hole = measured(NAMES, SCORES).kinds
    assert (dent.name, dent.samples, dent.recall.value) == ("dent", 3, 1 / 3)
    # of 4 normal samples 5 beats all, 3 beats two and ties with one, and 2.5 beats two
    assert dent.auroc.value == pytest.approx((4 + 2.5 + 2) / 12)
    assert (hole.name, hole.samples, hole.recall.value) == ("hole", 2, 1 / 2)
    assert hole.auroc.value == pytest.approx(4 / 8)
    assert dent.few and math.isnan(dent.recall.low) and math.isnan(dent.auroc.high)


def many(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    names = generator.choice(["ok", "dent", "hole", "scratch"], p=[0.5, 0.3, 0.15, 0.05], size=400)
    return names, np.round(generator.normal(size=400) + (names != "ok") + (names == "hole"), 1)


def test_figures_are_those_of_scikit_learn() -> None:
    names, scores = many()
    found = measured(names, scores)
    assert [kind.name for kind in found.kinds] == ["dent", "hole", "scratch"]  # the most frequent first
    for kind in found.kinds:
        chosen = (names == "ok") | (names == kind.name)
        assert kind.auroc.value == pytest.approx(roc_auc_score(names[chosen] != "ok", scores[chosen]))
        assert kind.recall.value == pytest.approx((scores[names == kind.name] > 4.5).mean())
        assert kind.auroc.low < kind.auroc.value < kind.auroc.high
        assert (kind.samples, kind.groups) == ((names == kind.name).sum(),) * 2
    weighted = sum(kind.recall.value * kind.samples for kind in found.kinds) / found.anomalies
    assert weighted == pytest.approx(found.recall.value)


def test_an_interval_holds_the_true_auroc_about_as_often_as_it_says() -> None:
    truth, inside = 0.7602, 0  # of scores one standard deviation apart: Phi(1 / sqrt 2)
    for seed in range(25):
        names, _ = many(seed)
        scores = np.random.default_rng(1000 + seed).normal(size=400) + (names == "dent")
        kind = measured(names, scores).kinds[0]
        inside += kind.auroc.low <= truth <= kind.auroc.high
    assert inside >= 20  # 23.75 are expected


def test_one_kind_is_the_total_and_has_no_figures_of_its_own() -> None:
    assert measured(np.where(NAMES == "hole", "dent", NAMES), SCORES).kinds == ()


def test_the_seed_draws_the_intervals() -> None:
    names, scores = many()
    first, same, other = (measured(names, scores, seed=seed).kinds[0] for seed in (0, 0, 1))
    assert first == same
    assert first.auroc.low != other.auroc.low


def test_the_table_marks_kinds_with_few_samples() -> None:
    names, scores = many()
    names[np.flatnonzero(names == "scratch")[4:]] = "ok"
    (table,) = measured(names, scores).table().below
    assert table.title == "3 kinds of anomalies"
    assert table.columns == ("kind", "count", "recall", "AUROC against normal")
    assert [row[0] for row in table.rows] == ["dent", "hole", "scratch *"]
    assert table.rows[2][1:3] == ("4", "0.000")
    assert "(" in table.rows[0][3]
    assert table.caption == "* fewer than 10: says little."


def test_very_many_kinds_are_cut_in_the_table_and_whole_in_json() -> None:
    generator = np.random.default_rng(0)
    names = np.concatenate([np.full(300, "ok"), *[np.full(40 - i, f"kind {i}") for i in range(30)]])
    found = measured(names, generator.random(len(names)), at=0.9)
    (table,) = found.table().below
    assert table.title == "30 kinds of anomalies"
    assert [row[0] for row in table.rows] == [f"kind {i}" for i in range(SHOWN_KINDS)]
    assert table.caption == "The 10 least frequent kinds are left out here; the figures in JSON have all."
    figures = json.loads(json.dumps(found.figures(), allow_nan=False))
    assert [kind["name"] for kind in figures["kinds"]] == [f"kind {i}" for i in range(30)]
    assert {*figures["kinds"][0]["recall"]} == {"value", "low", "high", "groups"}
