import numpy as np
import pytest
from sklearn.metrics import auc, average_precision_score, roc_auc_score

from memae.metrics.ranking import Ranking


def test_the_curves_enclose_the_areas_that_scikit_learn_computes() -> None:
    random = np.random.default_rng(0)
    anomalous = random.random(400) < 0.3
    scores = np.round(random.normal(size=400) + 1.2 * anomalous, 2)  # with ties
    ranking = Ranking(range(400), scores, anomalous)
    roc, precision = ranking.roc, ranking.precision_recall
    assert auc(roc.x, roc.y) == pytest.approx(roc_auc_score(anomalous, scores), abs=0.01)
    assert precision.y.mean() == pytest.approx(average_precision_score(anomalous, scores), abs=0.02)
    above_all = scores[anomalous] > scores[~anomalous].max()
    assert (roc.y[0], roc.y[-1]) == (above_all.mean(), 1)
    for band in (roc, precision):
        assert (band.low <= band.y + 1e-9).mean() > 0.9
        assert (band.high >= band.y - 1e-9).mean() > 0.9


def test_a_perfect_ranking_reaches_the_corners() -> None:
    anomalous = np.arange(40) >= 30
    ranking = Ranking(range(40), np.arange(40.0), anomalous)
    assert ranking.roc.y.tolist() == [1.0] * 101
    assert ranking.precision_recall.y.tolist() == [1.0] * 100
    assert ranking.roc.low.min() == 1


def test_too_few_groups_give_no_band() -> None:
    anomalous = np.arange(40) % 2 == 1
    ranking = Ranking(range(40), np.arange(40.0), anomalous, np.arange(40) // 10)
    assert np.isnan(ranking.roc.low).all()
    assert not np.isnan(ranking.roc.y).any()
