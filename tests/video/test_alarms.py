import math

import numpy as np
import pytest

from memae.threshold import Threshold
from memae.video.alarms import VideoAlarms, event_figures, flag_figures, segments_of
from memae.video.evaluate import VideoEvaluation, VideoMeter
from memae.video.events import EventRule
from memae.video.frames import FrameKey
from memae.video.ground_truth import VideoTruth

RATE = 10  # frames a second


def video(labels: list[int], events: list[tuple[int, int]], flags: list[int] | None = None) -> VideoAlarms:
    """All frames scored, 10 a second."""
    frames = len(labels)
    return VideoAlarms(
        labels=np.array(labels, dtype=bool),
        edges_s=np.arange(frames + 1) / RATE,
        frames=np.arange(frames),
        flags=np.array(flags or [0] * frames, dtype=bool),
        events=np.array(events, np.int64).reshape(-1, 2),
    )


def test_segments_are_maximal_runs() -> None:
    assert segments_of(np.array([1, 1, 0, 1, 0, 0], dtype=bool)).tolist() == [[0, 1], [3, 3]]
    assert segments_of(np.zeros(3, dtype=bool)).tolist() == []


def test_figures_of_events_by_hand() -> None:
    videos = [
        video([0, 0, 0, 1, 1, 0, 0, 0, 1, 0], [(1, 3), (6, 6)]),  # found 0.2 s early; the second one missed
        video([0, 1, 1, 1], [(3, 3)]),  # found 0.2 s late
        video([0, 0, 0, 0], [(0, 1)]),
        video([1, 1, 0, 0], [(0, 0), (1, 3)]),  # two events on one segment: the first one counts
    ]
    found = event_figures(videos, seed=0)
    assert (found["events"], found["false_events"], found["segments_found"]) == (6, 2, 3)
    assert found["event_precision"].value == 4 / 6
    assert found["event_recall"].value == 3 / 4
    # normal frames: 7, 1, 4 and 2; of them inside events: 1, 2 and 6, none, 0 and 1, 2 and 3
    assert found["normal_time_in_events"].value == pytest.approx(7 / 14)
    assert found["normal_hours"] == pytest.approx(1.4 / 3600)
    assert found["false_events_per_hour"].value == pytest.approx(2 / 1.4 * 3600)
    assert found["onset_error_s"].value == pytest.approx(0)  # of -0.2, 0.2 and 0
    assert found["worst_onset_error_s"] == pytest.approx(-0.2)
    assert found["onset_error_s"].groups == 3
    assert math.isnan(found["event_recall"].low)


def test_one_event_over_two_segments_is_early_for_the_second() -> None:
    found = event_figures([video([0, 1, 0, 0, 0, 1, 0, 0], [(0, 7)])], seed=0)
    assert found["onset_error_s"].value == pytest.approx(-0.3)  # of -0.1 and -0.5
    assert found["worst_onset_error_s"] == pytest.approx(-0.5)


def test_without_a_found_segment_there_is_no_onset() -> None:
    found = event_figures([video([0, 0, 1], [(0, 0)]), video([0, 0], [])], seed=0)
    assert (found["onset_error_s"], found["worst_onset_error_s"]) == (None, None)
    silent = event_figures([video([0, 1], [])], seed=0)
    assert (silent["event_precision"], silent["onset_error_s"], silent["event_recall"].value) == (None, None, 0)
    assert silent["normal_time_in_events"].value == 0


@pytest.mark.parametrize("times", [[3, 0, 2, 1, 0, 2], [1] * 6])
def test_the_median_of_a_resample_is_that_of_its_copies(times: list[int]) -> None:
    generator = np.random.default_rng(5)
    videos = []
    for _ in times:
        labels = [0] * 12 + [1] * 4 + [0] * 12 + [1] * 4
        videos.append(video(labels, [(int(generator.integers(12)), 13), (int(generator.integers(17, 28)), 29)]))
    copies = [each for each, n in zip(videos, times, strict=True) for _ in range(n)]
    errors = np.concatenate([each.onset_errors_s() for each in copies])
    assert event_figures(copies, seed=0)["onset_error_s"].value == pytest.approx(np.median(errors))


def test_where_no_event_was_false_the_upper_end_is_that_of_a_poisson_rate() -> None:
    calm = [video([0] * 20, []) for _ in range(6)]
    rate = event_figures(calm, seed=0)["false_events_per_hour"]
    hours = 6 * 2 / 3600
    assert (rate.value, rate.low) == (0, 0)
    assert rate.high == pytest.approx(3.689 / hours, rel=1e-3)
    loud = [*calm[1:], video([0] * 20, [(3, 4)])]
    assert event_figures(loud, seed=0)["false_events_per_hour"].high < 4 / hours


def test_flagged_frames_by_hand() -> None:
    videos = [
        video([0, 0, 1, 1], [], [1, 0, 1, 0]),
        video([0, 0, 0, 0], [], [0, 0, 0, 1]),
        video([1, 1], [], [1, 1]),
    ]
    found = flag_figures(videos, seed=0)
    assert (found["normal_frames_flagged"].value, found["normal_frames_flagged"].groups) == (2 / 6, 2)
    assert (found["anomalous_frames_flagged"].value, found["anomalous_frames_flagged"].groups) == (3 / 4, 2)
    assert flag_figures([video([1, 1], [])], seed=0)["normal_frames_flagged"] is None


def test_frames_without_a_score_are_not_flagged_and_do_not_count() -> None:
    part = VideoAlarms(
        labels=np.array([0, 0, 1, 0], dtype=bool),
        edges_s=np.arange(5) / RATE,
        frames=np.array([1, 2]),
        flags=np.array([False, True]),
        events=np.empty((0, 2), np.int64),
    )
    assert part.flag_counts() == (1, 0, 1, 1)


CLIPS, BEFORE, AFTER = 6, 78, 22


def served(scores: np.ndarray) -> VideoEvaluation:
    """Six clips of 100 frames, the last 22 of them anomalous, that score alike."""
    labels = np.r_[np.zeros(BEFORE), np.ones(AFTER)].astype(bool)
    truth = VideoTruth("truth", {f"v{i}": labels for i in range(CLIPS)}, {})
    threshold = Threshold(0.01, np.linspace(0, 1, 99))
    meter = VideoMeter(truth, rule=EventRule(1.0), threshold=threshold)
    for name in truth.videos:
        for frame, score in enumerate(scores):
            meter.add(FrameKey(name, frame, frame / RATE), float(score), np.zeros((1, 1)))
    return meter.result()


def test_a_detector_that_is_always_on_is_exposed() -> None:
    """It has a precision and a recall of 1 and no false event, and is of no use."""
    useless = served(np.r_[np.full(BEFORE, 2.0), np.full(AFTER, 3.0)])
    assert useless.frame_auroc_micro.value == 1
    assert (useless.events, useless.event_precision.value, useless.event_recall.value) == (CLIPS, 1, 1)
    assert (useless.event_f1.value, useless.false_events, useless.false_events_per_hour.value) == (1, 0, 0)
    assert useless.normal_frames_flagged.value == 1
    assert useless.normal_time_in_events.value == 1
    assert useless.onset_error_s.value == useless.worst_onset_error_s == pytest.approx(-7.8)
    rows = {name: (value, interval) for name, value, interval, _ in useless.table().rows}
    assert rows["normal frames flagged (wanted 0.01)"] == ("1.0000", "1.0000 to 1.0000")
    assert rows["normal seconds inside events"] == ("1.0000", "1.0000 to 1.0000")
    assert rows["onset error, s: median (negative = early)"] == ("-7.8", "-7.8 to -7.8")
    figures = useless.figures()
    assert figures["normal_frames_flagged"]["value"] == 1
    assert figures["worst_onset_error_s"] == pytest.approx(-7.8)


def test_a_good_detector_differs_from_it_in_just_these_figures() -> None:
    good = served(np.r_[np.full(BEFORE, 0.5), np.full(AFTER, 3.0)])
    assert (good.event_precision.value, good.event_recall.value, good.false_events) == (1, 1, 0)
    assert good.normal_frames_flagged.value == good.normal_time_in_events.value == 0
    assert good.anomalous_frames_flagged.value == 1
    assert good.onset_error_s.value == good.worst_onset_error_s == 0
