"""The detector on real video: files that PyAV encodes without loss, and folders of frames."""

from __future__ import annotations

import json
import random
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

import memae.video.pipeline
import memae.video.predict
import memae.video.source
from memae import Detector
from memae.errors import ConfigError, DataError, MemaeError
from memae.video.events import EventRule
from memae.video.frames import FrameKey, Frames
from memae.video.prepare import prepare
from tests.listening import Listener
from tests.moving_squares import Reel, frames_of, squares
from tests.video_files import write_frames, write_video

BRIEF: dict[str, dict[str, Any]] = {
    "video": {
        "height": 32,
        "width": 32,
        "crop_px": 16,
        "training_stride": 4,
        "crops_per_clip": 2,
        "place_px": 8,
        "worst_share": 0.0,
        "stride": 8,
    },
    "memory": {"num_items": 8, "warmup_epochs": 1},
    "train": {"epochs": 3, "batch_size": 8},
}
HELD_OUT: dict[str, dict[str, Any]] = {
    "threshold": {"folds": 0, "calibration_share": 0.3},
    "train": {"validation_share": 0.1},
}
FRAMES = 60


def settings(**changes: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: BRIEF.get(name, {}) | changes.get(name, {}) for name in BRIEF | changes}


def lossless(path: Path, grey: np.ndarray) -> Path:
    return write_video(path, np.repeat(grey[..., None], 3, axis=-1), like="ffv1.mkv")


@pytest.fixture(scope="module")
def tapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """normal/ with three videos; calm.mkv, with a square as ever; wild.mkv, where it is large and fast from 40 on."""
    folder = tmp_path_factory.mktemp("tapes")
    for seed in range(3):
        lossless(folder / "normal" / f"{seed}.mkv", squares(FRAMES, seed=seed))
    calm = squares(FRAMES, seed=6)
    lossless(folder / "calm.mkv", calm)
    lossless(folder / "wild.mkv", np.concatenate([calm[:40], squares(20, speed=5, side=11, seed=4)]))
    return folder


LABELS = np.arange(FRAMES) >= 40


@pytest.fixture(scope="module")
def fitted(tapes: Path) -> Detector:
    return Detector(settings=BRIEF).fit(tapes / "normal")


def weights(detector: Detector) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in detector.model.state_dict().items()}


def equal(first: Detector, second: Detector) -> bool:
    one, other = weights(first), weights(second)
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def test_without_a_preset_video_takes_the_network_for_video(fitted: Detector, tapes: Path) -> None:
    assert fitted.config.network == "video"
    assert fitted.preprocess.shape == (1, 16, 32, 32)
    assert fitted.facts["samples"] == {"training": 180, "held_out": 0, "calibration": 180}
    assert fitted.facts["origin"] == str(tapes / "normal")
    assert len(fitted.history.records) == 3


def test_frames_are_keyed_by_video_number_and_time(fitted: Detector, tapes: Path) -> None:
    scores = fitted.score([tapes / "calm.mkv", tapes / "wild.mkv"])
    assert scores.values.shape == (2 * FRAMES,)
    assert scores.values.dtype == np.float64
    assert np.isfinite(scores.values).all()
    assert len(np.unique(scores.values)) > FRAMES
    for place, key in enumerate(scores.keys):
        assert isinstance(key, FrameKey)
        assert key[:2] == (("calm.mkv", "wild.mkv")[place // FRAMES], place % FRAMES)
        assert key.time_s == pytest.approx(key.frame / 25, abs=1e-3)


@pytest.mark.parametrize(("score", "least", "better"), [("place", 0.85, 0.9), ("mean", 0.7, 0.85)])
def test_training_is_what_makes_anomalies_stand_out(tapes: Path, score: str, least: float, better: float) -> None:
    # a square that runs downwards: as much motion as ever, and as large an error to a network that has learnt nothing
    falling = squares(FRAMES, seed=7).transpose(0, 2, 1)
    mixed = Reel({"as ever": squares(FRAMES, seed=6), "falling": falling})
    labels = np.arange(2 * FRAMES) >= FRAMES
    soft = {
        "temperature": 1 / 20,
        "shrinkage": 2.0,
    }  # a sharp read of so few items takes longer to rebuild anything
    scores = [
        Detector(settings=settings(video={"score": score}, train={"epochs": epochs}, memory=soft))
        .fit(tapes / "normal")
        .score(mixed)
        .values
        for epochs in (16, 0)  # after 8, how a processor rounds decides as much as a seed
    ]
    trained, untrained = (roc_auc_score(labels, values) for values in scores)
    assert trained > max(least, untrained + 0.15)
    assert scores[0][~labels].mean() < better * scores[1][~labels].mean()  # what is normal is rebuilt better


def test_training_moves_every_part(fitted: Detector, tapes: Path) -> None:
    untrained = Detector(settings=settings(train={"epochs": 0})).fit(tapes / "normal")
    before = weights(untrained)
    for name, value in fitted.model.named_parameters():
        assert (value - before[name]).abs().max() > 1e-4, name
    assert untrained.history.records == ()


def test_anomalies_are_flagged_and_normal_footage_seldom_is(fitted: Detector, tapes: Path) -> None:
    wild, calm = fitted.detect(tapes / "wild.mkv"), fitted.detect(tapes / "calm.mkv")
    assert wild.is_anomaly[LABELS].mean() > 0.9
    assert calm.is_anomaly.mean() < 0.2
    assert wild.threshold == fitted.threshold.value
    assert np.array_equal(wild.p_values, fitted.threshold.p_values(wild.scores))
    assert np.array_equal(wild.is_anomaly, wild.scores > wild.threshold)


def test_a_video_scores_the_same_alone_and_with_others(fitted: Detector, tapes: Path) -> None:
    alone = [fitted.score(tapes / name).values for name in ("calm.mkv", "wild.mkv")]
    together = fitted.score([tapes / "calm.mkv", tapes / "wild.mkv"]).values
    turned = fitted.score([str(tapes / "wild.mkv"), str(tapes / "calm.mkv")]).values
    assert np.array_equal(together, np.concatenate(alone))
    assert np.array_equal(turned, np.concatenate(alone[::-1]))


def test_the_frames_to_come_do_not_matter(fitted: Detector, tapes: Path, tmp_path: Path) -> None:
    lossless(tmp_path / "start.mkv", squares(FRAMES, seed=6)[:40])
    start, whole = fitted.score(tmp_path / "start.mkv").values, fitted.score(tapes / "wild.mkv").values
    # the last clip that starts at a multiple of 8 and ends before frame 40 owns the frames up to 35
    assert np.array_equal(start[:36], whole[:36])


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_chunks_of_any_size_score_the_same(
    fitted: Detector, tapes: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    expected = fitted.detect([tapes / "wild.mkv", tapes / "calm.mkv"])
    for module in (memae.video.pipeline, memae.video.predict):
        monkeypatch.setattr(module, "CHUNK_FRAMES", chunk)
    parts = list(fitted.stream([tapes / "wild.mkv", tapes / "calm.mkv"]))
    assert max(len(part) for part in parts) <= chunk
    assert [verdict for part in parts for verdict in part] == list(expected)


def test_a_folder_of_frames_scores_like_the_file(fitted: Detector, tapes: Path, tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "calm", squares(FRAMES, seed=6))
    found = fitted.score(folder)
    assert found.values == pytest.approx(fitted.score(tapes / "calm.mkv").values, rel=1e-3, abs=1e-3)
    assert found.keys[7] == FrameKey("calm", 7, 7 / 25)


def test_a_preset_for_video_learns_from_folders_of_frames(tapes: Path, tmp_path: Path, fitted: Detector) -> None:
    for seed in range(3):
        write_frames(tmp_path / "normal" / f"{seed}", squares(FRAMES, seed=seed))
    learnt = Detector("video", settings=BRIEF).fit(tmp_path / "normal")
    assert learnt.config.network == "video"
    assert equal(learnt, fitted)  # the files have no loss, and the frames are the same
    # or the network is named; what a training makes of the frames is seen above
    fresh = settings(train={"epochs": 0})
    named = Detector(settings=fresh | {"network": "video"}).fit(tmp_path / "normal")
    assert named.config == Detector("video", settings=fresh).fit(tmp_path / "normal").config
    assert equal(named, Detector(settings=fresh).fit(tapes / "normal"))
    # and without one, images are images
    brief = {"train": {"epochs": 1}, "memory": {"num_items": 6, "warmup_epochs": 0}}
    images = Detector(settings=brief).fit(tmp_path / "normal")
    assert images.config.network == "small"


def test_a_list_of_paths_is_learnt_like_the_folder(fitted: Detector, tapes: Path) -> None:
    detector = Detector(settings=BRIEF).fit([tapes / "normal" / f"{seed}.mkv" for seed in range(3)])
    assert equal(detector, fitted)
    assert np.array_equal(detector.threshold.calibration, fitted.threshold.calibration)
    assert detector.facts["origin"] == f"{tapes / 'normal' / '0.mkv'} and 2 more"


def test_frames_of_another_size_are_resized(fitted: Detector, tmp_path: Path) -> None:
    lossless(tmp_path / "large.mkv", squares(20, seed=6).repeat(2, axis=1).repeat(2, axis=2))
    lossless(tmp_path / "small.mkv", squares(20, seed=6))
    assert fitted.score(tmp_path / "large.mkv").values == pytest.approx(
        fitted.score(tmp_path / "small.mkv").values, rel=0.02, abs=0.02
    )


def test_another_seed_gives_another_model(fitted: Detector, tapes: Path) -> None:
    other = Detector(settings=BRIEF, seed=1).fit(tapes / "normal")
    assert not equal(other, fitted)
    assert not np.allclose(
        other.score(tapes / "calm.mkv").values, fitted.score(tapes / "calm.mkv").values, rtol=1e-2
    )


def test_the_same_seed_gives_the_same_model_and_global_random_state_is_neither_used_nor_touched(
    fitted: Detector, tapes: Path
) -> None:
    torch.manual_seed(3)
    np.random.seed(3)
    random.seed(3)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    detector = Detector(settings=BRIEF, seed=0).fit(tapes / "normal")
    detector.explain(tapes / "calm.mkv")
    detector.items()
    scores = detector.score(tapes / "wild.mkv").values
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert random.getstate() == before[2]
    assert equal(detector, fitted)
    assert np.array_equal(detector.threshold.calibration, fitted.threshold.calibration)
    assert np.array_equal(scores, fitted.score(tapes / "wild.mkv").values)


def test_what_was_saved_is_loaded_exactly(fitted: Detector, tapes: Path, tmp_path: Path) -> None:
    fitted.save(tmp_path / "model")
    loaded = Detector.load(tmp_path / "model", device="cpu")
    assert list(loaded.detect(tapes / "wild.mkv")) == list(fitted.detect(tapes / "wild.mkv"))
    assert loaded.event_threshold(600) == fitted.event_threshold(600)
    assert loaded.facts == json.loads(json.dumps(fitted.facts))
    pictures = [detector.items().pictures for detector in (loaded, fitted)]
    assert pictures[0] is not None and pictures[1] is not None
    assert np.array_equal(pictures[0], pictures[1])
    # the folder of the training may be gone
    assert loaded.explain(tapes / "calm.mkv")[0].items == fitted.explain(tapes / "calm.mkv")[0].items


def test_scoring_changes_nothing(fitted: Detector, tapes: Path) -> None:
    before = weights(fitted)
    first = fitted.score(tapes / "wild.mkv").values
    fitted.explain(tapes / "calm.mkv")
    fitted.items()
    list(fitted.watch(tapes / "calm.mkv"))
    assert np.array_equal(fitted.score(tapes / "wild.mkv").values, first)
    assert all(torch.equal(value, before[name]) for name, value in weights(fitted).items())
    assert not fitted.model.training


@pytest.fixture(scope="module")
def parted(tapes: Path) -> Detector:
    """With a held-out part in place of cross-fitting."""
    return Detector(settings=settings(**HELD_OUT)).fit(tapes / "normal")


def held_out(detector: Detector) -> tuple[Frames, ...]:
    """The segments of the tapes that set the threshold."""
    reel = Reel({str(seed): squares(FRAMES, seed=seed) for seed in range(3)})
    segments: tuple[Frames, ...] = prepare(reel, detector.config, detector.seed).calibration
    return segments


def test_the_threshold_is_set_on_footage_that_no_training_saw(
    parted: Detector, tapes: Path, tmp_path: Path
) -> None:
    tape = {str(seed): squares(FRAMES, seed=seed) for seed in range(3)}
    for segment in held_out(parted):
        first, count = segment.keys[0], len(segment)
        tape[first.video][first.frame : first.frame + count] = squares(count, speed=5, side=11, seed=4)
    for name, grey in tape.items():
        lossless(tmp_path / "normal" / f"{name}.mkv", grey)
    other = Detector(settings=settings(**HELD_OUT)).fit(tmp_path / "normal")
    assert equal(other, parted)
    assert other.facts["last_epoch"]["held_out_loss"] == parted.facts["last_epoch"]["held_out_loss"]
    assert np.median(other.threshold.calibration) > 1.5 * np.median(parted.threshold.calibration)


def test_each_piece_of_held_out_footage_is_scored_as_a_video_of_its_own(
    parted: Detector, tapes: Path, tmp_path: Path
) -> None:
    segments, pieces = held_out(parted), parted.artifact.reference.series
    assert [len(piece.scores) for piece in pieces] == [len(segment) for segment in segments]
    assert sum(len(segment) for segment in segments) == parted.facts["samples"]["calibration"]
    for number, (segment, piece) in enumerate(zip(segments, pieces, strict=True)):
        assert piece.times_s == pytest.approx(np.arange(len(segment)) / 25, abs=1e-3)
        lossless(tmp_path / f"{number}.mkv", segment.pixels)
        assert piece.scores == pytest.approx(parted.score(tmp_path / f"{number}.mkv").values, rel=1e-5, abs=1e-6)
    calibration = np.sort(np.concatenate([piece.scores for piece in pieces]))
    assert np.array_equal(parted.threshold.calibration, calibration)


def test_cross_fitting_trains_on_all_and_scores_all_without_having_seen_it(fitted: Detector, tapes: Path) -> None:
    assert fitted.facts["folds"] == 2
    assert fitted.facts["groups"]["calibration"] == fitted.threshold.group_count == 9
    assert len(fitted.threshold.calibration) == 3 * FRAMES
    assert "9 held-out groups are too few" in str(fitted.threshold.caveat)
    # what a model has seen itself scores lower
    seen = np.mean([fitted.score(tapes / "normal" / f"{seed}.mkv").values.mean() for seed in range(3)])
    assert fitted.threshold.calibration.mean() > seen


def test_watch_gives_frames_one_by_one_with_places_and_items(fitted: Detector, tapes: Path) -> None:
    frames = list(fitted.watch(tapes / "wild.mkv"))
    scores = fitted.score(tapes / "wild.mkv")
    assert [frame.key for frame in frames] == list(scores.keys)
    assert [frame.score for frame in frames] == scores.values.tolist()
    for frame in frames:
        assert frame.anomaly_map.shape == (7, 7)
        assert frame.anomaly_map.max() == pytest.approx(frame.score)
        assert sum(share for _, share in frame.items()) == pytest.approx(1, abs=1e-4)
    # the square runs through the middle rows
    odd = np.mean([frame.anomaly_map for frame in frames[44:56]], axis=0)
    assert 2 <= np.unravel_index(odd.argmax(), odd.shape)[0] <= 4


def test_watch_begins_before_the_video_has_ended(fitted: Detector) -> None:
    reel = Reel({"endless": squares(2000, noise=0)})
    frames = fitted.watch(reel)
    assert [next(frames).key.frame for _ in range(30)] == list(range(30))
    assert reel.most_asked <= 64


def test_who_stops_watching_stops_the_reader(
    fitted: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memae.video.source, "AHEAD_BYTES", 4 * 32 * 32)  # or it would be done before we look
    lossless(tmp_path / "long.mkv", squares(300))
    frames: Any = fitted.watch(tmp_path / "long.mkv")
    next(frames)
    assert any(thread.name.startswith("memae-video") for thread in threading.enumerate())
    frames.close()
    assert not any(thread.name.startswith("memae-video") for thread in threading.enumerate())


def test_a_mask_keeps_out_what_nobody_wants_to_see(fitted: Detector, tapes: Path, tmp_path: Path) -> None:
    mask = np.ones((32, 32), dtype=bool)
    calm = squares(FRAMES, seed=6)
    flicker = calm.copy()
    flicker[::2, 26:, :] = 255
    lossless(tmp_path / "flicker.mkv", flicker)
    seen = [frame.score for frame in fitted.watch(tmp_path / "flicker.mkv", watched=mask)]
    assert seen == pytest.approx(fitted.score(tmp_path / "flicker.mkv").values, rel=1e-4, abs=1e-4)
    mask[14:] = False  # what moves at 26 is rebuilt wrongly for some way around
    masked, plain = (
        [frame.score for frame in fitted.watch(tape, watched=mask)]
        for tape in (tmp_path / "flicker.mkv", tapes / "calm.mkv")
    )
    assert np.mean(masked) < 0.5 * np.mean(seen)
    assert np.isfinite(plain).all()
    with pytest.raises(ConfigError, match="a mask of 31 x 32 px does not fit frames of 32 x 32 px"):
        next(fitted.watch(tapes / "calm.mkv", watched=mask[1:]))


def test_explain_tells_of_frames(fitted: Detector, tapes: Path) -> None:
    verdicts = fitted.detect(tapes / "wild.mkv")
    every = fitted.explain(tapes / "wild.mkv")
    assert [one.key for one in every] == list(verdicts.keys)
    assert [one.score for one in every] == verdicts.scores.tolist()
    assert [one.p_value for one in every] == verdicts.p_values.tolist()
    anomalies = [verdict.key for verdict in verdicts if verdict.is_anomaly]
    assert 0 < len(anomalies) < FRAMES
    some = fitted.explain(tapes / "wild.mkv", keys=anomalies[::-1])
    assert [one.key for one in some] == anomalies
    for one in some:
        assert one.x.shape == one.reconstruction.shape == (1, 32, 32)
        assert one.error_map is not None
        assert np.array_equal(one.error_map, (one.x[0] - one.reconstruction[0]) ** 2)
        assert sum(use.weight for use in one.items) == pytest.approx(1, abs=1e-4)
        assert [use.weight for use in one.items] == sorted((use.weight for use in one.items), reverse=True)
        assert one.cells == ()
    assert fitted.explain(tapes / "wild.mkv", keys=[]) == []
    with pytest.raises(DataError, match="no sample has the key 'nobody'; take keys that score or detect gave"):
        fitted.explain(tapes / "wild.mkv", keys=[*anomalies[:1], "nobody"])


def test_the_mean_score_is_that_of_the_error_map(tapes: Path) -> None:
    detector = Detector(settings=settings(video={"score": "mean", "input": "frames"})).fit(tapes / "normal")
    for one in detector.explain(tapes / "calm.mkv"):
        assert one.score == pytest.approx(one.error_map.mean(), rel=1e-4)
        assert one.x.min() >= -1
        assert one.x.max() <= 1
    calm = squares(FRAMES, seed=6)
    assert detector.explain(tapes / "calm.mkv")[7].x[0] == pytest.approx(calm[7] / 127.5 - 1, abs=0.02)


def test_a_place_is_held_against_places_where_the_score_is_a_mean(
    tapes: Path, fitted: Detector, tmp_path: Path
) -> None:
    detector = Detector(settings=settings(video={"score": "mean", "input": "frames"})).fit(tapes / "normal")
    normal = detector.threshold.calibration
    levels = np.array([detector.map_level(score) for score in normal])
    assert (levels > normal).all()  # the worst place of a frame is worse than its mean
    assert (np.diff(levels) >= 0).all()
    assert detector.map_level(2 * normal[-1]) == pytest.approx(2 * levels[-1])
    assert detector.map_level(np.inf) == np.inf
    peaks = np.array([frame.anomaly_map.max() for frame in detector.watch(tapes / "calm.mkv")])
    # about half of the frames have a place above the level of the median score, and all have one above that score
    assert np.mean(peaks > np.median(normal)) == 1
    assert 0.1 < np.mean(peaks > detector.map_level(np.median(normal))) < 0.9
    detector.save(tmp_path / "model")
    assert Detector.load(tmp_path / "model").map_level(normal[3]) == levels[3]
    assert fitted.map_level(0.25) == 0.25


def test_items_are_small_pictures_with_their_use(fitted: Detector) -> None:
    items = fitted.items()
    assert items.usage_counts.shape == (8,)
    # 2 clips of each training video end to end, 4 x 4 x 4 places each
    assert items.usage_counts.sum() >= 6 * 64
    assert items.pictures is not None
    assert items.pictures.shape == (8, 1, 32, 32)
    assert np.isfinite(items.pictures).all()
    assert len(np.unique(items.pictures.reshape(8, -1), axis=0)) > 1
    assert items.rows is None
    assert items.samples is not None and len(items.samples) == 8
    first = items.samples[0][0]
    assert " at " in first.key and first.picture.shape == (1, 32, 32) and first.picture.dtype == np.uint8


def test_a_memory_of_whole_clips(tapes: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"video": {"crop_px": None}, "memory": {"query": "whole", "initialisation": "data"}}
    detector = Detector(settings=settings(**changes)).fit(tapes / "normal")
    assert detector.items().pictures.shape == (8, 1, 32, 32)
    for one in detector.explain(tapes / "calm.mkv", keys=detector.score(tapes / "calm.mkv").keys[:3]):
        assert sum(use.weight for use in one.items) == pytest.approx(1, abs=1e-4)
    detector.save(tmp_path / "model")
    loaded = Detector.load(tmp_path / "model", device="cpu")
    assert np.array_equal(loaded.score(tapes / "calm.mkv").values, detector.score(tapes / "calm.mkv").values)


def test_the_plain_autoencoder_watches_video_too(tapes: Path, tmp_path: Path) -> None:
    detector = Detector(settings=settings(memory={"enabled": False})).fit(tapes / "normal")
    assert detector.items() is None
    assert roc_auc_score(LABELS, detector.score(tapes / "wild.mkv").values) > 0.9
    assert detector.explain(tapes / "calm.mkv")[0].items == ()
    detector.save(tmp_path / "model")
    loaded = Detector.load(tmp_path / "model", device="cpu")
    assert np.array_equal(loaded.score(tapes / "calm.mkv").values, detector.score(tapes / "calm.mkv").values)


def test_the_network_of_the_paper_learns_from_squares(tapes: Path) -> None:
    detector = Detector(
        "video-paper",
        settings={
            "video": {"height": 32, "width": 32, "crop_px": 16, "training_stride": 30, "crops_per_clip": 1},
            "memory": {"num_items": 8},
            "train": {"epochs": 1, "precision": "float32"},
        },
    ).fit(tapes / "normal" / "0.mkv")
    assert detector.config.network == "video-paper"
    scores = detector.score(tapes / "calm.mkv").values
    assert np.isfinite(scores).all()
    assert scores.min() > 0


def test_the_event_threshold_holds_the_wanted_rate_on_the_held_out_footage(fitted: Detector, tapes: Path) -> None:
    hours = 180 / 25 / 3600
    found = fitted.event_threshold(10 / hours)
    assert found.normal_hours == pytest.approx(hours, rel=0.05)
    assert found.wanted_per_hour == 10 / hours
    assert found.caveat is None
    assert found.on_threshold <= fitted.threshold.calibration.max() * 1.001
    strict = fitted.event_threshold(1)
    assert strict.caveat is not None
    assert strict.on_threshold > fitted.threshold.calibration.max()
    assert strict.on_threshold < fitted.score(tapes / "wild.mkv").values.max()
    steady = fitted.event_threshold(10 / hours, lambda on: EventRule(on, off_threshold=0.5 * on))
    assert steady.off_threshold == pytest.approx(0.5 * steady.on_threshold)


def test_without_calibration_there_are_scores_and_no_verdicts(tapes: Path, tmp_path: Path) -> None:
    detector = Detector(settings=settings(threshold={"calibration_share": 0})).fit(tapes / "normal")
    detector.save(tmp_path / "model")
    for each in (detector, Detector.load(tmp_path / "model", device="cpu")):
        assert roc_auc_score(LABELS, each.score(tapes / "wild.mkv").values) > 0.9
        assert each.explain(tapes / "calm.mkv")[0].p_value is None
        with pytest.raises(MemaeError, match=r"no threshold, .*calibration_share = 0"):
            each.detect(tapes / "calm.mkv")
        with pytest.raises(MemaeError, match=r"no scores of normal video .*calibration_share above 0"):
            each.event_threshold(1)


class StopAt(Listener):
    """Interrupts like Ctrl-C, at a step of an epoch."""

    def __init__(self, epoch: int, step: int) -> None:
        self.at, self.steps_left, self.done = epoch, step, 0

    def begin(self, epochs: int, samples: int, done: int) -> None:
        self.done = done

    def step(self, samples: int, loss: Any) -> None:
        if self.done == self.at:
            if self.steps_left == 0:
                raise KeyboardInterrupt
            self.steps_left -= 1

    def epoch(self, record: Any) -> None:
        self.done = record.epoch

    def end(self) -> None:
        pass


def test_a_training_that_was_stopped_and_resumed_equals_one_that_was_not(
    fitted: Detector, tapes: Path, tmp_path: Path
) -> None:
    stopped = Detector(settings=BRIEF).fit(tapes / "normal", checkpoint=tmp_path / "state", progress=StopAt(2, 1))
    assert stopped.history.interrupted
    assert np.isfinite(stopped.detect(tapes / "calm.mkv").scores).all()
    resumed = Detector(settings=BRIEF).fit(tapes / "normal", checkpoint=tmp_path / "state", resume=True)
    assert equal(resumed, fitted)
    assert np.array_equal(resumed.threshold.calibration, fitted.threshold.calibration)
    assert np.array_equal(resumed.items().usage_counts, fitted.items().usage_counts)
    assert any((tmp_path / "state").iterdir())
    resumed.save(tmp_path / "model")
    assert not any((tmp_path / "state").iterdir())


def test_other_footage_does_not_resume_a_training(tapes: Path, tmp_path: Path) -> None:
    shutil.copytree(tapes / "normal", tmp_path / "normal")
    detector = Detector(settings=BRIEF)
    detector.fit(tmp_path / "normal", checkpoint=tmp_path / "state", progress=StopAt(1, 1))
    lossless(tmp_path / "normal" / "2.mkv", squares(FRAMES, seed=9))
    with pytest.raises(ConfigError, match="the checkpoint is of a training with other data, settings or seed"):
        detector.fit(tmp_path / "normal", checkpoint=tmp_path / "state", resume=True)


@pytest.fixture(scope="module")
def of_images() -> Detector:
    return Detector(settings={"train": {"epochs": 1}, "memory": {"num_items": 6, "warmup_epochs": 0}}).fit(
        squares(40)
    )


@pytest.fixture(scope="module")
def of_rows() -> Detector:
    brief = {"train": {"epochs": 1}, "memory": {"num_items": 6}}
    return Detector(settings=brief).fit(np.random.default_rng(0).normal(size=(60, 3)))


def test_video_is_nothing_for_a_model_of_images_or_rows(
    of_images: Detector, of_rows: Detector, tapes: Path
) -> None:
    for detector, kind in ((of_images, "images"), (of_rows, "tables")):
        for x in (tapes / "calm.mkv", str(tapes / "normal"), [tapes / "calm.mkv"]):
            for use in (detector.score, detector.detect, detector.explain):
                with pytest.raises(
                    DataError,
                    match=rf"the model was trained on {kind} and this is video; take a model of that kind",
                ):
                    use(x)
        with pytest.raises(DataError, match="watch takes a model of video; use score, detect or stream"):
            next(detector.watch(tapes / "calm.mkv"))
        with pytest.raises(MemaeError, match="events take a model of video"):
            detector.event_threshold(1)


def test_images_and_tables_are_nothing_for_a_model_of_video(fitted: Detector, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,2\n3,4\n")
    np.save(tmp_path / "x.npy", squares(5))
    for x, kind in (
        (tmp_path / "t.csv", "this is a table"),
        (np.zeros((5, 3)), "this is a table"),
        (squares(5), "these are images"),
        (torch.zeros(5, 1, 32, 32), "these are images"),
        (tmp_path / "x.npy", "these are images"),
    ):
        for use in (fitted.score, fitted.detect, fitted.explain, lambda x: next(fitted.watch(x))):
            with pytest.raises(
                DataError, match=rf"the model was trained on videos and {kind}; take a model of that kind"
            ):
                use(x)
    with pytest.raises(DataError, match="nowhere: no such file or folder; check the path"):
        fitted.score(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: holds no video"):
        fitted.score(tmp_path / "empty")


def test_a_preset_for_other_data_is_refused(tapes: Path, tmp_path: Path) -> None:
    for preset in ("mnist", "kddcup", "image-paper", "table"):
        with pytest.raises(ConfigError, match=rf"preset '{preset}' is for \w+s, and the data is a set of videos"):
            Detector(preset).fit(tapes / "normal")
    (tmp_path / "t.csv").write_text("a,b\n" + "1,2\n" * 30)
    for x, kind in ((squares(30), "images"), (tmp_path / "t.csv", "tables")):
        with pytest.raises(ConfigError, match=rf"preset 'video' is for videos, and the data is a set of {kind}"):
            Detector("video").fit(x)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"video": {"crop_px": 20}}, r"video\.crop_px = 20: network 'video' takes multiples of 8"),
        ({"video": {"height": 30}}, r"video\.height = 30: network 'video' takes multiples of 8"),
        ({"memory": {"query": "whole"}}, r"memory\.query = 'whole'"),
        (
            {"threshold": {"false_alarm_rate": 0.01, "calibration_share": 0.0, "folds": 0}},
            r"false_alarm_rate = 0\.01 needs held-out samples",
        ),
        ({"train": {"validation_share": 0, "patience": 2}}, r"train\.patience needs held-out samples"),
    ],
)
def test_what_cannot_be_honoured_is_refused_before_any_training(
    tapes: Path, changes: dict[str, dict[str, Any]], what: str
) -> None:
    with pytest.raises(ConfigError, match=what):
        Detector(settings=settings(**changes)).fit(tapes / "normal")


@pytest.mark.parametrize("section", [{"hieght": 32}, {"score": "median"}, {"clip_length": 0}, {"stride": 0}])
def test_a_bad_setting_of_video_fails_at_once(section: dict[str, Any]) -> None:
    for preset in (None, "video", "video-paper"):
        with pytest.raises(ConfigError, match=r"settings: video\.(hieght: .*did you mean video\.height|\w+ = )"):
            Detector(preset, settings={"video": section})


def test_a_clip_of_one_frame_is_refused_before_any_training(tapes: Path) -> None:
    one = settings(video={"clip_length": 1, "input": "frames"})
    with pytest.raises(ConfigError, match=r"video\.clip_length = 1: network 'video' takes at least two"):
        Detector(settings=one).fit(tapes / "normal")


def test_too_little_footage_is_refused(tmp_path: Path) -> None:
    lossless(tmp_path / "one.mkv", squares(1))
    with pytest.raises(DataError, match=r"one\.mkv: holds 1 frame, too few to train on"):
        Detector(settings=BRIEF).fit(tmp_path / "one.mkv")


def test_a_video_of_one_frame_has_a_score(fitted: Detector, tmp_path: Path) -> None:
    lossless(tmp_path / "one.mkv", squares(1))
    assert np.isfinite(fitted.score(tmp_path / "one.mkv").values).all()


def test_columns_cannot_be_dropped_from_video(tapes: Path) -> None:
    with pytest.raises(DataError, match="a video has no column 'id' to leave out"):
        Detector(settings=BRIEF).fit(tapes / "normal", drop=["id"])


def test_before_fit_every_use_says_what_to_do(tapes: Path) -> None:
    detector = Detector("video")
    for use in (
        lambda: detector.score(tapes / "calm.mkv"),
        lambda: next(detector.watch(tapes / "calm.mkv")),
        lambda: detector.event_threshold(1),
    ):
        with pytest.raises(MemaeError, match=r"this detector is not fitted; call fit\(x\), or Detector\.load"):
            use()


def test_a_source_of_ones_own_is_taken_as_it_is(fitted: Detector, tapes: Path) -> None:
    reel = Reel({"calm.mkv": squares(FRAMES, seed=6)})
    found = fitted.score(reel)
    assert found.values == pytest.approx(fitted.score(tapes / "calm.mkv").values, rel=1e-3, abs=1e-3)
    assert list(found.keys) == frames_of(squares(FRAMES), "calm.mkv").keys
    with pytest.raises(DataError, match="the reel: holds no frames"):
        fitted.score(Reel({}))
