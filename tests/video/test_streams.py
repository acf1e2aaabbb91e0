"""Several videos that are scored in turns, against a pass over each alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from memae import Detector
from memae.engine.openvino import OpenVinoAutoencoder
from memae.video.frames import Frames
from memae.video.predict import normal_scores, scored_frames
from memae.video.scoring import ScoredFrame
from memae.video.streams import StreamScorer
from tests.small_street import HEIGHT, WIDTH, street

SETTINGS = {
    "video": {"height": 64, "width": 96, "crop_px": 32, "stride": 8, "training_stride": 4},
    "train": {"epochs": 1, "batch_size": 8},
    "memory": {"num_items": 12, "warmup_epochs": 0},
}


class Footage:
    """Made-up frames as a source of video."""

    modality, origin = "video", "footage"

    def __init__(self, *videos: Frames) -> None:
        self.videos = videos

    def chunks(self, size: int):  # type: ignore[no-untyped-def]
        for frames in self.videos:
            for start in range(0, len(frames), size):
                part = slice(start, start + size)
                yield Frames(frames.pixels[part], frames.keys[part], frames.origin)


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Detector:
    from tests.video_files import write_frames

    folder = tmp_path_factory.mktemp("street")
    for seed in range(3):
        write_frames(folder / str(seed), street(7, seed).pixels)
    return Detector("video", settings=SETTINGS, device="cpu").fit(folder, frame_rate=10)


def in_turns(scorer: StreamScorer, *videos: Frames) -> dict[str, list[ScoredFrame]]:
    """The videos frame by frame, as cameras give them."""
    found: dict[str, list[ScoredFrame]] = {frames.origin: [] for frames in videos}
    for number in range(max(map(len, videos))):
        now = [
            Frames(frames.pixels[number : number + 1], frames.keys[number : number + 1], frames.origin)
            for frames in videos
            if number < len(frames)
        ]
        for frame in scorer.push(now):
            found[frame.key.video].append(frame)
    for name, frames in found.items():
        frames.extend(scorer.end(name))
    return found


def test_scores_are_those_of_a_pass_over_each_alone(detector: Detector) -> None:
    videos = [street(8, 4, video="gate"), street(6, 5, thing_s=2, video="hall"), street(1, 6, video="yard")]
    right = np.ones((HEIGHT, WIDTH), dtype=bool)
    right[:, :48] = False
    masks = {"hall": right}
    found = in_turns(StreamScorer(detector.artifact, masks), *videos)
    for frames in videos:
        alone = list(scored_frames(detector.artifact, Footage(frames), masks.get(frames.origin)))
        own = found[frames.origin]
        assert [frame.key for frame in own] == list(frames.keys)
        assert [frame.score for frame in own] == [frame.score for frame in alone]
        assert [frame.part for frame in own] == [frame.part for frame in alone]
        np.testing.assert_array_equal(own[-1].anomaly_map, alone[-1].anomaly_map)


def test_a_frame_is_scored_as_soon_as_its_clip_is_there(detector: Detector) -> None:
    video, scorer = street(8, 4), StreamScorer(detector.artifact)
    latest = 0
    for number in range(len(video)):
        part = Frames(video.pixels[number : number + 1], video.keys[number : number + 1], "street")
        for frame in scorer.push([part]):
            latest = max(latest, number - frame.key.frame)
    preprocess, stride = detector.preprocess, 8
    # the first clip owns all that comes before its middle
    assert latest == preprocess.clip_length
    scorer = StreamScorer(detector.artifact)
    late = [
        number - frame.key.frame
        for number in range(len(video))
        for frame in scorer.push([Frames(video.pixels[number : number + 1], video.keys[number : number + 1], "s")])
        if number > preprocess.clip_length
    ]
    assert max(late) == (preprocess.clip_length + stride) // 2


def test_the_latest_frames_are_scored_one_stride_later_and_calibrated_so(tmp_path: Path) -> None:
    from tests.video_files import write_frames

    for seed in range(3):
        write_frames(tmp_path / str(seed), street(7, seed).pixels)
    settings = {**SETTINGS, "video": {**SETTINGS["video"], "stride": 4, "latest": True, "appearance": False}}
    detector = Detector("video", settings=settings, device="cpu").fit(tmp_path, frame_rate=10)
    scorer, video = StreamScorer(detector.artifact), street(8, 4)
    late = [
        number - frame.key.frame
        for number in range(len(video))
        for frame in scorer.push([Frames(video.pixels[number : number + 1], video.keys[number : number + 1], "s")])
        if number > detector.preprocess.clip_length
    ]
    assert max(late) == 4
    # normal video, whose scores set the threshold, is scored by the same rule
    (series,) = normal_scores(detector.artifact, [video], None).series
    assert [frame.score for frame in in_turns(StreamScorer(detector.artifact), video)["street"]] == list(
        series.scores
    )


def test_what_a_first_pass_takes_long_for_is_done_before(detector: Detector) -> None:
    model = detector.model
    assert isinstance(model, OpenVinoAutoencoder)
    scorer = StreamScorer(detector.artifact)
    scorer.prepare()
    assert (
        model._converted[detector.preprocess.shape] is not None
    )  # though the choice "auto" leaves short passes to torch
    found, video = in_turns(scorer, street(2, 4))["street"], street(2, 4)
    np.testing.assert_allclose(
        [frame.score for frame in found],
        [frame.score for frame in scored_frames(detector.artifact, Footage(video))],
        rtol=1e-4,
    )


def test_after_its_end_a_video_begins_anew(detector: Detector) -> None:
    scorer, video = StreamScorer(detector.artifact), street(3, 4)
    first = in_turns(scorer, video)["street"]
    again = in_turns(scorer, video)["street"]
    assert [frame.score for frame in first] == [frame.score for frame in again]
    assert list(scorer.end("street")) == []
