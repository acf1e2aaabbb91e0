"""Stills, clips and rows of events, written in one pass over frames whose scores are given."""

import gc
import json
import math
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from memae.errors import DataError
from memae.types import Box, ItemUse
from memae.video import media
from memae.video.events import Event, EventRule
from memae.video.frames import FrameKey, Frames
from memae.video.media import EventMedia, Peak, RecentFrames, Shot, write_events
from memae.video.pipeline import MapLevels, Outputs, score_frames, video_writers
from memae.video.render import annotated
from memae.video.scoring import ClipEvidence, ScoredFrame
from memae.video.source import VideoSource
from tests.video_files import write_frames

GREY = np.full((240, 320, 3), 110, dtype=np.uint8)
EVENT = Event("gate.mp4", 1.0, 1.5, 10, 15, 12, 1.2, 7.0, Box(40, 40, 120, 120))
RULE = EventRule(5.0, 5.0, merge_gap_s=0.0)


def watch(path: Any) -> tuple[list[np.ndarray], list[float]]:
    """The frames (H, W, 3) and times of a video file."""
    with av.open(str(path)) as container:
        decoded = list(container.decode(video=0))
        return [f.to_ndarray(format="rgb24").astype(int) for f in decoded], [f.time for f in decoded]


def tint(pixels: np.ndarray) -> Any:
    """(H, W) how far pixels are from grey."""
    return pixels.max(axis=-1) - pixels.min(axis=-1)


def red(frames: list[np.ndarray]) -> list[int]:
    """The numbers of the frames with a red border."""
    return [number for number, pixels in enumerate(frames) if (pixels[:2, 50:-50, 0] > 170).all()]


class Given:
    """Scores frames by a list; the error stands in the second of 6 rows and columns 1 to 3 of 8."""

    def __init__(self, scores: list[float]) -> None:
        self._scores = scores

    def scored(self, chunks: Iterable[Frames]) -> Iterator[ScoredFrame]:
        nothing: Any = None
        clip = ClipEvidence(nothing, nothing)
        for chunk in chunks:
            for key, picture in zip(chunk.keys, chunk.pictures, strict=True):
                score = self._scores[key.frame]
                anomaly_map = np.zeros((6, 8), np.float32)
                anomaly_map[1:3, 1:3] = score
                yield ScoredFrame(key, score, anomaly_map, clip, 0, picture)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Writes the events of a video of ten frames a second with these scores; gives the events."""
    monkeypatch.chdir(tmp_path)

    def write(
        scores: list[float], rule: EventRule = RULE, before_s: float = 0.0, after_s: float = 0.0
    ) -> list[Event]:
        if not Path("gate").exists():
            write_frames(Path("gate"), np.repeat(GREY[None], len(scores), axis=0), "{:04d}.bmp")
        source = VideoSource([Path("gate")], (24, 32), folder_rate=10)
        levels = MapLevels(rule.on_threshold, rule.ends_below)
        outputs = Outputs(events=Path("e.jsonl"), before_s=before_s, after_s=after_s)
        with video_writers(source, rule, levels, outputs) as writers:
            for frame in score_frames(writers.source, Given(scores)):
                writers.add(frame)
        return writers.events

    return write


def scores(count: int, *spans: tuple[int, int], high: float = 9.0) -> list[float]:
    """Low scores, and high ones from each first to each last frame."""
    given = [1.0] * count
    for first, last in spans:
        given[first : last + 1] = [high] * (last + 1 - first)
    return given


class TestClips:
    def test_a_clip_holds_the_event_with_some_seconds_around_it(self, run: Callable[..., Any]) -> None:
        (event,) = run(scores(60, (10, 15)), before_s=0.5, after_s=1.0)
        frames, times = watch(event.clip)
        assert times == pytest.approx(np.arange(21) / 10, abs=1e-4)  # 0.5 s to 2.5 s
        assert red(frames) == list(range(5, 11))

    def test_it_is_cut_off_where_the_video_begins_and_ends(self, run: Callable[..., Any]) -> None:
        first, last = run(scores(30, (0, 2), (28, 29)), before_s=1.0, after_s=1.0)
        frames, _ = watch(first.clip)
        assert (len(frames), red(frames)) == (13, [0, 1, 2])
        frames, _ = watch(last.clip)
        assert (len(frames), red(frames)) == (12, [10, 11])

    def test_the_region_is_shown_in_the_frames_of_the_event(self, run: Callable[..., Any]) -> None:
        (event,) = run(scores(60, (10, 15)), before_s=0.5, after_s=0.5)
        assert event.region == (40, 40, 120, 120)
        boxed = [bool(tint(pixels[60:100, 36:42]).max() > 60) for pixels in watch(event.clip)[0]]
        assert np.flatnonzero(boxed).tolist() == list(range(5, 11))

    def test_clips_may_overlap(self, run: Callable[..., Any]) -> None:
        events = run(scores(60, (10, 15), (20, 22), (38, 39)), before_s=0.5, after_s=0.7)
        clips = [watch(event.clip)[0] for event in events]
        assert [len(frames) for frames in clips] == [18, 15, 14]
        # the frames of another event have no border in this clip
        assert [red(frames) for frames in clips] == [[5, 6, 7, 8, 9, 10], [5, 6, 7], [5, 6]]
        assert sorted(path.name for path in Path("e").glob("*.mp4")) == [
            f"event-000{number}.mp4" for number in (1, 2, 3)
        ]

    def test_frames_in_the_merge_gap_are_of_the_event_if_it_goes_on(self, run: Callable[..., Any]) -> None:
        rule = replace(RULE, merge_gap_s=1.0)
        (event,) = run(scores(60, (10, 12), (20, 21)), rule, before_s=0.2, after_s=0.3)
        assert (event.first_frame, event.last_frame) == (10, 21)
        frames, _ = watch(event.clip)
        assert (len(frames), red(frames)) == (2 + 12 + 3, list(range(2, 14)))

    def test_an_event_that_was_too_short_leaves_no_file_and_no_number(self, run: Callable[..., Any]) -> None:
        rule = replace(RULE, least_s=0.3, merge_gap_s=0.5)
        (event,) = run(scores(60, (5, 6), (20, 25), (40, 41)), rule)
        assert event.clip == "e/event-0001.mp4"
        assert sorted(path.name for path in Path("e").iterdir()) == ["event-0001.mp4", "event-0001.png"]
        assert run(scores(60, (5, 6)), rule) == []
        assert list(Path("e").iterdir()) == []

    def test_without_a_lasting_event_there_is_no_folder(self, run: Callable[..., Any]) -> None:
        assert run(scores(60, (5, 6)), replace(RULE, least_s=0.3)) == []
        assert sorted(path.name for path in Path().iterdir()) == ["e.jsonl", "gate"]

    def test_an_event_in_the_frame_that_ends_another_has_a_clip_of_its_own(self, run: Callable[..., Any]) -> None:
        rule = EventRule(5.0, 4.0, merge_gap_s=0.1, cool_down_s=0.5)
        given = scores(30, (5, 6), (9, 20))
        events = run(given, rule, before_s=0.3)
        assert [(event.first_frame, event.last_frame) for event in events] == [(5, 6), (11, 20)]
        assert [red(watch(event.clip)[0]) for event in events] == [[3, 4], list(range(3, 13))]

    def test_only_frames_that_are_shown_become_pixels(
        self, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        drawn = []

        def counted(*given: Any, **named: Any) -> Any:
            drawn.append(given)
            return annotated(*given, **named)

        monkeypatch.setattr(media, "annotated", counted)
        run(scores(60, (10, 15)), before_s=0.5, after_s=0.5)
        assert len(drawn) == 16

    def test_an_error_of_the_source_leaves_no_part(self, run: Callable[..., Any]) -> None:
        run(scores(60, (10, 15)))
        before = {path: path.read_bytes() for path in Path("e").iterdir()}
        (Path("gate") / "0013.bmp").write_bytes(b"BM")
        with pytest.raises(DataError, match="not a readable image"):
            run(scores(60, (10, 15)))
        assert {path: path.read_bytes() for path in Path("e").iterdir()} == before
        assert sorted(path.name for path in Path().iterdir()) == ["e", "e.jsonl", "gate"]


class Film:
    """Frames of a video of 10 a second; it knows how many of their pictures are held."""

    def __init__(self, nbytes: int = 0) -> None:
        self.held, self.most, self._nbytes = 0, 0, nbytes

    def shot(self, number: int) -> Shot:
        picture = _Picture(number, self._nbytes)
        self.held += 1
        weakref.finalize(picture, self._gone)
        self.most = max(self.most, self.held)
        return Shot(FrameKey("film", number, number / 10), picture, (Box(0, 0, 9, 9),))

    def _gone(self) -> None:
        self.held -= 1


class _Picture:
    def __init__(self, number: int, nbytes: int) -> None:
        self.number, self.nbytes = number, nbytes

    def rgb(self) -> np.ndarray:
        return np.full((48, 64, 3), self.number % 256, np.uint8)


def test_a_long_event_is_not_held_in_memory(tmp_path: Path) -> None:
    film, writer = Film(), EventMedia(tmp_path / "e", replace(RULE, merge_gap_s=1.0), 5.0, 2.0, 3.0)
    event = replace(EVENT, video="film", start_s=5.0, end_s=44.9, first_frame=50, last_frame=449, peak_frame=60)
    with writer:
        for number in range(600):
            ended = replace(event, payload=Peak(_Picture(60, 0), np.zeros((2, 2)))) if number == 461 else None
            open_since = FrameKey("film", 50, 5.0) if 50 <= number < 461 else None
            shot = film.shot(number)
            writer.add(shot, ended, open_since, 50 <= number < 450)
        writer.end_video(None)
        (named,) = writer.commit([event])
    del shot
    gc.collect()
    assert film.most <= 23  # two seconds, and the frame at hand
    assert film.held <= 1
    frames, _ = watch(named.clip)
    assert len(frames) == 20 + 400 + 30


class TestRecentFrames:
    def test_it_holds_the_last_seconds(self) -> None:
        film, latest = Film(), RecentFrames(1.0)
        for number in range(40):
            latest.add(film.shot(number))
        assert [shot.key.frame for shot in latest] == list(range(29, 40))
        latest.clear()
        assert list(latest) == []

    def test_what_takes_too_much_memory_is_compressed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(media, "PLAIN_BYTES", 3 * 9216)
        film, latest = Film(nbytes=9216), RecentFrames(1.0)
        for number in range(40):
            latest.add(film.shot(number))
        gc.collect()
        assert film.held == 3
        assert [shot.key.frame for shot in latest] == list(range(29, 40))
        for shot in latest:
            assert np.abs(shot.picture.rgb().astype(int) - shot.key.frame).max() <= 1
        assert sum(shot.picture.nbytes for shot in list(latest)[:8]) < 8 * 9216 / 4

    def test_one_frame_is_held_however_large_it_is(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(media, "PLAIN_BYTES", 10)
        film, latest = Film(nbytes=9216), RecentFrames(0.0)
        for number in range(3):
            latest.add(film.shot(number))
        gc.collect()
        assert film.held == 1


def test_a_still_shows_the_peak(run: Callable[..., Any]) -> None:
    given = scores(40, (10, 15))
    given[13] = 12.0
    (event,) = run(given)
    assert event.peak_frame == 13
    with Image.open(event.still) as still:
        assert still.width > 960


class TestRows:
    def test_an_event_is_one_line(self, tmp_path: Path) -> None:
        event = replace(
            EVENT,
            start_s=1 / 3,
            peak=1234.56789,
            items=(ItemUse(7, 0.98765432), ItemUse(2, 0.01)),
            still="stills/1.png",
            payload="not written",
        )
        assert write_events(tmp_path / "events.jsonl", [event, EVENT]) == 2
        first, second = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
        assert first == {
            "video": "gate.mp4",
            "start_s": 0.333,
            "end_s": 1.5,
            "first_frame": 10,
            "last_frame": 15,
            "peak_s": 1.2,
            "peak_frame": 12,
            "peak_score": 1234.57,
            "part": "motion",
            "region": {"left": 40, "top": 40, "right": 120, "bottom": 120},
            "items": [{"item": 7, "weight": 0.9877}, {"item": 2, "weight": 0.01}],
            "still": "stills/1.png",
            "clip": None,
        }
        assert list(second) == list(first)
        assert (second["items"], second["still"]) == ([], None)

    def test_what_json_cannot_hold_is_null_or_written_out(self, tmp_path: Path) -> None:
        event = replace(EVENT, video="caf\udce9.mp4", end_s=math.inf, peak=math.nan, region=None)
        write_events(tmp_path / "events.jsonl", [event])
        row = json.loads((tmp_path / "events.jsonl").read_text(), parse_constant=pytest.fail)
        assert (row["video"], row["end_s"], row["peak_score"], row["region"]) == ("caf\\xe9.mp4", None, None, None)

    def test_numbers_of_numpy_are_numbers(self, tmp_path: Path) -> None:
        peak: Any = np.float32(1.25)
        write_events(tmp_path / "events.jsonl", [replace(EVENT, peak=peak, end_s=np.float64(2))])
        assert json.loads((tmp_path / "events.jsonl").read_text())["peak_score"] == 1.25

    def test_no_event_is_an_empty_file(self, tmp_path: Path) -> None:
        assert write_events(tmp_path / "events.jsonl", []) == 0
        assert (tmp_path / "events.jsonl").read_text() == ""
