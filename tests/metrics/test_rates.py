import numpy as np
import pytest

from memae.metrics import evaluate
from memae.metrics.rates import thresholds_of
from memae.threshold import Threshold

LABELS = np.arange(200) >= 150
SCORES = np.where(LABELS, np.linspace(0.5, 2.5, 200), np.linspace(0, 2, 200))


def test_a_table_has_what_each_threshold_flags_of_both_kinds() -> None:
    found = evaluate(
        LABELS, SCORES, SCORES > 1, wanted_false_alarm_rate=0.5, thresholds={0.1: 1.5, 0.5: 1.0}, seed=3
    )
    strict, loose = found.rates
    for rate, threshold in ((strict, 1.5), (loose, 1.0)):
        assert rate.threshold == threshold
        assert rate.false_alarm_rate.value == pytest.approx((SCORES[~LABELS] > threshold).mean())
        assert rate.recall.value == pytest.approx((SCORES[LABELS] > threshold).mean())
        assert rate.recall.low <= rate.recall.value <= rate.recall.high
    assert loose.recall.value == found.recall.value
    assert loose.false_alarm_rate.low == found.false_alarm_rate.low  # of the same draws
    table = found.table().below[0]
    assert [row[0] for row in table.rows] == ["0.1", "0.5"]


def test_only_rates_that_the_calibration_scores_can_promise_are_taken() -> None:
    found = thresholds_of(Threshold.fit(np.arange(150.0), 0.015))
    assert [*found] == [0.01, 0.015, 0.02, 0.05, 0.1]
    values = [*found.values()]
    assert values == sorted(values, reverse=True)
