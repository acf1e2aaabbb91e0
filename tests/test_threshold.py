import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import beta

from memae.config import ThresholdConfig
from memae.errors import ConfigError, DataError
from memae.threshold import DEFAULT_RATE, Threshold, needed_samples, reachable_rate

NINE = np.array([9.0, 1.0, 5.0, 3.0, 7.0, 2.0, 8.0, 6.0, 4.0])

# whole numbers, so that ties among and between calibration and new scores are common
SCORES = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=40)
RATES = st.one_of(
    st.floats(1e-6, 1, exclude_max=True),
    st.fractions(0, 1, max_denominator=41).map(float).filter(lambda rate: 0 < rate < 1),
    st.integers(2, 41).map(lambda count: math.nextafter(1 / count, 0)),
)


def test_p_values_count_the_calibration_scores_at_least_as_high() -> None:
    threshold = Threshold.fit(NINE, 0.1)
    assert threshold.p_values(np.array([0.0, 1.0, 1.5, 9.0, 9.5])).tolist() == [1.0, 1.0, 0.9, 0.2, 0.1]


@pytest.mark.parametrize(("rate", "value"), [(0.1, 9), (0.15, 9), (0.2, 8), (0.3, 7), (0.9, 1), (0.99, 1)])
def test_the_value_leaves_so_many_calibration_scores_above_it(rate: float, value: int) -> None:
    threshold = Threshold.fit(NINE, rate)
    assert threshold.value == value
    assert threshold.flags(np.array([value - 0.5, value, value + 0.5])).tolist() == [False, False, True]


def test_the_calibration_scores_are_kept_in_order() -> None:
    assert Threshold.fit(NINE, 0.1).calibration.tolist() == sorted(NINE)
    assert NINE[0] == 9.0  # those given stay as they were


@given(SCORES, SCORES, RATES)
def test_a_sample_is_flagged_where_its_p_value_is_at_most_the_rate(
    calibration: list[float], scores: list[float], rate: float
) -> None:
    threshold = Threshold(rate, np.sort(calibration))
    flags = threshold.flags(np.array(scores))
    assert flags.tolist() == (threshold.p_values(np.array(scores)) <= rate).tolist()


@given(SCORES, SCORES)
def test_p_values_fall_as_scores_rise_and_stay_in_reach(calibration: list[float], scores: list[float]) -> None:
    p_values = Threshold.fit(np.array(calibration)).p_values(np.sort(scores))
    assert (np.diff(p_values) <= 0).all()
    assert p_values.min() >= 1 / (len(calibration) + 1)
    assert p_values.max() <= 1


@pytest.mark.parametrize(
    ("rate", "samples"), [(0.5, 1), (0.1, 9), (0.05, 19), (0.01, 99), (0.001, 999), (1e-6, 999_999), (0.3, 3)]
)
def test_how_many_samples_a_rate_needs(rate: float, samples: int) -> None:
    assert needed_samples(rate) == samples


@given(RATES)
def test_the_needed_samples_are_the_fewest_whose_least_p_value_reaches_the_rate(rate: float) -> None:
    needed = needed_samples(rate)
    assert 1 / (needed + 1) <= rate
    assert needed == 0 or 1 / needed > rate


@given(st.integers(1, 200), RATES)
def test_a_rate_is_promised_exactly_where_some_score_could_be_flagged(samples: int, rate: float) -> None:
    calibration = np.arange(samples, dtype=float)
    try:
        threshold = Threshold.fit(calibration, rate)
    except ConfigError:
        assert 1 / (samples + 1) > rate
    else:
        assert threshold.flags(np.array([1e9])).all()
        assert threshold.false_alarm_rate == rate


@pytest.mark.parametrize(("samples", "rate"), [(1, 0.5), (9, 0.1), (49, 0.02), (99, 0.01), (5000, 0.01)])
def test_without_a_wish_the_rate_is_the_default_or_the_least_that_can_be_promised(
    samples: int, rate: float
) -> None:
    assert reachable_rate(samples, None) == rate
    assert rate >= DEFAULT_RATE


def test_a_rate_that_cannot_be_promised_is_refused_with_what_it_takes() -> None:
    with pytest.raises(
        ConfigError,
        match=r"threshold.false_alarm_rate = 0.001 takes at least 999 held-out normal samples, and there are 60, "
        r"which can promise 0.016 at best; give more data, raise threshold.calibration_share, or .* higher rate",
    ):
        Threshold.fit(np.arange(60.0), 0.001)


def test_no_calibration_sample_at_all_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"no normal sample is left .*raise threshold\.calibration_share"):
        Threshold.fit(np.empty(0))


@pytest.mark.parametrize(("samples", "rate"), [(19, 0.05), (30, 0.1), (99, 0.02)])
def test_the_false_alarm_rate_is_held_in_the_mean_over_many_draws(samples: int, rate: float) -> None:
    generator = np.random.default_rng(samples)
    alarms = [
        Threshold.fit(generator.exponential(size=samples), rate).flags(generator.exponential(size=50)).mean()
        for _ in range(4000)
    ]
    error = np.std(alarms) / np.sqrt(len(alarms))
    expected = math.floor(rate * (samples + 1) + 1e-9) / (samples + 1)  # exact for scores without ties
    assert abs(np.mean(alarms) - expected) < 4 * error
    assert np.mean(alarms) <= rate + 4 * error


def test_ties_only_make_it_more_careful() -> None:
    generator = np.random.default_rng(0)
    alarms = [
        Threshold.fit(generator.integers(4, size=39), 0.1).flags(generator.integers(4, size=50)).mean()
        for _ in range(500)
    ]
    assert np.mean(alarms) <= 0.1


def test_a_threshold_that_can_promise_nothing_flags_nothing() -> None:
    assert not Threshold(0.01, np.sort(NINE)).flags(np.array([0.0, 100.0])).any()


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_numbers_set_no_threshold(wrong: float) -> None:
    with pytest.raises(
        DataError, match=r"1 of 10 held-out normal samples have no finite score, .*; lower train.learn"
    ):
        Threshold.fit(np.array([*NINE, wrong]), 0.1)


@given(SCORES, SCORES, RATES, st.data())
def test_with_groups_each_group_counts_as_one(
    calibration: list[float], scores: list[float], rate: float, data: st.DataObject
) -> None:
    group = st.integers(0, 4)
    groups = np.array(data.draw(st.lists(group, min_size=len(calibration), max_size=len(calibration))))
    count = len(set(groups.tolist()))
    assume(count >= max(2, needed_samples(rate)))
    threshold = Threshold.fit(np.array(calibration), rate, groups)
    expected = [
        (1 + sum(np.mean(np.array(calibration)[groups == g] >= score) for g in set(groups.tolist()))) / (count + 1)
        for score in scores
    ]
    assert threshold.group_count == count
    p_values = threshold.p_values(np.array(scores))
    assert p_values == pytest.approx(expected)
    assert (threshold.flags(np.array(scores)) == (p_values <= rate)).all()
    own = Threshold.fit(np.array(calibration), rate, np.arange(len(calibration)))
    assert own.value == Threshold.fit(np.array(calibration), rate).value


def test_too_few_groups_have_a_caveat_and_no_error() -> None:
    threshold = Threshold.fit(np.arange(60.0), 0.01, np.arange(60) // 2)
    assert "30 held-out groups are too few to promise a false-alarm rate of 0.01" in str(threshold.caveat)
    assert "assumes that the levels of groups are normally distributed" in str(threshold.caveat)
    assert threshold.facts == {
        "value": threshold.value,
        "false_alarm_rate": 0.01,
        "set_by_hand": False,
        "groups": 30,
        "caveat": threshold.caveat,
    }
    assert Threshold.fit(np.arange(200.0), 0.01, np.arange(200) // 2).caveat is None
    assert Threshold.fit(np.arange(200.0), 0.01).caveat is None


def test_without_a_wish_groups_ask_for_the_default_rate() -> None:
    assert Threshold.fit(np.arange(20.0), None, np.arange(20) // 2).false_alarm_rate == DEFAULT_RATE


def test_the_rate_is_held_for_new_groups_in_the_mean_over_many_draws() -> None:
    generator = np.random.default_rng(0)

    def draw(groups: int, each: int) -> np.ndarray:
        """(groups, each) scores: what a group adds is much more than what a sample adds."""
        effect = generator.exponential(size=(groups, 1))
        return effect + 0.2 * generator.exponential(size=(groups, each))

    with_groups, without = [], []
    for _ in range(2000):
        known, new = draw(19, 8), draw(20, 8)
        groups = np.repeat(np.arange(19), 8)
        with_groups.append(Threshold.fit(known.ravel(), 0.1, groups).flags(new).mean())
        without.append(Threshold.fit(known.ravel(), 0.02).flags(new).mean())
    error = np.std(with_groups) / np.sqrt(len(with_groups))
    assert 0.07 < np.mean(with_groups) <= 0.1 + 3 * error
    assert np.mean(without) > 2 * 0.02  # 152 samples promise .02 if each is its own group


def test_the_believed_share_of_the_highest_scores_is_left_out_with_its_groups() -> None:
    scores, groups = np.array([5.0, 9.0, 1.0, 7.0, 3.0, 8.0, 2.0, 6.0, 4.0, 0.0]), np.arange(10)
    section = ThresholdConfig(false_alarm_rate=0.25, contamination=0.29)
    found = Threshold.by(section, scores, groups)
    assert found.calibration.tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert found.groups.tolist() == [9, 2, 6, 4, 8, 0, 7, 3]
    assert Threshold.by(section, scores).calibration.tolist() == found.calibration.tolist()
    none = ThresholdConfig(false_alarm_rate=0.25)
    assert Threshold.by(none, scores).calibration.tolist() == sorted(scores)
    with pytest.raises(DataError, match="no finite score"):  # a NaN is not left out as if it were an anomaly
        Threshold.by(section, np.append(scores, np.nan))


@pytest.mark.parametrize("share", [0.0, 0.02, 0.05])
def test_a_true_share_holds_the_rate_and_a_share_of_anomalies_that_are_not_there_adds_to_it(share: float) -> None:
    generator, samples, rate = np.random.default_rng(0), 400, 0.05
    normal = generator.exponential(size=(300, samples))
    anomalies = round(share * samples)
    mixed = normal.copy()
    mixed[:, :anomalies] += 20
    section = ThresholdConfig(false_alarm_rate=rate, contamination=share)
    measured, clean = (
        np.exp([-Threshold.by(section, scores).value for scores in drawn]).mean() for drawn in (mixed, normal)
    )
    assert rate / 3 < measured <= rate * 1.03
    assert clean <= (rate + share) * 1.03


def test_the_value_with_a_confidence_leaves_fewer_scores_above_it() -> None:
    scores = np.arange(1.0, 1000)
    on_average, held = Threshold.fit(scores, 0.01), Threshold.fit(scores, 0.01, confidence=0.75)
    assert (on_average.value, on_average.level) == (990, 0.01)
    assert (held.value, held.level) == (
        992,
        0.008,
    )  # P(Beta(8, 992) <= 0.01) = 0.78, P(Beta(9, 991) <= 0.01) = 0.67


@given(st.integers(1, 60), st.floats(0.02, 0.5), st.floats(0.01, 0.99))
def test_the_rate_is_held_with_the_confidence_where_that_many_samples_can(
    samples: int, rate: float, confidence: float
) -> None:
    threshold = Threshold(rate, np.arange(1.0, samples + 1), confidence=confidence)
    above = np.count_nonzero(threshold.calibration > threshold.value)
    if samples >= needed_samples(rate):
        rank = above + 1
        assert rank == 1 or beta.cdf(rate, rank, samples + 1 - rank) >= confidence - 1e-9
        assert rank + 1 > rate * (samples + 1) or beta.cdf(rate, rank + 1, samples - rank) < confidence + 1e-9
    flags = threshold.flags(threshold.calibration)
    assert flags.tolist() == (threshold.p_values(threshold.calibration) <= threshold.level).tolist()


def grouped(groups: int, spread: float, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Scores of ten samples of each group, whose levels differ, and the numbers of the groups."""
    levels = generator.normal(scale=spread, size=(groups, 1))
    return np.exp(levels + generator.normal(scale=0.3, size=(groups, 10))).ravel(), np.repeat(
        np.arange(groups), 10
    )


@pytest.mark.parametrize("spread", [0.05, 0.3])
@pytest.mark.parametrize("groups", [14, 40])
def test_few_groups_hold_the_rate_for_new_groups_and_are_not_silent(groups: int, spread: float) -> None:
    generator = np.random.default_rng(0)
    rates = [
        Threshold.fit(*_drawn(groups, spread, generator)).flags(grouped(200, spread, generator)[0]).mean()
        for _ in range(60)
    ]
    assert 0.01 / 3 < np.mean(rates) < 0.013
    assert np.mean(np.array(rates) > 0.03) <= 0.1


def test_scores_of_groups_taken_for_samples_of_their_own_break_the_promise() -> None:
    generator = np.random.default_rng(0)
    rates = [
        Threshold.fit(grouped(8, 0.6, generator)[0], 0.05).flags(grouped(200, 0.6, generator)[0]).mean()
        for _ in range(40)
    ]
    assert np.mean(rates) > 0.06


def test_p_values_of_few_groups_fall_as_scores_rise_and_agree_with_the_flags() -> None:
    threshold = Threshold.fit(*_drawn(8, 0.3, np.random.default_rng(1)))
    scores = np.linspace(0, 3 * threshold.value, 200)
    p_values = threshold.p_values(scores)
    assert (np.diff(p_values) <= 0).all()
    assert threshold.flags(scores).tolist() == (p_values <= threshold.level).tolist()
    assert "8 held-out groups are too few" in str(threshold.caveat)
    assert "Expect most false alarms in a few of the new groups" in str(threshold.caveat)


def test_a_threshold_far_above_all_that_was_seen_says_that_it_rarely_flags() -> None:
    scores, groups = np.append(np.linspace(0.1, 0.2, 50), np.linspace(0.4, 0.5, 50)), np.repeat([0, 1], 50)
    threshold = Threshold.fit(scores, 0.01, groups)
    assert threshold.value > 2 * scores.max()
    assert f"{threshold.value / scores.max():.0f} times the highest held-out score" in str(threshold.caveat)
    assert "set the threshold to a score of your own" in str(threshold.caveat)


def test_scores_below_zero_are_taken_as_they_are() -> None:
    scores, groups = grouped(6, 0.3, np.random.default_rng(2))
    lower = Threshold.fit(scores - 2, 0.01, groups)
    assert 0 < lower.value + 2 < 20
    assert lower.p_values(np.array([-5.0, 50.0])) == pytest.approx([1, 0], abs=1e-4)  # never 0, see below


def test_many_groups_take_the_conformal_p_value() -> None:
    scores, groups = grouped(30, 0.3, np.random.default_rng(3))
    threshold = Threshold.fit(scores, 0.1, groups)
    assert threshold.caveat is None
    assert threshold.p_values(np.array([1e9])).tolist() == [1 / 31]


def test_a_single_group_is_refused() -> None:
    with pytest.raises(ConfigError, match="one held-out group does not tell how groups differ"):
        Threshold.fit(NINE, 0.1, np.zeros(9))


def _drawn(groups: int, spread: float, generator: np.random.Generator) -> tuple[np.ndarray, float, np.ndarray]:
    """The arguments of `Threshold.fit` for a rate of 0.01."""
    scores, numbers = grouped(groups, spread, generator)
    return scores, 0.01, numbers


def test_without_a_wish_few_samples_ask_for_the_rate_that_they_hold_with_the_confidence() -> None:
    threshold = Threshold.fit(NINE, confidence=0.75)
    assert threshold.false_alarm_rate == pytest.approx(0.1428, abs=1e-4)
    assert beta.cdf(threshold.false_alarm_rate, 1, 9) == pytest.approx(0.75)
    assert (threshold.value, threshold.level) == (9, 0.1)
    assert Threshold.fit(np.arange(1000.0), confidence=0.75).false_alarm_rate == DEFAULT_RATE


def test_p_values_of_few_groups_are_never_0_however_high_the_score() -> None:
    rng = np.random.default_rng(0)
    threshold = Threshold.fit(rng.random(60) + 1, 0.01, np.repeat(np.arange(6), 10))
    assert threshold.caveat  # random effects take the place of the conformal p-value
    p_values = threshold.p_values(np.array([0.0, 1e-300, 1.5, 50.0, 1e300]))
    assert ((p_values > 0) & (p_values <= 1)).all()
    assert (np.diff(p_values) <= 0).all()
    assert threshold.flags(np.array([50.0, 1e300])).all()
