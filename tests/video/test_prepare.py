"""What footage is trained on and what is held out from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from memae.config import Config, override
from memae.errors import ConfigError, DataError
from memae.modality import preset_config
from memae.video.dataset import Clips
from memae.video.prepare import prepare
from memae.video.preprocess import VideoPreprocess
from tests.moving_squares import Reel, squares

# clips of two frames, so that every frame of a part (but a last odd one) is in one of its clips
SMALL = {
    "video": {"height": 16, "width": 24, "crop_px": None, "clip_length": 2, "training_stride": 1, "stride": 2},
}


def config(**settings: Mapping[str, Any]) -> Config:
    merged = {name: SMALL.get(name, {}) | dict(settings.get(name, {})) for name in SMALL | settings}
    return override(preset_config("video", "video"), merged, "test")


def reel(*counts: int) -> Reel:
    return Reel({f"v{number}": squares(count, 16, 24) for number, count in enumerate(counts)})


class Parts(NamedTuple):
    """The frames of each part, as numbers within the footage."""

    training: set[int]
    held_out: set[int]
    calibration: set[int]


def parts_of(prepared: Any, counts: tuple[int, ...]) -> Parts:
    assert isinstance(prepared.training, Clips)
    starts = {f"v{number}": sum(counts[:number]) for number in range(len(counts))}
    held = set() if prepared.validation is None else set(prepared.validation.frames.flatten().tolist())
    calibration = {starts[key.video] + key.frame for piece in prepared.calibration for key in piece.keys}
    return Parts(set(prepared.training.frames.flatten().tolist()), held, calibration)


def dealt(*counts: int, seed: int = 0, **settings: Mapping[str, Any]) -> tuple[Any, Parts]:
    prepared: Any = prepare(reel(*counts), config(**settings), seed)
    return prepared, parts_of(prepared, counts)


COUNTS = [(400,), (400, 160, 240), (50,) * 12, (20, 70, 44, 10, 90, 30, 36, 56, 80, 64, 40, 60)]
HELD_OUT: dict[str, Any] = {"threshold": {"folds": 0}, "train": {"validation_share": 0.1}}


@pytest.mark.parametrize("counts", COUNTS)
def test_the_parts_are_disjoint_and_of_about_the_wanted_shares(counts: tuple[int, ...]) -> None:
    prepared, parts = dealt(*counts, **HELD_OUT)
    total = sum(counts)
    assert not parts.training & parts.held_out
    assert not parts.training & parts.calibration
    assert not parts.held_out & parts.calibration
    assert sum(prepared.counts.values()) == total
    assert len(parts.calibration) == prepared.counts["calibration"]
    largest = max(counts) if len(counts) >= 10 else 20
    assert abs(prepared.counts["held_out"] - 0.1 * total) <= largest / 2
    assert abs(prepared.counts["calibration"] - 0.2 * total) <= largest / 2
    if len(counts) >= 10:
        assert len(parts.training) == prepared.counts["training"]


@pytest.mark.parametrize("counts", COUNTS[:2])
def test_few_videos_are_cut_into_stretches_with_gaps_between_the_parts(counts: tuple[int, ...]) -> None:
    prepared, parts = dealt(*counts, **HELD_OUT, video={"clip_length": 4})
    assert prepared.groups["all"] > 10
    assert "stretches of" in prepared.notes[0]
    starts = set(np.cumsum((0, *counts)).tolist())
    for first in parts.training:
        if first - 1 in parts.calibration:
            assert first in starts  # of a video: what comes before it is another one
    apart = min(abs(a - b) for a in parts.training for b in parts.calibration if _same(counts, a, b))
    assert apart > 4


def _same(counts: tuple[int, ...], first: int, second: int) -> bool:
    """Whether two frames are of one video."""
    ends = np.cumsum(counts)
    return bool(np.searchsorted(ends, first, side="right") == np.searchsorted(ends, second, side="right"))


@pytest.mark.parametrize("counts", COUNTS)
def test_cross_fitting_scores_every_frame_by_a_model_that_did_not_see_its_group(counts: tuple[int, ...]) -> None:
    prepared, parts = dealt(*counts)
    assert prepared.calibration == ()
    assert len(parts.training) == prepared.counts["training"] == prepared.counts["calibration"] == sum(counts)
    scored: set[int] = set()
    groups: set[int] = set()
    for prepare_fold in prepared.folds:
        fold = prepare_fold()
        own = parts_of(fold, counts)
        assert not own.training & own.calibration
        assert not scored & own.calibration
        assert len(fold.calibration_groups) == len(own.calibration)
        assert not groups & set(fold.calibration_groups.tolist())
        scored |= own.calibration
        groups |= set(fold.calibration_groups.tolist())
    assert len(prepared.folds) == 2
    assert scored == set(range(sum(counts)))
    assert len(groups) == prepared.groups["all"]


def test_a_group_of_videos_is_never_divided() -> None:
    source = reel(*[40] * 6)
    prepared: Any = prepare(source, config(), 0, group=["a", "a", "b", "b", "c", "c"])
    assert prepared.groups["all"] == 3
    for prepare_fold in prepared.folds:
        calibration = {key.video for piece in prepare_fold().calibration for key in piece.keys}
        assert all((first in calibration) == (second in calibration) for first, second in PAIRS)


PAIRS = (("v0", "v1"), ("v2", "v3"), ("v4", "v5"))


def test_nine_videos_are_cut_and_ten_are_not() -> None:
    assert dealt(*[50] * 9)[0].groups["all"] > 9
    assert dealt(*[50] * 10)[0].groups["all"] == 10


@pytest.mark.parametrize("counts", COUNTS[2:])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_many_videos_are_held_out_whole_and_in_their_order(counts: tuple[int, ...], seed: int) -> None:
    prepared, parts = dealt(*counts, seed=seed, **HELD_OUT)
    start = 0
    for count in counts:
        frames = set(range(start, start + count))
        assert sum(bool(frames & part) for part in parts) == 1
        start += count
    keys = [piece.keys[0].video for piece in prepared.calibration]
    assert keys == sorted(keys, key=lambda name: int(name[1:]))
    assert prepared.training.frames[:, 0].tolist() == sorted(prepared.training.frames[:, 0].tolist())


def test_the_seed_chooses_the_videos() -> None:
    found = {seed: frozenset(dealt(*[20] * 12, seed=seed, **HELD_OUT)[1].calibration) for seed in range(5)}
    assert found[0] == frozenset(dealt(*[20] * 12, seed=0, **HELD_OUT)[1].calibration)
    assert len(set(found.values())) > 1


@pytest.mark.parametrize("seed", range(4))
def test_one_long_video_among_short_ones_is_cut_instead(seed: int) -> None:
    prepared, parts = dealt(1000, *[10] * 9, seed=seed, **HELD_OUT)
    assert prepared.counts["calibration"] == pytest.approx(218, abs=55)
    assert prepared.counts["held_out"] == pytest.approx(109, abs=55)
    assert not parts.training & parts.calibration


@pytest.mark.parametrize("counts", [(100,), (50,) * 12])
def test_a_part_that_is_not_wanted_is_empty(counts: tuple[int, ...]) -> None:
    prepared, parts = dealt(*counts, train={"validation_share": 0}, threshold={"folds": 0})
    assert prepared.validation is None
    assert prepared.counts["held_out"] == 0
    prepared, parts = dealt(*counts, threshold={"calibration_share": 0})
    assert prepared.calibration == ()
    assert len(parts.training) == sum(counts)


def test_the_held_out_pixels_are_those_of_their_keys() -> None:
    counts = (40, 30)
    source = reel(*counts)
    prepared: Any = prepare(source, config(threshold={"folds": 0}), 0)
    for piece in prepared.calibration:
        for key, pixels in zip(piece.keys, piece.pixels, strict=True):
            assert np.array_equal(pixels, source.videos[key.video][key.frame])


def test_training_sees_crops_and_the_rest_whole_frames_end_to_end() -> None:
    video = {"crop_px": 8, "crops_per_clip": 3, "clip_length": 4, "training_stride": 2, "stride": 2}
    prepared, _ = dealt(100, video=video)
    whole = 49  # starts 0, 2, ..., 96 of 100 frames
    assert prepared.training.shape == (3 * whole, 1, 4, 8, 8)
    assert prepared.whole.shape == (25, 1, 4, 16, 24)
    assert prepared.whole.frames.flatten().tolist() == list(range(100))
    assert prepared.validation is None
    assert prepared.preprocess == VideoPreprocess(clip_length=4, height=16, width=24, input="differences")
    again, _ = dealt(100, video=video)
    assert torch.equal(prepared.training.corners, again.training.corners)
    other, _ = dealt(100, video=video, seed=1)
    assert not torch.equal(prepared.training.corners, other.training.corners)


def test_a_stride_beyond_the_clip_is_the_clip_length() -> None:
    prepared, _ = dealt(100, video={"clip_length": 4, "training_stride": 16})
    assert prepared.training.frames[:, 0].tolist() == list(range(0, 100, 4))


def test_dilated_clips_stay_within_their_part() -> None:
    video = {"clip_length": 4, "dilation": 3}
    prepared, parts = dealt(1000, video=video, **HELD_OUT)
    assert (prepared.training.frames.diff(dim=1) == 3).all()
    assert not parts.training & (parts.calibration | parts.held_out)


@pytest.mark.parametrize(("counts", "frames"), [((1,), 1), ((2,), 2), ((1, 1), 2)])
def test_too_little_footage_is_refused(counts: tuple[int, ...], frames: int) -> None:
    with pytest.raises(
        DataError,
        match=f"the reel: holds {frames} frame{'s' * (frames != 1)}, too few to train on.*give at least 20",
    ):
        dealt(*counts)


def test_stopping_early_needs_held_out_footage() -> None:
    with pytest.raises(DataError, match="holds 4 frames, too few"):
        dealt(4, train={"patience": 3, "validation_share": 0.1})
    with pytest.raises(ConfigError, match=r"train\.patience needs held-out samples"):
        dealt(100, train={"patience": 3, "validation_share": 0})


def test_a_source_without_frames_is_refused() -> None:
    with pytest.raises(DataError, match="the reel: holds no frames"):
        dealt(0)


def test_a_rate_without_held_out_footage_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"false_alarm_rate = 0\.1 needs held-out samples"):
        dealt(100, threshold={"false_alarm_rate": 0.1, "calibration_share": 0})
