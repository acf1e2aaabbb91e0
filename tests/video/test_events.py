import math
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memae.errors import ConfigError, DataError
from memae.types import Box
from memae.video.events import Event, EventFinder, EventRule, PeakDetail, ScoreSeries, fit_event_threshold
from memae.video.frames import FrameKey


def frames(
    scores: np.ndarray | Sequence[float], times: np.ndarray | Sequence[float] | None = None, video: str = "a"
) -> list[tuple[FrameKey, float]]:
    """Keys and scores, a second apart where nothing else is said."""
    times = range(len(scores)) if times is None else times
    return [(FrameKey(video, i, float(t)), float(s)) for i, (t, s) in enumerate(zip(times, scores, strict=True))]


def find(rule: EventRule, *videos: list[tuple[FrameKey, float]]) -> list[Event]:
    """The events of whole videos."""
    finder = EventFinder(rule)
    found = [finder.push(key, score) for video in videos for key, score in video]
    return [event for event in [*found, finder.close()] if event is not None]


def spans(events: list[Event]) -> list[tuple[float, float]]:
    return [(e.start_s, e.end_s) for e in events]


RULE = EventRule(on_threshold=3, off_threshold=2, merge_gap_s=0)


class TestFinder:
    def test_an_event_goes_from_the_on_threshold_to_the_last_frame_above_the_off_threshold(self) -> None:
        (event,) = find(RULE, frames([2, 2, 3, 5, 4, 2, 1, 2, 0]))
        assert (event.first_frame, event.last_frame, event.start_s, event.end_s) == (2, 5, 2, 5)
        assert (event.video, event.peak_frame, event.peak_s, event.peak, event.duration_s) == ("a", 3, 3, 5, 3)

    def test_scores_between_the_thresholds_begin_nothing(self) -> None:
        assert find(RULE, frames([2, 2.9, 2.99, 2])) == []

    def test_the_first_of_equal_peaks_is_the_peak(self) -> None:
        (event,) = find(RULE, frames([3, 5, 4, 5]))
        assert event.peak_frame == 1

    def test_events_close_to_each_other_are_one(self) -> None:
        scores = [3, 0, 0, 4, 0, 0, 0, 3]
        assert spans(find(EventRule(3, 2, merge_gap_s=3), frames(scores))) == [(0, 3), (7, 7)]
        assert spans(find(EventRule(3, 2, merge_gap_s=2.5), frames(scores))) == [(0, 0), (3, 3), (7, 7)]

    def test_in_the_gap_it_takes_the_on_threshold_to_go_on(self) -> None:
        assert spans(find(EventRule(3, 2, merge_gap_s=2), frames([3, 0, 2.5, 0]))) == [(0, 0)]

    def test_short_events_are_dropped_after_merging(self) -> None:
        rule = EventRule(3, 2, least_s=3, merge_gap_s=2)
        assert spans(find(rule, frames([3, 0, 3, 3, 0, 0, 0, 3, 3, 3]))) == [(0, 3)]

    def test_after_an_event_there_is_quiet_and_what_goes_on_longer_begins_then(self) -> None:
        rule = EventRule(3, 2, merge_gap_s=0, cool_down_s=4)
        assert spans(find(rule, frames([3, 0, 3, 3, 3, 2, 2, 0]))) == [(0, 0), (4, 4 + 2)]
        assert spans(find(rule, frames([3, 0, 3, 2, 2, 2, 2, 0]))) == [(0, 0)]

    def test_a_dropped_event_brings_no_quiet(self) -> None:
        rule = EventRule(3, 2, least_s=1, merge_gap_s=0, cool_down_s=9)
        assert spans(find(rule, frames([3, 0, 3, 3]))) == [(2, 3)]

    def test_times_count_and_not_frames(self) -> None:
        rule = EventRule(3, 2, least_s=0.5, merge_gap_s=0.1)
        assert spans(find(rule, frames([3, 3, 0, 3, 3], [0, 0.6, 0.65, 0.7, 2.0]))) == [(0, 2.0)]
        assert spans(find(rule, frames([3, 3, 0, 3, 3], [0, 0.6, 0.65, 0.75, 2.0]))) == [(0, 0.6), (0.75, 2.0)]

    def test_an_event_is_final_with_the_first_frame_after_the_merge_gap(self) -> None:
        finder = EventFinder(EventRule(3, 2, merge_gap_s=2))
        given_at = [finder.push(key, score) is not None for key, score in frames([0, 3, 3, 0, 0, 0, 0])]
        assert given_at == [False] * 5 + [True, False]
        assert finder.close() is None

    def test_in_event_tells_of_the_last_frame(self) -> None:
        finder = EventFinder(EventRule(3, 2, merge_gap_s=2))
        told = []
        for key, score in frames([0, 3, 2, 0, 3, 0]):
            finder.push(key, score)
            told.append(finder.in_event)
        assert told == [False, True, True, False, True, False]

    def test_another_video_closes_the_one_before_and_starts_anew(self) -> None:
        rule = EventRule(3, 2, merge_gap_s=5, cool_down_s=50)
        finder = EventFinder(rule)
        assert finder.push(FrameKey("a", 0, 7.0), 4) is None
        event = finder.push(FrameKey("b", 0, 0.0), 5)
        assert (event.video, event.start_s, event.peak) == ("a", 7, 4)
        last = finder.close()
        assert (last.video, last.start_s, last.peak) == ("b", 0, 5)
        assert finder.close() is None

    def test_the_same_video_can_be_given_again_after_close(self) -> None:
        finder = EventFinder(RULE)
        for _ in range(2):
            finder.push(FrameKey("a", 0, 1.0), 4)
            assert finder.close().start_s == 1

    def test_detail_is_kept_of_the_peak_and_asked_for_new_peaks_only(self) -> None:
        asked = []

        def detail(frame: int) -> PeakDetail:
            asked.append(frame)
            return PeakDetail(Box(frame, 0, 9, 9), (), f"picture {frame}")

        finder = EventFinder(RULE)
        for key, score in frames([0, 3, 4, 3.5, 4, 5, 2, 0]):
            event = finder.push(key, score, partial(detail, key.frame))
        assert asked == [1, 2, 5]
        assert (event.region, event.payload, event.peak_frame) == (Box(5, 0, 9, 9), "picture 5", 5)
        assert "picture" not in repr(event)

    @pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
    def test_a_score_is_finite(self, score: float) -> None:
        with pytest.raises(DataError, match=r"a: frame 4 has the score"):
            EventFinder(RULE).push(FrameKey("a", 4, 0.1), score)

    def test_time_does_not_run_backwards(self) -> None:
        finder = EventFinder(RULE)
        finder.push(FrameKey("a", 0, 1.0), 1)
        with pytest.raises(
            DataError, match=r"a: frame 1 at 0.500 s comes after one at 1.000 s; give the frames in"
        ):
            finder.push(FrameKey("a", 1, 0.5), 1)


class TestRule:
    def test_the_off_threshold_is_somewhat_below_the_on_threshold_by_default(self) -> None:
        assert EventRule(10).ends_below == pytest.approx(8)
        assert EventRule(-10).ends_below == pytest.approx(-12)
        assert EventRule(10, 3).ends_below == 3

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"on_threshold": math.nan}, "on_threshold = nan"),
            ({"on_threshold": math.inf}, "on_threshold = inf"),
            ({"on_threshold": 1, "off_threshold": 2}, r"off_threshold = 2: .* above on_threshold = 1; give less"),
            ({"on_threshold": 1, "off_threshold": -math.inf}, "off_threshold = -inf"),
            ({"on_threshold": 1, "least_s": -1}, r"least_s = -1: give seconds"),
            ({"on_threshold": 1, "merge_gap_s": math.nan}, "merge_gap_s = nan"),
            ({"on_threshold": 1, "cool_down_s": math.inf}, "cool_down_s = inf"),
        ],
    )
    def test_values_that_make_no_sense_are_named(self, values: dict[str, float], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            EventRule(**values)

    def test_old_names_are_accepted_with_a_warning(self) -> None:
        with pytest.warns(FutureWarning, match="the argument enter is now called on_threshold"):
            rule = EventRule(enter=3)  # type: ignore[call-arg]  # the decorator knows the old name
        with pytest.warns(FutureWarning, match="the argument leave is now called off_threshold"):
            assert EventRule(4, leave=2) == EventRule(4, 2)  # type: ignore[call-arg]  # the decorator knows the old name
        with pytest.warns(FutureWarning, match=r"EventRule\.enter is now called on_threshold"):
            assert rule.enter == 3
        with pytest.warns(FutureWarning, match=r"EventRule\.stay is now called ends_below"):
            assert rule.stay == rule.ends_below


RULES = st.builds(
    lambda least_s, merge_gap_s, cool_down_s, leave: EventRule(3, leave, least_s, merge_gap_s, cool_down_s),
    *[st.integers(0, 12).map(lambda quarters: quarters / 4)] * 3,
    st.sampled_from([1, 2, 3]),
)
SERIES = st.lists(st.tuples(st.integers(0, 6), st.sampled_from([0, 1, 2, 3, 4])), max_size=60).map(
    lambda rows: (np.cumsum([gap for gap, _ in rows]) / 4, np.array([score for _, score in rows]))
)


def reference(times: np.ndarray, scores: np.ndarray, rule: EventRule) -> list[tuple[int, int]]:
    """First and last frame of each event, looked up with the whole video at hand."""
    found, quiet_until, i = [], -math.inf, 0
    while i < len(scores):
        if scores[i] < rule.on_threshold or times[i] < quiet_until:
            i += 1
            continue
        last = i
        while True:
            if last + 1 < len(scores) and scores[last + 1] >= rule.ends_below:
                last += 1
                continue
            again = [
                j
                for j in range(last + 1, len(scores))
                if scores[j] >= rule.on_threshold and times[j] - times[last] <= rule.merge_gap_s
            ]
            if not again:
                break
            last = again[0]
        if times[last] - times[i] >= rule.least_s:
            found.append((i, last))
            quiet_until = times[last] + rule.cool_down_s
        i = last + 1
    return found


@settings(max_examples=300, deadline=None)
@given(SERIES, RULES)
def test_streaming_finds_the_events_of_the_reference(
    series: tuple[np.ndarray, np.ndarray], rule: EventRule
) -> None:
    times, scores = series
    found = find(rule, frames(scores, times))
    assert [(e.first_frame, e.last_frame) for e in found] == reference(times, scores, rule)
    assert all(e.peak == scores[e.first_frame : e.last_frame + 1].max() == scores[e.peak_frame] for e in found)


@settings(max_examples=300, deadline=None)
@given(SERIES, RULES)
def test_events_are_ordered_apart_and_long_enough(series: tuple[np.ndarray, np.ndarray], rule: EventRule) -> None:
    found = find(rule, frames(series[1], series[0]))
    assert all(e.duration_s >= rule.least_s and e.first_frame <= e.peak_frame <= e.last_frame for e in found)
    for before, after in pairwise(found):
        assert before.last_frame < after.first_frame
        assert after.start_s - before.end_s > rule.merge_gap_s
        assert after.start_s - before.end_s >= rule.cool_down_s


def series(scores: np.ndarray | list[float], step_s: float = 1.0) -> ScoreSeries:
    return ScoreSeries(np.arange(len(scores)) * step_s, np.asarray(scores, dtype=float))


def spikes(*heights: int, length: int = 3600, floor: float = 1.0) -> ScoreSeries:
    """An hour of a frame a second with spikes far from each other."""
    scores = np.full(length, floor)
    scores[100 : 100 + 200 * len(heights) : 200] = heights
    return series(scores)


class TestThreshold:
    def test_with_room_for_k_alarms_it_stands_at_the_kth_highest(self) -> None:
        fitted = fit_event_threshold([spikes(9, 5, 8, 7, 6)], wanted_per_hour=4)
        assert (fitted.on_threshold, fitted.off_threshold) == (7, pytest.approx(5.6))
        assert (fitted.events_found, fitted.normal_hours, fitted.caveat) == (3, 1, None)
        assert fitted.wanted_per_hour == 4

    def test_all_footage_counts_together(self) -> None:
        footage = [spikes(9, 5), spikes(8, 7), spikes(6)]
        assert (
            fit_event_threshold(footage, wanted_per_hour=1).on_threshold == 8
        )  # 3 hours: 2 alarms and 1 in reserve

    def test_the_other_parts_of_the_rule_count(self) -> None:
        footage = [spikes(9, 8, 7, 6, 5)]
        assert fit_event_threshold(footage, 4, partial(EventRule, cool_down_s=250)).on_threshold == 5
        assert (
            fit_event_threshold(footage, 4, partial(EventRule, merge_gap_s=200)).on_threshold == 9
        )  # two last minutes
        lasting = fit_event_threshold(footage, 4, lambda on: EventRule(on, 0.5 * on, least_s=5))
        assert lasting.on_threshold == 5
        assert lasting.off_threshold == 2.5
        assert lasting.events_found == 0

    def test_an_alarm_without_end_is_no_single_alarm(self) -> None:
        """A slow change of the light is one event at every threshold, down to where all is one event."""
        hump = series(100 - np.abs(np.arange(3600) - 1800) / 18)
        fitted = fit_event_threshold([hump], wanted_per_hour=12)
        assert (fitted.events_found, fitted.caveat) == (1, None)
        assert fitted.on_threshold == pytest.approx(91, abs=1)  # from there down to 0.8 of it is 11 minutes

    def test_it_has_its_old_names_and_both_in_json(self) -> None:
        fitted = fit_event_threshold([spikes(9, 5, 8, 7, 6)], wanted_per_hour=4)
        with pytest.warns(FutureWarning, match=r"EventThreshold\.footage_hours is now called normal_hours"):
            assert fitted.footage_hours == fitted.normal_hours
        figures = fitted.figures()
        assert (figures["enter"], figures["leave"]) == (figures["on_threshold"], figures["off_threshold"])

    def test_footage_too_short_is_said_to_be(self) -> None:
        footage = [series(np.linspace(0, 4, 180))]
        fitted = fit_event_threshold(footage, wanted_per_hour=1)
        assert 4 < fitted.on_threshold < 4.001
        assert fitted.events_found == 0
        for words in (
            "1 false alarm an hour cannot be promised: 3 minutes of normal video were held out",
            "that rate takes 60, or 180 for 95 % confidence",
            "just above the highest score of that video",
            "about 20 false alarms an hour, and up to 60 with 95 % confidence",
        ):
            assert words in fitted.caveat

    def test_footage_for_just_one_alarm_stands_above_the_highest(self) -> None:
        fitted = fit_event_threshold([spikes(9, 5)], wanted_per_hour=1)
        assert 9 < fitted.on_threshold < 9.001
        assert fitted.caveat is None

    def test_scores_of_nothing_and_below_nothing_are_scores(self) -> None:
        assert fit_event_threshold([series(np.zeros(100))], 1).on_threshold > 0
        below = fit_event_threshold([series(np.linspace(-9, -5, 100))], 1)
        assert -5 < below.on_threshold < -4.999 and below.off_threshold < below.on_threshold

    @pytest.mark.parametrize("wanted", [0, -1, math.nan, math.inf])
    def test_a_rate_is_above_0(self, wanted: float) -> None:
        with pytest.raises(ConfigError, match="false alarms an hour cannot be held; give a rate above 0"):
            fit_event_threshold([spikes(2)], wanted)

    @pytest.mark.parametrize("footage", [[], [series([1.0])], [series([])]])
    def test_no_footage_is_an_error(self, footage: list[ScoreSeries]) -> None:
        with pytest.raises(ConfigError, match="no normal video is left"):
            fit_event_threshold(footage, 1)

    def test_days_of_footage_take_seconds(self) -> None:
        rng = np.random.default_rng(0)
        scores = np.convolve(rng.gamma(2, size=400_000), np.ones(5) / 5, mode="same")
        fitted = fit_event_threshold([series(scores, 0.04)], wanted_per_hour=10)
        assert 0.5 * 10 * fitted.normal_hours < fitted.events_found < 10 * fitted.normal_hours


def alarms(footage: list[ScoreSeries], rule: EventRule) -> tuple[int, int]:
    """As the streaming finder gives them, with one more for each full minute."""
    videos = [frames(s.scores, s.times_s, f"video {i}") for i, s in enumerate(footage)]
    found = find(rule, *videos)
    return sum(1 + int(event.duration_s // 60) for event in found), len(found)


@settings(max_examples=150, deadline=None)
@given(st.lists(SERIES, min_size=1, max_size=3), RULES, st.integers(1, 2000))
def test_the_threshold_is_the_lowest_that_streaming_and_the_rate_allow(
    several: list[tuple[np.ndarray, np.ndarray]], like: EventRule, wanted: int
) -> None:
    footage = [ScoreSeries(times, scores.astype(float)) for times, scores in several]
    hours = sum(t[-1] - t[0] + np.median(np.diff(t)) for t, _ in footage if len(t) > 1) / 3600
    if not hours:
        return

    def rule(enter: float) -> EventRule:
        return EventRule(enter, enter - 0.5, like.least_s, like.merge_gap_s, like.cool_down_s)

    fitted = fit_event_threshold(footage, wanted, rule)
    within = {
        enter: (alarms(footage, rule(enter))[0] + 1) / hours <= wanted * (1 + 1e-9)
        for enter in sorted({float(score) for s in footage for score in s.scores}, reverse=True)
    }
    allowed = []
    for enter, good in within.items():
        if not good:
            break
        allowed.append(enter)
    highest = max(within)
    assert fitted.on_threshold == allowed[-1] if allowed else highest < fitted.on_threshold < highest + 1e-3
    assert fitted.events_found == alarms(footage, rule(fitted.on_threshold))[1]
    assert (fitted.caveat is None) == (1 / hours <= wanted * (1 + 1e-9))


def test_the_logic_of_events_needs_no_torch() -> None:
    code = "import sys, memae.video.events; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
