"""One pass over real videos with a detector that scores as it is told."""

import importlib
import json
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import repeat
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import av
import numpy as np
import pytest
import torch
from av.container.input import InputContainer
from av.video.stream import VideoStream
from PIL import Image, ImageFile

from memae.drift import DriftWatch
from memae.errors import ConfigError, DataError
from memae.image.arrays import ArraySource
from memae.progress import Count, Stage
from memae.report.rows import write_verdicts
from memae.threshold import Threshold
from memae.video import pipeline
from memae.video.decode import VideoFile
from memae.video.encode import VideoEncoder
from memae.video.evaluate import evaluate_videos
from memae.video.events import EventRule
from memae.video.frames import FrameKey, Frames
from memae.video.pipeline import Outputs, ScoredVideos, score_frames
from memae.video.preprocess import VideoPreprocess
from memae.video.scoring import ClipEvidence, ScoredFrame
from memae.video.source import VideoSource
from tests.listening import Listener
from tests.video_files import write_frames, write_video

HEIGHT, WIDTH = 96, 160  # of the videos; the network sees 32 x 64, and there are 4 x 8 places
PLACES = (4, 8)
RULE = EventRule(5.0, 4.0, merge_gap_s=0.0)
GREY = np.full((HEIGHT, WIDTH, 3), 110, dtype=np.uint8)


def score_videos(
    detector: Any, x: str | ArraySource, rule: EventRule, outputs: Outputs, **more: Any
) -> ScoredVideos:
    return pipeline.score_videos(
        detector, x, rule, outputs, lambda parts: write_verdicts(parts, outputs.frames), **more
    )


class Scripted:
    """Scores a frame by its place in a list; the error stands at one place, and each place has an item of its own."""

    preprocess = VideoPreprocess(clip_length=4, height=32, width=64, input="frames")
    threshold = Threshold(0.2, np.array([1.0, 1.5, 2.0, 2.5, 3.0]))
    artifact = SimpleNamespace(drift_watch=lambda: DriftWatch(Scripted.threshold.calibration, 3.0))

    def __init__(
        self,
        scores: Mapping[str, list[float]],
        place: tuple[int | slice, int | slice] = (1, 6),
        fails_at: object = None,
    ) -> None:
        self.scores, self.place, self.fails_at = scores, place, fails_at
        self.watched: Any = None

    def map_level(self, score: float) -> float:
        return score

    def open(self, x: object) -> VideoSource:
        return VideoSource([Path(str(x))], size=(32, 64), folder_rate=10)

    def watch(self, source: VideoSource, *, watched: np.ndarray | None = None) -> Iterator[ScoredFrame]:
        self.watched = watched
        return score_frames(source, self)

    def scored(self, chunks: Iterable[Frames]) -> Iterator[ScoredFrame]:
        weights = torch.eye(32).view(1, *PLACES, 32)
        clip = ClipEvidence(torch.zeros(1, 32, 64), torch.zeros(1, 32, 64), lambda: weights)
        for chunk in chunks:
            for key, picture in zip(chunk.keys, chunk.pictures or repeat(None), strict=False):
                if (key.video, key.frame) == self.fails_at:
                    raise DataError(f"{key.video}: breaks off")
                anomaly_map = np.full(PLACES, -0.5, np.float32)
                anomaly_map[self.place] = score = self.scores[key.video][key.frame]
                yield ScoredFrame(key, score, anomaly_map, clip, 0, picture)


SCORES = [1.0, 1.0, 6.0, 8.0, 4.5, 1.0, 1.0, 1.0, 5.0, 1.0]  # two events: frames 2 to 4, and 8


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scripted:
    """A working directory with a video of ten frames of 10 a second, and its detector."""
    monkeypatch.chdir(tmp_path)
    write_frames(tmp_path / "gate", np.repeat(GREY[None], 10, axis=0))
    return Scripted({"gate": SCORES})


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scripted:
    """The same with two videos, of which the second has no event."""
    monkeypatch.chdir(tmp_path)
    for name in ("gate", "hall"):
        write_frames(tmp_path / "videos" / name, np.repeat(GREY[None], 10, axis=0))
    return Scripted({"gate": SCORES, "hall": [1.0] * 10})


def watch_file(path: Any) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(video=0)]


def tint(pixels: np.ndarray) -> Any:
    return pixels.max(axis=-1) - pixels.min(axis=-1)


def content() -> dict[str, bytes]:
    """All files below the working directory that are no input."""
    paths = sorted(
        path for path in Path().rglob("*") if path.is_file() and path.parts[0] not in ("gate", "videos")
    )
    return {str(path): path.read_bytes() for path in paths}


class Places(Listener):
    """Where the scoring was, frame by frame; and what else is done of each place."""

    def __init__(self, also: Callable[..., Any] = lambda place: None) -> None:
        self.seen: list[Any] = []
        self.stages: list[Stage] = []
        self._also = also

    def begin_stage(self, stage: Stage) -> None:
        self.stages.append(stage)

    def advance(self, count: int, place: object = None) -> None:
        if self.stages[-1].name == "scoring":
            self.seen.append(place)
            self._also(place)


class TestScore:
    def test_counts_events_and_progress(self, gate: Scripted, capfd: pytest.CaptureFixture[str]) -> None:
        places = Places()
        found = score_videos(gate, "gate", RULE, Outputs(), progress=places)
        assert places.stages == [Stage("scoring", "frames", Count(10, exact=False))]
        assert places.seen == [FrameKey("gate", number, number / 10) for number in range(10)]
        assert (found.frames, found.anomalous_frames) == (10, 4)  # above 3, the threshold of five samples at 0.2
        spans = [(event.first_frame, event.last_frame, event.peak_frame, event.peak) for event in found.events]
        assert spans == [(2, 4, 3, 8.0), (8, 8, 8, 5.0)]
        assert all(event.still is event.clip is None for event in found.events)
        assert capfd.readouterr().out == ""
        assert content() == {}

    def test_the_old_name_writes_the_same(self, gate: Scripted) -> None:
        watch_videos = importlib.import_module("memae.report.watching").watch_videos
        with pytest.warns(FutureWarning, match="watcher is now called progress"):
            old = watch_videos(gate, "gate", RULE, Outputs(frames=Path("old.csv")), watcher=None)
        assert old == score_videos(gate, "gate", RULE, Outputs(frames=Path("new.csv")))
        assert Path("old.csv").read_bytes() == Path("new.csv").read_bytes()

    def test_rows_go_to_stdout_or_to_a_file(self, gate: Scripted, capfd: pytest.CaptureFixture[str]) -> None:
        score_videos(gate, "gate", RULE, Outputs(rows_to_stdout=True))
        out = capfd.readouterr().out
        score_videos(gate, "gate", RULE, Outputs(frames=Path("frames.csv"), rows_to_stdout=True))
        assert capfd.readouterr().out == ""
        assert Path("frames.csv").read_text() == out
        assert out.splitlines()[4].startswith('"gate",3,0.3,8,')
        assert len(out.splitlines()) == 11

    def test_the_region_of_an_event_is_in_px_of_the_video_and_its_items_are_those_there(
        self, gate: Scripted
    ) -> None:
        found = score_videos(gate, "gate", RULE, Outputs())
        event = found.events[0]
        assert event.region == (120, 24, 140, 48)  # place (1, 6) of 4 x 8, each 24 x 20 px
        assert [(use.item, use.weight) for use in event.items] == [(1 * 8 + 6, 1.0)]

    def test_an_event_names_five_items_at_most(self, gate: Scripted) -> None:
        gate.place = (slice(None), slice(None))
        (event, _) = score_videos(gate, "gate", RULE, Outputs()).events
        assert event.region == (0, 0, WIDTH, HEIGHT)
        assert len(event.items) == 5

    def test_a_still_shows_the_peak_and_a_clip_what_is_around(self, gate: Scripted) -> None:
        found = score_videos(gate, "gate", RULE, Outputs(events=Path("out/e.jsonl"), before_s=0.11, after_s=0.21))
        assert [event.still for event in found.events] == ["out/e/event-0001.png", "out/e/event-0002.png"]
        assert [event.clip for event in found.events] == ["out/e/event-0001.mp4", "out/e/event-0002.mp4"]
        lines = [json.loads(line) for line in Path("out/e.jsonl").read_text().splitlines()]
        assert [line["still"] for line in lines] == [event.still for event in found.events]
        assert [len(watch_file(event.clip)) for event in found.events] == [1 + 3 + 2, 1 + 1 + 1]
        assert found.events[0].still is not None
        with Image.open(found.events[0].still) as still:
            pixels = np.asarray(still).astype(int)
        panel = pixels[: pixels.shape[0] - 80, -480:]
        hot = np.argwhere(tint(panel[40:]) > 100)
        rows, columns = hot.mean(axis=0)
        assert (rows, columns) == pytest.approx((1.5 / 4 * 288, 6.5 / 8 * 480), abs=12)

    def test_the_overlay_is_hot_at_the_place_and_boxed_in_the_event(self, gate: Scripted) -> None:
        score_videos(gate, "gate", RULE, Outputs(overlay=Path("o.mp4")))
        frames = watch_file("o.mp4")
        assert len(frames) == 10
        heat = [
            tint(pixels[:192])[60:84, 248:272].mean() for pixels in frames
        ]  # the video is shown twice as large
        assert min(heat[2:5]) > 30
        assert max(heat[5:8]) < 12
        boxed = [bool((tint(pixels[:192])[50:94, 234:240] > 80).any()) for pixels in frames]
        assert np.flatnonzero(boxed).tolist() == [2, 3, 4, 8]
        red = [bool((pixels[0, 100:200, 0] > 170).all()) for pixels in frames]
        assert np.flatnonzero(red).tolist() == [2, 3, 4, 8]

    def test_each_video_has_its_overlay_and_it_is_there_when_the_video_is_done(self, two: Scripted) -> None:
        there: dict[str, Any] = {}
        score_videos(
            two,
            "videos",
            RULE,
            Outputs(overlay=Path("o")),
            progress=Places(lambda key: there.setdefault(key.video, Path("o/gate.mp4").exists())),
        )
        assert there == {"gate": False, "hall": True}
        assert [path.name for path in sorted(Path("o").iterdir())] == ["gate.mp4", "hall.mp4"]
        assert len(watch_file("o/hall.mp4")) == 10

    def test_events_of_several_videos_are_numbered_through(self, two: Scripted) -> None:
        two.scores = {"gate": SCORES, "hall": SCORES}
        found = score_videos(two, "videos", RULE, Outputs(events=Path("e.jsonl")))
        assert [(Path(str(event.clip)).name, event.video) for event in found.events] == [
            ("event-0001.mp4", "gate"),
            ("event-0002.mp4", "gate"),
            ("event-0003.mp4", "hall"),
            ("event-0004.mp4", "hall"),
        ]
        assert len(list(Path("e").iterdir())) == 8

    def test_the_mask_comes_to_the_size_of_the_network(self, gate: Scripted) -> None:
        score_videos(gate, "gate", RULE, Outputs())
        assert gate.watched is None
        mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
        mask[: HEIGHT // 2] = 0
        Image.fromarray(mask).save("mask.png")
        score_videos(gate, "gate", RULE, Outputs(), mask=Path("mask.png"))
        watched: Any = gate.watched
        assert watched.shape == (32, 64)
        assert not watched[:16].any() and watched[16:].all()

    @pytest.mark.parametrize("fails_at", [("gate", 0), ("hall", 5)])
    def test_a_video_that_breaks_off_leaves_the_outputs_of_an_earlier_run(
        self, two: Scripted, fails_at: tuple[str, int]
    ) -> None:
        outputs = Outputs(Path("f.csv"), Path("e.jsonl"), Path("o"))
        score_videos(two, "videos", RULE, outputs)
        before = content()
        assert len(before) == 2 + 4 + 2
        with pytest.raises(DataError, match="breaks off"):
            score_videos(
                Scripted({"gate": [6.0] * 10, "hall": [6.0] * 10}, fails_at=fails_at), "videos", RULE, outputs
            )
        after = content()
        if fails_at[0] == "hall":
            assert after.pop("o/gate.mp4") != before.pop("o/gate.mp4")  # this one is done
        assert after == before

    @pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
    def test_stills_and_clips_take_the_place_of_earlier_ones_together(
        self, gate: Scripted, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
    ) -> None:
        outputs = Outputs(events=Path("e.jsonl"))
        score_videos(gate, "gate", RULE, outputs)
        before = content()

        def failing(*_: float | VideoEncoder | np.ndarray) -> NoReturn:
            raise error

        monkeypatch.setattr(VideoEncoder, "write", failing)
        with pytest.raises(error):
            score_videos(Scripted({"gate": [9.0] * 10}), "gate", RULE, outputs)
        assert content() == before
        assert sorted(path.name for path in Path().iterdir()) == ["e", "e.jsonl", "gate"]
        monkeypatch.undo()

    def test_no_event_leaves_no_folder_and_empties_an_old_one(self, gate: Scripted) -> None:
        calm = Scripted({"gate": [1.0] * 10})
        assert score_videos(calm, "gate", RULE, Outputs(events=Path("e.jsonl"))).events == []
        assert content() == {"e.jsonl": b""}
        score_videos(gate, "gate", RULE, Outputs(events=Path("e.jsonl")))
        score_videos(calm, "gate", RULE, Outputs(events=Path("e.jsonl")))
        assert content() == {"e.jsonl": b""}

    @pytest.mark.parametrize(
        ("outputs", "message"),
        [
            (Outputs(overlay=Path("o.mp4")), "o.mp4: one file cannot hold the overlays of 2 videos"),
            (Outputs(overlay=Path("o.webm")), r"o.webm: give a file that ends in .mp4 or .mkv, or a folder"),
            (Outputs(frames=Path("a.jsonl"), events=Path("a.jsonl")), "a.jsonl: .* another output has that name"),
            (Outputs(frames=Path("a.jsonl"), events=Path("x/../a.jsonl")), "another output has that name"),
            (Outputs(events=Path("videos.jsonl")), "videos: the stills and clips go .* but it holds gate"),
            (Outputs(events=Path("videos/gate.jsonl")), r"videos/gate: .* but it holds 001.png"),
        ],
    )
    def test_outputs_that_would_do_harm_are_refused_before_the_work(
        self, two: Scripted, outputs: Outputs, message: str
    ) -> None:
        two.fails_at = ("gate", 0)
        with pytest.raises(ConfigError, match=message):
            score_videos(two, "videos", RULE, outputs)
        assert content() == {}

    def test_a_source_of_images_is_no_video(self) -> None:
        images = ArraySource.of(np.zeros((4, 8, 8), np.uint8), "the array")
        detector: Any = Scripted({})
        detector.open = lambda x: images
        for use in (
            lambda: score_videos(detector, images, RULE, Outputs()),
            lambda: evaluate_videos(detector, images, Path("masks"), RULE),
        ):
            with pytest.raises(DataError, match="the array: this is no video"):
                use()


def test_scored_frames_with_their_clips_and_pictures_are_not_held(
    gate: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive, most, make = set(), [], gate.scored

    def watched(chunks: Iterator[Any]) -> Iterator[ScoredFrame]:
        for frame in make(chunks):
            alive.add(frame.key)
            weakref.finalize(frame, alive.discard, frame.key)
            most.append(len(alive))
            yield frame

    write_frames(Path("gate"), np.repeat(GREY[None], 90, axis=0), first=11)
    gate.scores = {"gate": [*SCORES, *[1.0] * 90]}
    monkeypatch.setattr(gate, "scored", watched)
    score_videos(gate, "gate", RULE, Outputs(Path("f.csv"), Path("e.jsonl"), Path("o.mp4"), before_s=0.3))
    assert len(most) == 100
    assert max(most) <= 2


class TestOneDecode:
    """Scores, events, stills, clips and the overlay come from frames that are decoded once."""

    ALL = Outputs(Path("f.csv"), Path("e.jsonl"), Path("o.mp4"))

    def test_of_a_file(self, gate: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
        write_video(Path("film.mp4"), np.repeat(GREY[None], 10, axis=0), like="h264.mp4")
        decoded, decode = [], VideoFile._decoded

        def counting(self: VideoFile, container: InputContainer, stream: VideoStream) -> Iterator[av.VideoFrame]:
            for frame in decode(self, container, stream):
                decoded.append(frame.pts)
                yield frame

        monkeypatch.setattr(VideoFile, "_decoded", counting)
        found = score_videos(Scripted({"film.mp4": SCORES}), "film.mp4", RULE, self.ALL)
        assert [len(watch_file(event.clip)) for event in found.events] == [10, 10]
        assert len(watch_file("o.mp4")) == 10
        assert len(decoded) == 1 + 10  # the first frame also when the file is opened

    def test_of_a_folder(self, gate: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
        decoded, load = [], ImageFile.ImageFile.load

        def counting(image: Any) -> Any:
            if image.tile:  # what is not decoded yet
                decoded.append(image.fp.name)
            return load(image)

        monkeypatch.setattr(ImageFile.ImageFile, "load", counting)
        found = score_videos(gate, "gate", RULE, self.ALL)
        assert len(found.events) == 2
        assert [Path(name).name for name in decoded] == [f"{number:03}.png" for number in range(1, 11)]


def write_masks(
    path: Path,
    frames: list[int],
    box: tuple[int, int, int, int] = (120, 24, 140, 48),
    size: tuple[int, int] = (HEIGHT, WIDTH),
) -> None:
    """Ten masks, with a box in some of them."""
    masks = np.zeros((10, *size), np.uint8)
    left, top, right, bottom = box
    masks[frames, top:bottom, left:right] = 255
    write_frames(path, masks)


class TestEvaluate:
    def test_frames_pixels_regions_and_events_are_held_against_the_labels(self, gate: Scripted) -> None:
        write_masks(Path("masks/gate"), [2, 3, 4])
        places = Places()
        found = evaluate_videos(gate, "gate", Path("masks"), RULE, progress=places)
        assert [key.frame for key in places.seen] == list(range(10))
        assert [stage.name for stage in places.stages] == ["counting frames", "scoring", "figures and intervals"]
        assert (found.videos, found.frames, found.anomalous_frames, found.segments) == (1, 10, 3, 1)
        # of the 21 pairs one is lost: frame 8 scores above frame 4
        assert found.frame_auroc_micro.value == pytest.approx(20 / 21)
        assert found.pixel_auroc.value > 0.99  # places below 0 are in their order as well
        assert (found.rbdc.value, found.tbdc.value) == (pytest.approx(1, abs=0.1), pytest.approx(1, abs=0.1))
        assert (found.events, found.event_precision.value, found.event_recall.value) == (2, 0.5, 1)
        assert found.false_events_per_hour.value == pytest.approx(1 / (0.7 / 3600))  # 7 of 10 frames are normal

    def test_regions_are_places_above_what_half_of_the_normal_frames_reach(self, gate: Scripted) -> None:
        write_masks(Path("masks/gate"), [2])
        gate.scores = {"gate": [1.9, 1.9, 2.1, *[1.9] * 7]}  # the median of the normal scores is 2
        found = evaluate_videos(gate, "gate", Path("masks"), RULE)
        assert found.rbdc.value == 1
        gate.scores = {"gate": [1.9] * 10}
        assert evaluate_videos(gate, "gate", Path("masks"), RULE).rbdc.value == 0

    def test_labels_of_frames_need_no_masks(self, gate: Scripted) -> None:
        Path("labels.csv").write_text("video,start,end\ngate,2,4\n")
        found = evaluate_videos(gate, "gate", Path("labels.csv"), RULE)
        assert found.frame_auroc_micro.value == pytest.approx(20 / 21)
        assert found.pixel_auroc is found.rbdc is None
        assert found.event_recall.value == 1

    def test_masks_of_another_size_and_missing_labels_are_refused_before_the_work(self, gate: Scripted) -> None:
        gate.fails_at = ("gate", 0)
        write_masks(Path("masks/gate"), [2], (0, 0, 9, 9), size=(HEIGHT * 2, WIDTH * 2))
        with pytest.raises(DataError, match=r"masks: the masks of video 'gate' are 320 x 192 px, .* is 160 x 96"):
            evaluate_videos(gate, "gate", Path("masks"), RULE)
        with pytest.raises(DataError, match=r"none.csv: no such file or folder of labels; check the path"):
            evaluate_videos(gate, "gate", Path("none.csv"), RULE)

    def test_a_mask_takes_places_out(self, gate: Scripted) -> None:
        write_masks(Path("masks/gate"), [2])
        Path("mask.json").write_text(
            '{"width": 160, "height": 96, "exclude": [[[0, 0], [80, 0], [80, 96], [0, 96]]]}'
        )
        evaluate_videos(gate, "gate", Path("masks"), RULE, mask=Path("mask.json"))
        assert not gate.watched[:, :32].any() and gate.watched[:, 32:].all()
