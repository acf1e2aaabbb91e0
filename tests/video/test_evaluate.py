import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from memae.errors import DataError
from memae.metrics import Estimate, intervals
from memae.threshold import Threshold
from memae.video import alarms as of_alarms
from memae.video import figures as of_video
from memae.video.evaluate import VideoEvaluation, VideoMeter, per_video_min_max
from memae.video.events import EventRule
from memae.video.frames import FrameKey
from memae.video.ground_truth import VideoTruth

FIGURES = (
    "frame_auroc_micro",
    "frame_auroc_micro_min_max",
    "frame_auroc_macro",
    "pixel_auroc",
    "rbdc",
    "tbdc",
    "event_precision",
    "event_recall",
    "event_f1",
    "normal_time_in_events",
    "false_events_per_hour",
    "onset_error_s",
    "normal_frames_flagged",
    "anomalous_frames_flagged",
)


class InMemory:
    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def read(self, frame: int) -> Any:
        return self.values[frame]


def masked(has_track_ids: bool = False, **videos: Any) -> VideoTruth:
    labels = {name: values.any(axis=(1, 2)) for name, values in videos.items()}
    return VideoTruth("truth", labels, {name: InMemory(v) for name, v in videos.items()}, has_track_ids)


def labelled(**videos: np.ndarray | list[int]) -> VideoTruth:
    return VideoTruth("truth", {name: np.array(labels, dtype=bool) for name, labels in videos.items()}, {})


def metered(
    truth: VideoTruth,
    *,
    scores: dict[str, Any] | None = None,
    maps: dict[str, np.ndarray] | None = None,
    regions: dict[tuple[str, int], list[tuple[int, int, int, int, float]]] | None = None,
    events: list[tuple[str, int, int]] | None = None,
    threshold: Threshold | None = None,
    seed: int = 0,
) -> VideoEvaluation:
    """A meter that saw every frame: scores and maps by video, regions by (video, frame), 25 frames a second."""
    meter = VideoMeter(truth, threshold=threshold, seed=seed)
    for video, labels in truth.labels.items():
        for frame in range(len(labels)):
            meter.add(
                FrameKey(video, frame, frame / 25),
                scores[video][frame] if scores else 0.0,
                maps[video][frame] if maps else np.zeros((2, 2), np.float32),
                (regions or {}).get((video, frame), ()),
            )
    if events is not None:
        meter.add_events(events)
    return meter.result()


def boxes_mask(*boxes: tuple[int, int, int, int], size: tuple[int, int] = (40, 40)) -> np.ndarray:
    mask = np.zeros(size, np.uint8)
    for left, top, right, bottom in boxes:
        mask[top:bottom, left:right] = 1
    return mask


BOX = (0, 0, 10, 10)
FAR = (20, 20, 30, 30)


# Frames


def test_min_max_scales_each_video_alone() -> None:
    scaled = per_video_min_max({"a": np.array([2.0, 4.0, 3.0]), "b": np.array([5.0, 5.0]), "c": np.empty(0)})
    assert scaled["a"].tolist() == [0, 1, 0.5]
    assert scaled["b"].tolist() == [0, 0]
    assert scaled["c"].tolist() == []


def drawn(
    videos: int = 6, seed: int = 0, decimals: int = 2
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Labels and scores of videos at different levels; the first is all normal, the last all anomalous."""
    generator = np.random.default_rng(seed)
    labels = {f"v{i}": generator.random(20 + 5 * i) < 0.4 for i in range(videos)}
    labels["v0"][:], labels[f"v{videos - 1}"][:] = False, True
    scores = {
        video: np.round(generator.normal(size=len(of_video)) + of_video + 3 * generator.random(), decimals)
        for video, of_video in labels.items()
    }
    return labels, scores


@pytest.mark.parametrize("decimals", [0, 2, 12])
def test_frame_figures_are_those_of_scikit_learn(monkeypatch: pytest.MonkeyPatch, decimals: int) -> None:
    monkeypatch.setattr(intervals, "CHUNK_CELLS", 60)  # so that the resamples come in several parts
    labels, scores = drawn(decimals=decimals)
    result = metered(labelled(**labels), scores=scores)
    truth = np.concatenate(list(labels.values()))
    assert result.frame_auroc_micro.value == pytest.approx(
        roc_auc_score(truth, np.concatenate([*scores.values()]))
    )
    scaled = np.concatenate([(s - s.min()) / (s.max() - s.min()) for s in scores.values()])
    assert result.frame_auroc_micro_min_max.value == pytest.approx(roc_auc_score(truth, scaled))
    within = [roc_auc_score(labels[v], scores[v]) for v in labels if 0 < labels[v].mean() < 1]
    assert result.frame_auroc_macro.value == pytest.approx(np.mean(within))
    assert (result.macro_videos, result.videos) == (4, 6)
    assert (result.frames, result.anomalous_frames, result.unscored_frames) == (len(truth), truth.sum(), 0)
    assert (result.masked_videos, result.regions, result.tracks, result.derived_tracks) == (0, 0, 0, False)
    for name in ("pixel_auroc", "rbdc", "tbdc", "events", "event_precision", "false_events_per_hour"):
        assert getattr(result, name) is None


def test_min_max_of_a_video_does_not_move_the_auroc_within_it() -> None:
    labels, scores = drawn()
    plain = metered(labelled(**labels), scores=scores)
    scaled = metered(labelled(**labels), scores=per_video_min_max(scores))
    assert scaled.frame_auroc_macro == plain.frame_auroc_macro
    assert scaled.frame_auroc_micro == plain.frame_auroc_micro_min_max


def test_frames_without_a_score_are_left_out_and_counted() -> None:
    meter = VideoMeter(labelled(a=[0, 0, 1, 1, 0], b=[1]))
    meter.add(FrameKey("b", 0, 0.0), 0.5, np.zeros((1, 1)))
    for frame, score in ((1, 0.1), (2, 0.9), (4, 0.7)):
        meter.add(FrameKey("a", frame, 0.0), score, np.zeros((1, 1)))
    result = meter.result()
    assert (result.frames, result.anomalous_frames, result.unscored_frames) == (4, 2, 2)
    assert result.frame_auroc_micro.value == 0.75
    assert result.frame_auroc_macro.value == 1


def test_frames_of_one_kind_have_no_auroc() -> None:
    result = metered(labelled(a=[0, 0], b=[0]), scores={"a": [1, 2], "b": [3]}, events=[("a", 0, 0)])
    assert result.frame_auroc_micro is None
    assert result.frame_auroc_micro_min_max is None
    assert result.frame_auroc_macro is None
    assert result.event_recall is None
    assert result.event_f1 is None
    assert result.event_precision.value == 0


# Pixels


@pytest.mark.parametrize("spread", [1, 30], ids=["one octave", "many octaves"])
def test_pixel_auroc_is_exact_to_the_width_of_a_bin(spread: int) -> None:
    generator = np.random.default_rng(0)
    masks: dict[str, Any] = {video: generator.random((4, 12, 15)) < 0.2 for video in "ab"}
    maps = {
        video: (generator.random(m.shape) ** spread * (1 + 0.3 * m)).astype(np.float32)
        for video, m in masks.items()
    }
    truth, errors = np.concatenate([m.ravel() for m in masks.values()]), np.concatenate([*maps.values()]).ravel()
    found = metered(masked(**masks), maps=maps)
    assert found.pixel_auroc.value == pytest.approx(roc_auc_score(truth, errors), abs=2e-3)
    coarse = {video: (m.view(np.uint32) & np.uint32(0xFFFF8000)).view(np.float32) for video, m in maps.items()}
    exact = roc_auc_score(truth, np.concatenate([*coarse.values()]).ravel())
    assert found.pixel_auroc.value == pytest.approx(exact, abs=1e-12)
    assert metered(masked(**masks), maps=coarse).pixel_auroc.value == pytest.approx(exact, abs=1e-12)


def test_errors_below_nothing_are_in_order_too() -> None:
    """Errors in spreads above what is normal at a place are negative as often as not."""
    generator = np.random.default_rng(0)
    mask = generator.random((4, 12, 15)) < 0.2
    errors = (generator.normal(size=mask.shape) + mask - 0.5).astype(np.float32)
    found = metered(masked(a=mask), maps={"a": errors}).pixel_auroc.value
    assert found == pytest.approx(roc_auc_score(mask.ravel(), errors.ravel()), abs=2e-3)
    assert metered(masked(a=mask), maps={"a": -errors}).pixel_auroc.value == pytest.approx(1 - found, abs=1e-12)
    extreme = np.array([[-3e38, -1.0, -1e-20, 0.0, 1e-20, 1.0, 3e38]], np.float32)
    for place in range(1, 7):
        above = np.arange(7)[None] >= place
        assert metered(masked(a=above[None]), maps={"a": extreme[None]}).pixel_auroc.value == 1


def test_extreme_errors_have_a_bin() -> None:
    errors = np.array([[-0.0, 0.0, 1e-45, 1e-20, np.finfo(np.float32).max]], np.float32)
    mask = np.array([[0, 0, 1, 1, 1]], bool)
    # 1e-45 falls in the bin of 0: it ties with both zeros, so 4 pairs of 6 are won and 2 are drawn
    assert metered(masked(a=mask[None]), maps={"a": errors[None]}).pixel_auroc.value == 5 / 6
    mask = np.array([[1, 0, 1, 0, 0]], bool)
    assert metered(masked(a=mask[None]), maps={"a": errors[None]}).pixel_auroc.value == 1 / 6


def test_a_map_of_another_size_is_resized_to_the_mask() -> None:
    mask = np.zeros((6, 8), bool)
    mask[:, 4:] = True
    for errors, value in (([[1, 9]], 1), ([[9, 1]], 0), ([[3, 3]], 0.5)):
        assert metered(masked(a=mask[None]), maps={"a": np.array([errors])}).pixel_auroc.value == value
    tall = np.zeros((6, 8), bool)
    tall[3:] = True
    tall_errors = np.repeat(np.repeat(tall, 4, axis=0), 4, axis=1).astype(np.float64)
    assert metered(masked(a=tall[None]), maps={"a": tall_errors[None]}).pixel_auroc.value == 1


def test_masks_of_one_kind_have_no_pixel_auroc_and_no_regions() -> None:
    result = metered(masked(a=np.zeros((2, 3, 3))), regions={("a", 0): [(0, 0, 2, 2, 1.0)]})
    assert (result.pixel_auroc, result.rbdc, result.tbdc) == (None, None, None)
    assert (result.masked_videos, result.regions, result.tracks) == (1, 0, 0)


# Regions and tracks


def one_video(
    masks: list[np.ndarray] | tuple[np.ndarray, ...],
    detections: list[tuple[int, tuple[int, int, int, int], float]],
) -> VideoEvaluation:
    """RBDC and TBDC of a video with these masks, from detections (frame, box, score)."""
    regions: dict[tuple[str, int], list[Any]] = {}
    for frame, box, score in detections:
        regions.setdefault(("a", frame), []).append((*box, score))
    return metered(masked(a=np.stack(masks)), regions=regions)


def areas(
    masks: list[np.ndarray], detections: list[tuple[int, tuple[int, int, int, int], float]]
) -> tuple[float, float]:
    result = one_video(masks, detections)
    return result.rbdc.value, result.tbdc.value


NOTHING, ONE = boxes_mask(), boxes_mask(BOX)


def test_the_area_below_a_curve_of_known_steps() -> None:
    detections = [(0, BOX, 0.9), (2, FAR, 0.8), (1, BOX, 0.7), (3, FAR, 0.6)]
    # (0, 1/2) at 0.9, (1/4, 1/2) at 0.8, (1/4, 1) at 0.7, (1/2, 1) at 0.6, and on at that height to 1
    assert areas([ONE, ONE, NOTHING, NOTHING], detections) == (1 / 4 * 1 / 2 + 3 / 4, 1)


def test_perfect_detections_and_none() -> None:
    assert areas([ONE, NOTHING], [(0, BOX, 0.1)]) == (1, 1)
    assert areas([ONE, NOTHING], []) == (0, 0)
    assert areas([ONE, NOTHING], [(1, BOX, 0.9)]) == (0, 0)


def test_the_curve_ends_where_there_is_one_false_region_a_frame() -> None:
    false = [(1, FAR, 0.9), (1, FAR, 0.8), (1, FAR, 0.7)]
    assert areas([ONE, NOTHING], [*false, (0, BOX, 0.95)])[0] == 1
    assert areas([ONE, NOTHING], [*false, (0, BOX, 0.85)])[0] == 0.5
    assert areas([ONE, NOTHING], [*false, (0, BOX, 0.75)])[0] == 0
    assert areas([ONE, NOTHING], [*false, (0, BOX, 0.65)])[0] == 0


def test_regions_of_equal_score_come_as_one_point() -> None:
    assert areas([ONE, NOTHING], [(1, FAR, 0.5), (0, BOX, 0.5)])[0] == 0.25 + 0.5
    # straight from (0, 0) to (2, 1): cut at 1, where the height is 1/2
    assert areas([ONE], [(0, FAR, 0.5), (0, FAR, 0.5), (0, BOX, 0.5)])[0] == 0.25


@pytest.mark.parametrize(("box", "found"), [((0, 0, 10, 1), 1), ((0, 0, 9, 1), 0), ((0, 0, 25, 40), 1)])
def test_an_overlap_of_one_tenth_is_enough(box: tuple[int, int, int, int], found: int) -> None:
    assert areas([ONE], [(0, box, 0.5)]) == (found, found)


def test_too_large_a_box_is_a_false_positive() -> None:
    result = areas([ONE, NOTHING], [(0, (0, 0, 26, 40), 0.9), (0, BOX, 0.8)])
    assert result == (0.5, 0.5)


def test_one_box_may_find_two_regions_and_a_second_box_on_them_is_neither_true_nor_false() -> None:
    masks = [boxes_mask((0, 0, 10, 10), (11, 0, 21, 10)), NOTHING]
    assert areas(masks, [(0, (0, 0, 21, 10), 0.9), (0, BOX, 0.8), (0, BOX, 0.7)]) == (1, 1)
    result = one_video(masks, [(0, BOX, 0.9), (1, FAR, 0.8), (0, (0, 0, 21, 10), 0.7)])
    assert (result.regions, result.tracks) == (2, 2)
    assert result.rbdc.value == result.tbdc.value == 1 / 2 * 1 / 2 + 1 / 2


def test_regions_touch_at_corners_and_count_by_their_bounding_box() -> None:
    staircase = np.eye(10, dtype=np.uint8)
    result = one_video([staircase], [(0, (0, 0, 10, 10), 0.9)])
    assert (result.regions, result.rbdc.value) == (1, 1)
    assert one_video([staircase], [(0, (0, 0, 3, 3), 0.9)]).rbdc.value == 0


@pytest.mark.parametrize(("regions", "needed"), [(9, 1), (10, 1), (11, 2), (20, 2), (30, 3), (31, 4)])
def test_a_track_counts_from_one_tenth_of_its_regions_on(regions: int, needed: int) -> None:
    masks = [ONE] * regions
    assert areas(masks, [(frame, BOX, 0.5) for frame in range(needed)])[1] == 1
    assert areas(masks, [(frame, BOX, 0.5) for frame in range(needed - 1)])[1] == 0


def test_a_track_is_found_at_the_score_of_the_region_that_completes_its_tenth() -> None:
    masks = [ONE] * 11 + [NOTHING]
    detections = [(4, BOX, 0.9), (11, FAR, 0.8), (3, BOX, 0.7), (2, BOX, 0.6)]
    assert areas(masks, detections)[1] == pytest.approx(11 / 12)


def test_tracks_without_ids_are_regions_that_share_a_pixel_with_the_next_frame() -> None:
    left, right = (0, 0, 5, 5), (10, 0, 15, 5)

    def tracks(*masks: np.ndarray) -> int:
        return one_video(masks, []).tracks

    assert tracks(boxes_mask(left), boxes_mask((4, 4, 9, 9))) == 1
    assert tracks(boxes_mask(left), boxes_mask((5, 5, 9, 9))) == 2
    assert tracks(boxes_mask(left, right), boxes_mask(left, right)) == 2
    assert tracks(boxes_mask(left), NOTHING, boxes_mask(left)) == 2
    both = boxes_mask((0, 0, 15, 5))
    assert tracks(boxes_mask(left, right), both) == 1
    assert tracks(both, boxes_mask(left, right)) == 1
    assert tracks(boxes_mask(left, right), both, boxes_mask(left, right), boxes_mask(right)) == 1
    third = (30, 0, 35, 5)
    assert tracks(boxes_mask(left, right, third), boxes_mask((0, 0, 15, 5), third)) == 2
    assert one_video([ONE], []).derived_tracks


def test_a_frame_that_was_not_scored_breaks_a_derived_track() -> None:
    meter = VideoMeter(masked(a=np.stack([ONE, ONE, ONE])))
    for frame in (0, 2):
        meter.add(FrameKey("a", frame, 0.0), 0.0, ONE)
    result = meter.result()
    assert (result.regions, result.tracks) == (2, 2)


def test_values_of_masks_are_the_ids_of_tracks() -> None:
    first, second = boxes_mask(BOX) * np.uint16(300), boxes_mask(FAR) * np.uint16(7)
    parted = boxes_mask((0, 0, 2, 2), (8, 8, 10, 10)) * np.uint16(7)  # one region in two pieces
    masks = np.stack([first + second, NOTHING, parted])
    regions = {("a", 2): [(*BOX, 0.5)]}
    result = metered(masked(has_track_ids=True, a=masks, b=masks[:1]), regions=regions)
    assert (result.regions, result.tracks, result.derived_tracks) == (5, 4, False)
    assert (result.rbdc.value, result.tbdc.value) == (1 / 5, 1 / 4)
    full = metered(masked(has_track_ids=True, a=np.full((1, 4, 4), 5)), regions={("a", 0): [(0, 0, 4, 4, 1)]})
    assert (full.regions, full.rbdc.value) == (1, 1)


def test_frames_of_videos_without_masks_do_not_count_for_regions() -> None:
    truth = masked(a=np.stack([ONE, NOTHING]))
    truth = VideoTruth("truth", {**truth.labels, "b": np.zeros(8, bool)}, truth.masks)
    result = metered(
        truth, regions={("a", 1): [(*FAR, 0.9)], ("a", 0): [(*BOX, 0.8)], ("b", 0): [(0, 0, 9, 9, 1)]}
    )
    assert result.rbdc.value == 0.5
    assert (result.masked_videos, result.videos) == (1, 2)


def iou(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> float:
    shared = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def curves_by_the_letter(
    true: list[tuple[int, tuple[int, int, int, int], int]],
    detected: list[tuple[int, tuple[int, int, int, int], float]],
    frames: int,
) -> list[float]:
    """RBDC and TBDC threshold by threshold, from true (frame, box, track) and detected (frame, box, score)."""
    points = [(0.0, 0.0, 0.0)]
    for threshold in sorted({score for *_, score in detected}, reverse=True):
        kept = [(frame, box) for frame, box, score in detected if score >= threshold]
        hits = [any(f == frame and iou(b, box) >= 0.1 for f, b in kept) for frame, box, _ in true]
        false = sum(not any(f == frame and iou(b, box) >= 0.1 for f, b, _ in true) for frame, box in kept)
        tracks: dict[int, list[bool]] = {track: [] for *_, track in true}
        for hit, (*_, track) in zip(hits, true, strict=True):
            tracks[track].append(hit)
        found = np.mean([sum(of_track) / len(of_track) >= 0.1 for of_track in tracks.values()])
        points.append((false / frames, float(np.mean(hits)), float(found)))
    x, *curves = np.array(points).T
    grid = np.union1d(x[x <= 1], [0.0, 1.0])
    results = []
    for y in curves:
        # between two grid points the curve is straight; at a step the upper end counts to the right
        upper = [y[x <= g].max() if g in x else np.interp(g, x, y) for g in grid]
        lower = [y[x >= g].min() if (x >= g).any() else y[-1] for g in grid]
        lower = [low if g in x else up for low, up, g in zip(lower, upper, grid, strict=True)]
        results.append(
            sum((b - a) * (u + v) / 2 for a, b, u, v in zip(grid, grid[1:], upper, lower[1:], strict=False))
        )
    return results


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("decimals", "each"), [(6, 1), (6, 4), (1, 2)], ids=["few", "many false", "ties"])
def test_regions_and_tracks_by_the_letter(seed: int, decimals: int, each: int) -> None:
    generator = np.random.default_rng(seed)
    frames, masks = 12, np.zeros((12, 60, 60), np.uint8)
    true: list[Any] = []
    detected: list[Any] = []
    regions: dict[tuple[str, int], list[Any]] = {}
    for frame in range(frames):
        for track in range(1, 3):
            if generator.random() < 0.6:
                left, top = (30 * (track - 1) + generator.integers(0, 15), generator.integers(0, 40))
                box = (left, top, left + 10, top + 12)
                masks[frame, top : top + 12, left : left + 10] = track
                true.append((frame, box, track))
        for _ in range(generator.poisson(each)):
            near = [box for f, box, _ in true if f == frame]
            left, top = near[0][:2] if near and generator.random() < 0.4 else generator.integers(0, 40, 2)
            box = (left, top, left + generator.integers(4, 20), top + generator.integers(4, 20))
            detected.append((frame, box, np.round(generator.random(), decimals)))
            regions.setdefault(("a", frame), []).append((*box, detected[-1][2]))
    result = metered(masked(has_track_ids=True, a=masks), regions=regions)
    assert [result.rbdc.value, result.tbdc.value] == pytest.approx(curves_by_the_letter(true, detected, frames))


# Events


def test_an_event_is_true_if_it_overlaps_an_anomalous_segment() -> None:
    truth = labelled(a=[0, 1, 1, 0, 0, 1, 0, 0], b=[1, 0, 0, 1], c=[0] * 6)
    events = [("a", 0, 1), ("a", 2, 3), ("a", 6, 7), ("b", 0, 3), ("c", 0, 0)]
    result = metered(truth, events=events)
    assert (result.segments, result.events) == (4, 5)
    precision, recall = 3 / 5, 3 / 4
    assert result.event_precision.value == precision
    assert result.event_recall.value == recall
    assert result.event_f1.value == pytest.approx(2 * precision * recall / (precision + recall))
    assert (result.segments_found, result.false_events) == (3, 2)
    assert result.normal_hours == pytest.approx(13 / 25 / 3600)  # 18 frames, 5 of them anomalous
    assert result.false_events_per_hour.value == pytest.approx(2 / (13 / 25 / 3600))


def test_no_alarm_at_all_is_a_result_and_no_word_of_alarms_is_none() -> None:
    truth = labelled(a=[0, 1], b=[1])
    silent = metered(truth, events=[])
    assert (silent.events, silent.event_precision, silent.event_recall.value, silent.event_f1.value) == (
        0,
        None,
        0,
        0,
    )
    untold = metered(truth)
    assert (untold.events, untold.event_precision, untold.event_recall, untold.event_f1) == (
        None,
        None,
        None,
        None,
    )
    assert untold.false_events_per_hour is None
    missed = metered(truth, events=[("a", 0, 0)])
    assert (missed.event_precision.value, missed.event_recall.value, missed.event_f1.value) == (0, 0, 0)


def test_hours_follow_the_times_of_the_frames() -> None:
    def rate(**times: tuple[float, float]) -> Estimate | None:
        meter = VideoMeter(labelled(**{video: [0] * 10 for video in times}))
        for video, (start, step) in times.items():
            for frame in range(2, 8):
                meter.add(FrameKey(video, frame, start + step * frame), 0.0, np.zeros((1, 1)))
        meter.add_events([("a", 0, 0)])
        return meter.result().false_events_per_hour

    assert rate(a=(5.0, 36.0)).value == pytest.approx(10)
    assert rate(a=(5.0, 36.0), b=(0.0, 108.0)).value == pytest.approx(2.5)
    assert rate(a=(5.0, 0.0)) is None
    assert rate(a=(5.0, 36.0), b=(math.nan, 1.0)) is None


# Intervals


def scene(
    seed: int = 3, videos: int = 5
) -> tuple[
    dict[str, np.ndarray],
    dict[str, np.ndarray],
    dict[str, np.ndarray],
    dict[tuple[str, int], list[tuple[int, int, int, int, float]]],
    list[tuple[str, int, int]],
]:
    """A test set with everything in it, as keyword arguments of `metered` for some of its videos."""
    generator = np.random.default_rng(seed)
    masks, scores, maps, regions, events = {}, {}, {}, {}, []
    for i in range(videos):
        video = f"v{i}"
        frames = 8 + i
        masks[video] = np.stack([ONE if i != 1 and generator.random() < 0.5 else NOTHING for _ in range(frames)])
        anomalous = masks[video].any(axis=(1, 2))
        scores[video] = np.round(generator.normal(size=frames) + anomalous, 1)
        maps[video] = (generator.random((frames, 40, 40)) + masks[video] / 2).astype(np.float32)
        for frame in range(frames):
            boxes = [box for box in (BOX, FAR) if generator.random() < 0.5]
            regions[video, frame] = [(*box, np.round(generator.random(), 1)) for box in boxes]
        events += [(video, k, k) for k in generator.integers(frames, size=i)]
    return masks, scores, maps, regions, events


def repeated(
    parts: tuple[
        dict[str, np.ndarray],
        dict[str, np.ndarray],
        dict[str, np.ndarray],
        dict[tuple[str, int], list[tuple[int, int, int, int, float]]],
        list[tuple[str, int, int]],
    ],
    times: np.ndarray | list[int],
) -> dict[str, Any]:
    """The same test set with each video so many times in it."""
    masks, scores, maps, regions, events = parts
    copies = [(video, f"{video}_{k}") for video, n in zip(masks, times, strict=True) for k in range(n)]
    return {
        "truth": masked(False, **{copy: masks[video] for video, copy in copies}),
        "scores": {copy: scores[video] for video, copy in copies},
        "maps": {copy: maps[video] for video, copy in copies},
        "regions": {(copy, f): boxes for video, copy in copies for (v, f), boxes in regions.items() if v == video},
        "events": [(copy, start, end) for video, copy in copies for v, start, end in events if v == video],
    }


def draws_of_videos(videos: int, resamples: int, seed: int) -> list[np.ndarray]:
    """How often each resample holds each video."""
    drawn = np.random.default_rng(seed).integers(videos, size=(resamples, videos))
    return [np.bincount(one, minlength=videos) for one in drawn]


@pytest.mark.parametrize("cells", [1 << 20, 150], ids=["at once", "in parts"])
def test_intervals_are_those_of_whole_videos_drawn_again(monkeypatch: pytest.MonkeyPatch, cells: int) -> None:
    monkeypatch.setattr(of_video, "RESAMPLES", 25)
    monkeypatch.setattr(of_alarms, "RESAMPLES", 25)
    monkeypatch.setattr(intervals, "CHUNK_CELLS", cells)
    parts, threshold = scene(videos=8), Threshold(0.1, np.array([1.0]))
    result = metered(**repeated(parts, [1] * 8), threshold=threshold, seed=11)
    draws = draws_of_videos(8, 25, seed=11)
    again = [metered(**repeated(parts, times), threshold=threshold) for times in draws]
    for name in FIGURES:
        values = [getattr(one, name).value for one in again if getattr(one, name) is not None]
        estimate = getattr(result, name)
        assert len(values) > 20
        assert (estimate.low, estimate.high) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975]))), name


def test_intervals_follow_the_seed() -> None:
    parts = repeated(scene(), [1] * 5)
    assert metered(**parts, seed=1) == metered(**parts, seed=1)
    assert metered(**parts, seed=1) != metered(**parts, seed=2)


def test_fewer_than_five_videos_have_no_interval() -> None:
    result = metered(**repeated(scene(), [1] * 5))
    assert not math.isnan(result.rbdc.low)
    result = metered(**repeated(scene(), [1, 0, 1, 1, 1]), threshold=Threshold(0.1, np.array([1.0])))
    for name in FIGURES:
        assert getattr(result, name).groups <= 4, name
        assert math.isnan(getattr(result, name).low), name
        assert math.isnan(getattr(result, name).high), name
        assert not math.isnan(getattr(result, name).value), name


def test_videos_that_do_not_bear_on_a_figure_do_not_count_for_its_interval() -> None:
    kinds = [[0, 1], [0, 1], [0, 0], [1, 1], [0, 1], [0, 1]]
    videos = {f"v{i}": labels for i, labels in enumerate(kinds)}
    scores = {video: [1, 2] for video in videos}
    events = [("v0", 1, 1), ("v1", 0, 0), ("v2", 0, 0)]
    result = metered(labelled(**videos), scores=scores, events=events, threshold=Threshold(0.1, np.array([1.5])))
    behind = {name: getattr(result, name).groups for name in FIGURES if getattr(result, name)}
    assert behind == {
        "frame_auroc_micro": 6,
        "frame_auroc_micro_min_max": 6,
        "frame_auroc_macro": 4,
        "event_precision": 3,
        "event_recall": 5,
        "event_f1": 5,
        "normal_time_in_events": 5,
        "false_events_per_hour": 5,
        "onset_error_s": 1,
        "normal_frames_flagged": 5,
        "anomalous_frames_flagged": 5,
    }
    assert math.isnan(result.frame_auroc_macro.low)
    assert not math.isnan(result.event_recall.low)


def test_very_many_regions_get_fewer_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_video, "RESAMPLES", 40)
    monkeypatch.setattr(of_video, "FEWEST_RESAMPLES", 30)
    monkeypatch.setattr(of_video, "SORTED_CELLS", 10)
    parts = scene()
    result = metered(**repeated(parts, [1] * 5))
    draws = draws_of_videos(5, 30, seed=0)
    values = [metered(**repeated(parts, times)).rbdc for times in draws]
    ends = np.quantile([v.value for v in values if v is not None], [0.025, 0.975])
    assert (result.rbdc.low, result.rbdc.high) == pytest.approx(tuple(ends))


# What the meter refuses


@pytest.mark.parametrize(
    ("key", "score", "errors", "regions", "message"),
    [
        (("x", 0), 1, None, (), "frame 0 of video 'x': truth has no such video; it has 'a', 'b'"),
        (("a", 2), 1, None, (), "frame 2 of video 'a': truth labels 2 frames of it"),
        (("a", -1), 1, None, (), "frame -1 of video 'a': truth labels 2 frames of it"),
        (("a", 0), math.nan, None, (), "the score is nan; scores must be finite"),
        (("a", 0), math.inf, None, (), "the score is inf; scores must be finite"),
        (("a", 0), 1, np.zeros(3), (), r"the error map has the shape \(3,\); give \(height, width\)"),
        (("a", 0), 1, np.zeros((0, 3)), (), r"the error map has the shape \(0, 3\)"),
        (("a", 0), 1, np.full((2, 2), np.nan), (), "the error map holds values that are not finite"),
        (("a", 0), 1, np.full((2, 2), -np.inf), (), "not finite; give finite numbers"),
        (("a", 0), 1, None, [(0, 0, 1, 1)], "a region is five finite numbers: left, top, right, bottom, score"),
        (("a", 0), 1, None, [(0, 0, 1, 1, math.nan)], "a region is five finite numbers"),
        (
            ("a", 0),
            1,
            None,
            [(3, 0, 3, 1, 1)],
            r"region \(3, 0, 3, 1\) is empty or reaches beyond its mask of 40 x 40",
        ),
        (("a", 0), 1, None, [(0, 5, 3, 4, 1)], "is empty or reaches beyond"),
        (("a", 0), 1, None, [(-1, 0, 3, 4, 1)], "is empty or reaches beyond"),
        (("a", 0), 1, None, [(0, 0, 41, 4, 1)], "masks and regions must be in px of the video"),
    ],
)
def test_bad_frames_say_what_is_wrong(
    key: tuple[str, int],
    score: float,
    errors: np.ndarray | None,
    regions: list[tuple[float, ...]] | tuple[Any, ...],
    message: str,
) -> None:
    meter = VideoMeter(masked(a=np.stack([ONE, NOTHING]), b=ONE[None]))
    with pytest.raises(DataError, match=message):
        meter.add(FrameKey(*key, 0.0), score, np.zeros((2, 2)) if errors is None else errors, regions)


def test_frames_come_in_order_and_videos_in_one_piece() -> None:
    meter = VideoMeter(labelled(a=[0, 1, 0], b=[1]))
    meter.add(FrameKey("a", 1, 0.0), 1.0, np.zeros((1, 1)))
    with pytest.raises(
        DataError, match="frame 1 of video 'a': comes after frame 1; give each frame once and in order"
    ):
        meter.add(FrameKey("a", 1, 0.0), 1.0, np.zeros((1, 1)))
    with pytest.raises(DataError, match="truth: video 'b' is labelled and none of its frames was scored"):
        meter.result()
    meter.add(FrameKey("b", 0, 0.0), 1.0, np.zeros((1, 1)))
    with pytest.raises(DataError, match="frame 2 of video 'a': comes after another video"):
        meter.add(FrameKey("a", 2, 0.0), 1.0, np.zeros((1, 1)))
    assert repr(meter.result()) == repr(meter.result())


def test_a_result_on_the_way_changes_nothing() -> None:
    masks = np.stack([boxes_mask(BOX, FAR), boxes_mask((0, 0, 30, 30)), ONE])
    asked, unasked = VideoMeter(masked(a=masks)), VideoMeter(masked(a=masks))
    for frame, tracks in enumerate((2, 1, 1)):
        for meter in (asked, unasked):
            meter.add(FrameKey("a", frame, 0.0), frame, np.full((2, 2), frame), [(*BOX, frame)])
        assert (asked.result().regions, asked.result().tracks) == (frame + 2, tracks)
    assert repr(asked.result()) == repr(unasked.result())


def test_a_rule_finds_the_events_in_the_scores() -> None:
    truth = labelled(a=[0, 0, 1, 1, 0, 0], b=[0, 1, 0])
    scores = {"a": [0, 0, 5, 4, 0, 0], "b": [0, 0, 6]}
    rule = EventRule(5, 3, merge_gap_s=0)

    def add(meter: VideoMeter, video: str) -> None:
        for frame, score in enumerate(scores[video]):
            meter.add(FrameKey(video, frame, frame / 25), score, np.zeros((1, 1)))

    meter = VideoMeter(truth, rule=rule)
    add(meter, "a")
    add(meter, "b")
    found = meter.result()
    assert repr(found) == repr(meter.result())
    assert (found.on_threshold, found.off_threshold) == (5, 3)
    told = metered(truth, scores=scores, events=[("b", 2, 2), ("a", 2, 3)])
    assert repr(told) == repr(replace(found, on_threshold=None, off_threshold=None))


def test_a_result_is_a_dict_for_json_and_a_table_for_people() -> None:
    found = metered(**repeated(scene(), [1, 0, 0, 1, 0]))
    figures = json.loads(json.dumps(found.figures()))
    assert figures["segments"] == figures["stretches"] == found.segments
    with pytest.warns(FutureWarning, match=r"VideoEvaluation\.stretches is now called segments"):
        assert found.stretches == found.segments
    title, columns, rows, caption, _ = found.table()
    assert title.startswith(f"{found.frames} frames of 2 videos, {found.anomalous_frames} of them anomalous, in ")
    assert columns == ("figure", "value", "95 % over videos", "videos")
    assert len(rows) == len(FIGURES) - 2 + 1  # no threshold of frames; the worst onset is no estimate
    assert caption.startswith("An event is true if it overlaps")
    alone = metered(labelled(a=[0, 1]), scores={"a": [0, 1]})
    assert figures_without_interval(alone) == [None, None]
    assert alone.table().rows[0][2:] == ("none: too few", "1")
    assert alone.table().rows[3] == ("pixel AUROC (needs masks)", "-", "-", "-")


def figures_without_interval(result: VideoEvaluation) -> list[None]:
    json.dumps(result.figures(), allow_nan=False)
    return [result.figures()["frame_auroc_micro"][end] for end in ("low", "high")]


def test_bad_events_say_what_is_wrong() -> None:
    meter = VideoMeter(labelled(a=[0, 1]))
    with pytest.raises(DataError, match="event in video 'x': truth has no such video; it has 'a'"):
        meter.add_events([("x", 0, 0)])
    for start, end in ((0, 2), (-1, 0), (1, 0)):
        with pytest.raises(DataError, match=f"from frame {start} to {end}, and the video has the frames 0 to 1"):
            meter.add_events([("a", start, end)])
