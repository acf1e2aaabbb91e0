"""The appearance part beside the motion part: on one scale, and the worse of both is the score."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from memae import Detector
from memae.video.appearance import Appearance, AppearanceScorer
from memae.video.background import Background, StillScorer
from memae.video.config import VideoConfig
from memae.video.frames import FrameKey, Frames
from memae.video.preprocess import VideoPreprocess
from memae.video.scoring import FrameScorer
from tests.moving_squares import Reel
from tests.small_street import HEIGHT, WIDTH, street
from tests.video.test_scoring import dimmed

PLACE_PX = 16
BRIEF = {
    "video": {
        "height": HEIGHT,
        "width": WIDTH,
        "crop_px": 16,
        "place_px": PLACE_PX,
        "training_stride": 8,
        "crops_per_clip": 2,
    },
    "train": {"epochs": 1, "batch_size": 8},
    "memory": {"warmup_epochs": 1, "num_items": 12},
}


@pytest.fixture(scope="module")
def appearance() -> Appearance:
    background = Background.fit([street(20, seed) for seed in (1, 2)])
    assert background is not None
    return Appearance(background, 0.5, 0.25)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector("video", seed=0, settings=BRIEF).fit(normal())


def normal() -> Reel:
    return Reel({str(number): street(20, number, rate=25).pixels for number in range(3)})


def with_thing() -> Reel:
    return Reel({"v": street(10, 7, thing_s=4, rate=25).pixels})


def motion(watched: np.ndarray | None = None) -> FrameScorer:
    config = VideoConfig(height=HEIGHT, width=WIDTH, input="differences", score="place", place_px=PLACE_PX)
    preprocess = VideoPreprocess(clip_length=16, height=HEIGHT, width=WIDTH, input="differences")
    return FrameScorer(dimmed, preprocess, config, watched)


class TestScales:
    def test_appearance_is_as_high_as_motion_on_normal_frames_and_never_above_their_highest(
        self, appearance: Appearance
    ) -> None:
        generator = np.random.default_rng(0)
        scores, maxima, still = (size * generator.gamma(4, size=5000) for size in (1.0, 3.0, 0.9))
        scaled = appearance.scaled(scores, maxima, still)
        for values, scale in ((scores, scaled.of_score), (maxima, scaled.of_map)):
            assert (scale * still).max() <= values.max() * (1 + 1e-12)
            assert np.quantile(scale * still, 0.99) <= np.quantile(values, 0.99) * 1.01
        still[0] = 100  # somebody stood there: alarms of the motion part stay where they were
        assert (appearance.scaled(scores, maxima, still).of_score * still).max() <= scores.max() * (1 + 1e-12)

    def test_calm_video_does_not_make_it_loud(self, appearance: Appearance) -> None:
        calm, stirred = (appearance.scaled(np.ones(9), np.ones(9), np.full(9, high)) for high in (0.0, 12.0))
        assert calm.of_score == pytest.approx(1 / 6)  # as high as motion at six times the usual variation
        assert stirred.of_score == pytest.approx(1 / 12)


class TestScorer:
    def test_the_score_and_every_place_are_the_worse_of_the_two(self, appearance: Appearance) -> None:
        frames = street(10, 4, thing_s=3)
        moving = list(motion().scored([frames]))
        stills = StillScorer(appearance.background, PLACE_PX).maps(frames)
        found = list(AppearanceScorer(motion(), appearance, PLACE_PX).scored(chunks(frames, 7)))
        assert [frame.key for frame in found] == list(frames.keys)
        for frame, moved, still in zip(found, moving, stills, strict=True):
            assert frame.score == max(moved.score, 0.5 * float(still.max()))
            assert np.array_equal(frame.anomaly_map, np.maximum(moved.anomaly_map, np.float32(0.25) * still))
            assert frame.part == ("appearance" if 0.5 * float(still.max()) > moved.score else "motion")
        assert {frame.part for frame in found} == {"motion", "appearance"}

    def test_with_scales_of_zero_motion_stays_as_it_was(self, appearance: Appearance) -> None:
        frames = street(6, 4, thing_s=0)
        silent = AppearanceScorer(motion(), Appearance(appearance.background), PLACE_PX)
        for frame, moved in zip(silent.scored([frames]), motion().scored([frames]), strict=True):
            assert frame.score == moved.score
            assert frame.part == "motion"

    def test_a_place_that_is_masked_has_no_say(self, appearance: Appearance) -> None:
        frames, watched = street(8, 4, thing_s=0), np.ones((HEIGHT, WIDTH), dtype=bool)
        seen = StillScorer(appearance.background, PLACE_PX).maps(frames)[-1]
        watched[38:50, 18:30] = False
        found = StillScorer(appearance.background, PLACE_PX, watched).maps(frames)[-1]
        assert found.max() < 0.6 * seen.max()


def chunks(frames: Frames, size: int) -> Iterable[Frames]:
    for start in range(0, len(frames), size):
        part = slice(start, start + size)
        yield Frames(frames.pixels[part], frames.keys[part], frames.origin)


class TestDetector:
    def test_a_trained_model_has_the_part_and_finds_what_stands_still(self, detector: Detector) -> None:
        *_, last = detector.watch(with_thing())
        assert last.part == "appearance"
        assert last.score > detector.threshold.value

    def test_the_threshold_is_that_of_both_parts(self, detector: Detector) -> None:
        reference = detector.artifact.reference
        assert np.array_equal(np.sort(reference.scores), detector.threshold.calibration)
        assert len(reference.maxima) == len(reference.scores)

    def test_a_stored_model_scores_the_same(self, detector: Detector, tmp_path: Path) -> None:
        detector.save(tmp_path / "m")
        reel = with_thing()
        first, again = (one.score(reel).values for one in (detector, Detector.load(tmp_path / "m")))
        assert np.array_equal(first, again)
        assert (tmp_path / "m" / "model.safetensors").stat().st_size < 4 << 20

    def test_an_explanation_names_the_part_and_its_items_are_of_motion(self, detector: Detector) -> None:
        reel = with_thing()
        *_, last = detector.watch(reel)
        (found,) = detector.explain(reel, [last.key])
        assert (found.part, found.items) == ("appearance", ())
        (moving,) = detector.explain(normal(), [FrameKey("0", 0, 0.0)])
        assert moving.part == "motion"
        assert moving.items

    def test_without_it_a_model_scores_as_before(self) -> None:
        settings = {**BRIEF, "video": {**BRIEF["video"], "appearance": False}}
        plain = Detector("video", seed=0, settings=settings).fit(normal())
        assert plain.artifact.reference.appearance is None
        assert not any("background" in name for name in plain.artifact.reference.tensors())
