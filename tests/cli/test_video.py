"""The verbs on video, end to end: real files through the command line."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from memae import Detector
from tests.cli.conftest import Done
from tests.small_footage import BRIEF, FRAMES, INTRUDER, scene
from tests.video_files import cut, write_frames, write_video

COLUMNS = ["video", "frame", "time_s", "score", "p_value", "is_anomaly"]


def rows_of(text: str) -> list[tuple[Any, ...]]:
    """Rows of the CSV: video, frame, time, score, p-value, verdict."""
    rows = list(csv.DictReader(text.splitlines()))
    assert [*rows[0]] == COLUMNS
    return [
        (
            row["video"],
            int(row["frame"]),
            *(float(row[name]) for name in ("time_s", "score", "p_value")),
            row["is_anomaly"] == "true",
        )
        for row in rows
    ]


def scores_of(text: str) -> np.ndarray:
    return np.array([row[3] for row in rows_of(text)])


def events_of(path: str | Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def watch(path: str | Path) -> tuple[list[np.ndarray], list[Any]]:
    """The frames (H, W, 3) and times of a video file."""
    with av.open(str(path)) as container:
        decoded = list(container.decode(video=0))
        return [frame.to_ndarray(format="rgb24").astype(int) for frame in decoded], [f.time for f in decoded]


class TestSkipBad:
    @pytest.fixture
    def mixed(self, camera: Path) -> Path:
        """clip.mp4 between a file that holds nothing and two that break off, one of which tells that at once."""
        (camera / "mixed").mkdir()
        (camera / "mixed" / "a.mp4").write_bytes(b"")
        shutil.copy("clip.mp4", "mixed/clip.mp4")
        for name in ("d.mkv", "e.ts"):
            whole = write_video(
                camera / f"whole-{name}", scene(7)[0], like={"d.mkv": "ffv1.mkv"}.get(name, "h264.ts")
            )
            cut(whole, 0.6, camera / "mixed" / name)
        return camera

    def test_whole_videos_are_scored_and_broken_ones_up_to_there(
        self, memae: Callable[..., Done], mixed: Path
    ) -> None:
        words = ("--out", "s.csv", "--events", "e.jsonl", "--overlay", "overlays", "--after", "60")
        done = memae("score", "camera.model", "mixed", "--skip-bad", *words)
        assert done.code == 0, done.err
        said = done.err.splitlines()[-4:]
        assert said[0] == "3 bad videos:"
        assert said[1] == "  a.mp4: the file is empty; check how it was written; it is left out"
        for name, line in zip(("d.mkv", "e.ts"), said[2:], strict=True):
            assert line.startswith(f"  {name}: was cut short, as its last part is not whole; copy the file again")
            assert line.endswith("; its frames up to there count")
        found = rows_of(Path("s.csv").read_text())
        count = {name: sum(row[0] == name for row in found) for name in ("a.mp4", "clip.mp4", "d.mkv", "e.ts")}
        assert (count["a.mp4"], count["clip.mp4"]) == (0, FRAMES)
        assert all(40 < count[name] < 90 for name in ("d.mkv", "e.ts"))
        alone = rows_of(memae("score", "camera.model", "clip.mp4", "--quiet").out)
        assert [row[1:] for row in found if row[0] == "clip.mp4"] == [row[1:] for row in alone]
        assert {path.name for path in Path("overlays").iterdir()} == {"clip.mp4", "d.mp4", "e.mp4"}
        assert len(watch("overlays/d.mp4")[0]) == count["d.mkv"]

    def test_an_event_at_the_break_is_cut_out_as_far_as_there_is_footage(
        self, memae: Callable[..., Done], camera: Path, enter: tuple[str, str]
    ) -> None:
        frames = np.concatenate([scene(5, INTRUDER)[0][:60], scene(6)[0]])
        cut(write_video(camera / "whole.mkv", frames, like="ffv1.mkv"), 0.38, camera / "half.mkv")
        done = memae(
            "score", "camera.model", "half.mkv", "--skip-bad", "--events", "e.jsonl", *enter, "--after", "60"
        )
        assert done.code == 0, done.err
        assert "1 bad video:\n  half.mkv: was cut short" in done.err
        clips = [len(watch(event["clip"])[0]) for event in events_of("e.jsonl")]
        assert len(clips) == 1
        assert 40 < clips[0] < 64

    def test_fit_learns_from_what_is_there_and_counts_the_bad(
        self, memae: Callable[..., Done], mixed: Path
    ) -> None:
        words = [word for setting in BRIEF for word in ("--set", setting)]
        done = memae("fit", "mixed", "--out", "new.model", "--skip-bad", *words)
        assert done.code == 0, done.err
        assert "3 bad videos:\n  a.mp4: the file is empty" in done.err
        facts = Detector.load("new.model", device="cpu").facts
        assert facts["skipped"]["count"] == 3
        assert FRAMES + 80 < facts["samples"]["training"] == facts["samples"]["calibration"] < FRAMES + 180

    def test_the_library_names_them_too(self, mixed: Path) -> None:
        detector = Detector.load("camera.model", device="cpu")
        verdicts = detector.detect("mixed", skip_bad=True)
        assert [bad.key for bad in verdicts.skipped] == ["a.mp4", "d.mkv", "e.ts"]
        assert len(verdicts.keys) == len(verdicts.scores) == len(verdicts.is_anomaly)
        assert np.isfinite(verdicts.scores).all()


class TestScore:
    def test_a_row_a_frame_on_stdout_with_its_time(self, memae: Callable[..., Done], camera: Path) -> None:
        done = memae("score", "camera.model", "clip.mp4")
        assert done.code == 0
        rows = rows_of(done.out)
        assert [row[0] for row in rows] == ["clip.mp4"] * FRAMES
        assert [row[1] for row in rows] == list(range(FRAMES))
        assert [row[2] for row in rows] == pytest.approx(np.arange(FRAMES) / 25, abs=1e-6)
        verdicts = Detector.load("camera.model", device="cpu").detect("clip.mp4")
        assert [row[3] for row in rows] == verdicts.scores.tolist()
        assert [row[4] for row in rows] == verdicts.p_values.tolist()
        assert [row[5] for row in rows] == verdicts.is_anomaly.tolist()
        flagged = sum(row[5] for row in rows)
        assert done.err.startswith(f"100 frames, {flagged} ({flagged / 100:.2%}) above score ")
        assert "note: 1 false alarm an hour cannot be promise" in done.err  # the line before it counts events
        quiet = memae("score", "camera.model", "clip.mp4", "--quiet")
        assert (quiet.out, quiet.err) == (done.out, "")

    def test_the_intruder_scores_above_everything_else(self, memae: Callable[..., Done], camera: Path) -> None:
        scores = scores_of(memae("score", "camera.model", "clip.mp4").out)
        during = np.isin(np.arange(FRAMES), INTRUDER)
        near = np.isin(np.arange(FRAMES), range(INTRUDER.start - 8, INTRUDER.stop + 8))
        assert scores[during].min() > 2 * scores[~near].max()

    def test_all_is_written_in_one_pass(
        self, memae: Callable[..., Done], camera: Path, enter: tuple[str, str]
    ) -> None:
        words = (
            "--out",
            "out/frames.parquet",
            "--events",
            "out/events.jsonl",
            "--overlay",
            "out/overlay.mkv",
            *enter,
        )
        done = memae("score", "camera.model", "clip.mp4", *words)
        assert (done.code, done.out) == (0, "")
        assert (
            f"; 1 event from score {float(enter[1]):.4g} on; out/frames.parquet; out/events.jsonl; out/overlay.mkv\n"
            in done.err
        )
        assert sorted(str(p.relative_to("out")) for p in Path("out").rglob("*")) == [
            "events",
            "events.jsonl",
            "events/event-0001.mp4",
            "events/event-0001.png",
            "frames.parquet",
            "overlay.mkv",
        ]

    def test_an_event_tells_when_where_and_from_what(
        self, memae: Callable[..., Done], camera: Path, enter: tuple[str, str]
    ) -> None:
        done = memae(
            "score", "camera.model", "clip.mp4", "--out", "frames.csv", "--events", "events.jsonl", *enter
        )
        assert done.code == 0
        scores = scores_of(Path("frames.csv").read_text())
        (event,) = events_of("events.jsonl")
        first, last = event["first_frame"], event["last_frame"]
        least = float(enter[1])
        assert INTRUDER.start - 5 <= first <= INTRUDER.start + 1 and INTRUDER.stop - 2 <= last <= INTRUDER.stop + 5
        assert (scores[first : last + 1] >= 0.8 * least).all() and scores[first] >= least > scores[first - 1]
        assert (event["start_s"], event["end_s"]) == (first / 25, last / 25)
        assert event["peak_frame"] == int(scores.argmax())
        assert event["peak_score"] == pytest.approx(scores.max(), rel=1e-5)
        assert event["peak_s"] == event["peak_frame"] / 25
        box = event["region"]
        around = scene(5, INTRUDER)[1][max(0, event["peak_frame"] - 4) : event["peak_frame"] + 5].any(axis=0)
        rows, columns = np.nonzero(around)  # a score is about some frames, and the intruder moves
        assert box["left"] < columns.max() and columns.min() < box["right"]
        assert box["top"] <= rows.min() and rows.max() - 8 < box["bottom"] <= 36
        weights = [use["weight"] for use in event["items"]]
        assert 1 <= len(weights) <= 5 and weights == sorted(weights, reverse=True)
        assert all(use["item"] in range(12) for use in event["items"])

    def test_an_event_has_a_still_and_a_clip_with_footage_around_it(
        self, memae: Callable[..., Done], camera: Path, enter: tuple[str, str]
    ) -> None:
        words = ("--events", "events.jsonl", *enter, "--before", "0.41", "--after", "0.21")
        assert memae("score", "camera.model", "clip.mp4", *words).code == 0
        (event,) = events_of("events.jsonl")
        with Image.open(event["still"]) as still:
            assert (still.format, still.mode) == ("PNG", "RGB")
            assert still.width > 960  # as filmed, and with heat
        frames, times = watch(event["clip"])
        assert len(frames) == 10 + event["last_frame"] - event["first_frame"] + 1 + 5
        assert times[0] == 0
        red = [
            bool((pixels[:2, 60:-60, 0] > 150).all() and (pixels[:2, 60:-60, 1] < 110).all()) for pixels in frames
        ]
        assert red == [False] * 10 + [True] * (len(frames) - 15) + [False] * 5

    def test_the_overlay_keeps_every_frame_and_its_time(
        self, memae: Callable[..., Done], camera: Path, enter: tuple[str, str]
    ) -> None:
        assert memae("score", "camera.model", "clip.mp4", "--overlay", "overlay.mp4", *enter).code == 0
        frames, times = watch("overlay.mp4")
        assert times == pytest.approx(np.arange(FRAMES) / 25, abs=1e-3)
        heat = [(pixels[:192].max(axis=-1) - pixels[:192].min(axis=-1) > 60).mean() for pixels in frames]
        assert min(heat[INTRUDER.start + 1 : INTRUDER.stop - 1]) > 0.05
        assert max(heat[: INTRUDER.start - 8]) < 0.01

    def test_a_place_that_is_masked_counts_for_nothing(
        self, memae: Callable[..., Done], camera: Path, enter: tuple[str, str]
    ) -> None:
        mask = np.full((48, 72), 255, np.uint8)
        mask[:32] = 0
        Image.fromarray(mask).save("mask.png")
        polygon = {"width": 720, "height": 480, "exclude": [[[0, 0], [720, 0], [720, 320], [0, 320]]]}
        Path("mask.json").write_text(json.dumps(polygon))
        plain = scores_of(memae("score", "camera.model", "clip.mp4").out)
        masked = memae("score", "camera.model", "clip.mp4", "--mask", "mask.png")
        assert masked.code == 0
        assert memae("score", "camera.model", "clip.mp4", "--mask", "mask.json").out == masked.out
        scores = scores_of(masked.out)
        assert plain[INTRUDER].min() > float(enter[1]) > scores[INTRUDER].max()
        done = memae("score", "camera.model", "clip.mp4", "--mask", "mask.png", "--events", "events.jsonl", *enter)
        assert done.code == 0
        assert events_of("events.jsonl") == []
        assert not Path("events").exists()

    def test_several_videos_are_one_table_and_an_overlay_each(
        self, memae: Callable[..., Done], camera: Path, enter: tuple[str, str]
    ) -> None:
        done = memae(
            "score", "camera.model", "calm.mp4", "clip.mp4", "--events", "e.jsonl", "--overlay", "o", *enter
        )
        assert done.code == 0
        assert "200 frames, " in done.err
        assert sorted(path.name for path in Path("o").iterdir()) == ["calm.mp4", "clip.mp4"]
        assert [event["video"] for event in events_of("e.jsonl")] == ["clip.mp4"]
        rows = rows_of(memae("score", "camera.model", "calm.mp4", "clip.mp4").out)
        assert [row[:2] for row in rows] == [(v, n) for v in ("calm.mp4", "clip.mp4") for n in range(FRAMES)]
        alone = scores_of(memae("score", "camera.model", "clip.mp4").out)
        assert [row[3] for row in rows[FRAMES:]] == alone.tolist()

    def test_overlays_of_one_stem_do_not_take_each_others_place(
        self, memae: Callable[..., Done], camera: Path
    ) -> None:
        frames = scene(5, frames=20)[0]
        write_video(Path("many/gate.avi"), frames, like="mpeg4.avi")
        write_video(Path("many/gate.mp4"), frames, like="h264.mp4")
        write_frames(Path("many/cam.1"), frames)
        write_frames(Path("many/cam.2"), frames)
        assert memae("score", "camera.model", "many", "--overlay", "overlays").code == 0
        found = sorted(path.name for path in Path("overlays").iterdir())
        assert found == ["cam.1.mp4", "cam.2.mp4", "gate.avi.mp4", "gate.mp4.mp4"]

    def test_a_folder_of_frames_has_the_rate_that_is_given(
        self, memae: Callable[..., Done], camera: Path, enter: tuple[str, str]
    ) -> None:
        write_frames(Path("frames"), scene(5, INTRUDER)[0])
        by_default = rows_of(memae("score", "camera.model", "frames").out)
        done = memae("score", "camera.model", "frames", "--frame-rate", "10", "--events", "events.jsonl", *enter)
        assert done.code == 0
        assert [row[2] for row in by_default] == pytest.approx(np.arange(FRAMES) / 25)
        (event,) = events_of("events.jsonl")
        assert event["start_s"] == event["first_frame"] / 10
        shown = range(max(0, event["first_frame"] - 30), min(FRAMES, event["last_frame"] + 31))
        assert len(watch(event["clip"])[0]) == len(shown)
        rows = rows_of(memae("score", "camera.model", "frames", "--frame-rate", "10").out)
        assert [row[2] for row in rows] == pytest.approx(np.arange(FRAMES) / 10)
        # what stands still is judged by seconds, so the rate changes the scores once something can have lasted
        assert [row[3] for row in rows[:25]] == [row[3] for row in by_default[:25]]
        of_file = rows_of(memae("score", "camera.model", "clip.mp4", "--frame-rate", "10").out)
        assert of_file[-1][2] == pytest.approx(99 / 25)  # a file knows its own times

    def test_names_that_no_terminal_likes_are_kept(
        self, memae: Callable[..., Done], camera: Path, enter: tuple[str, str]
    ) -> None:
        folder = Path("a [/b] ü")  # two folders
        folder.mkdir(parents=True)
        name = os.fsdecode(b"caf\xe9 [1].mp4")
        shutil.copy("clip.mp4", folder / name)
        done = memae(
            "score", "camera.model", folder, "--out", "f.csv", "--events", "e.jsonl", "--overlay", "o", *enter
        )
        assert done.code == 0
        assert rows_of(Path("f.csv").read_text())[0][0] == r"caf\xe9 [1].mp4"
        assert events_of("e.jsonl")[0]["video"] == r"caf\xe9 [1].mp4"
        assert [path.name for path in Path("o").iterdir()] == [name]

    def test_the_threshold_is_that_of_the_model_and_its_promise_is_told(
        self, memae: Callable[..., Done], camera: Path
    ) -> None:
        found = Detector.load("camera.model", device="cpu").event_threshold(2.0)
        done = memae("score", "camera.model", "clip.mp4", "--events", "e.jsonl", "--false-alarms-per-hour", "2")
        assert f" from score {found.on_threshold:.4g} on" in done.err
        assert done.err.count("\n") == 2
        assert f"note: {found.caveat}\n" in done.err
        assert "2 false alarms an hour cannot be promised: 0.2" in done.err
        assert memae("score", "camera.model", "clip.mp4", "--events", "e.jsonl", "--quiet").err == ""

    def test_the_rule_of_events_is_in_the_users_hand(
        self, memae: Callable[..., Done], camera: Path, enter: tuple[str, str]
    ) -> None:
        def count(*words: str) -> int:
            assert memae("score", "camera.model", "clip.mp4", "--events", "e.jsonl", *words).code == 0
            return len(events_of("e.jsonl"))

        assert count(*enter, "--least", "2") == 0
        scores = scores_of(memae("score", "camera.model", "clip.mp4").out)
        high = str(float(np.sort(scores)[-4]))
        apart = count("--on-threshold", high, "--off-threshold", high, "--merge-gap", "0")
        assert count("--on-threshold", high, "--off-threshold", high, "--merge-gap", "9") == 1 <= apart <= 4

    def test_a_later_run_replaces_stills_and_clips_of_an_earlier_one(
        self, memae: Callable[..., Done], camera: Path, enter: tuple[str, str]
    ) -> None:
        many = ("--on-threshold", "0", "--off-threshold", "0", "--merge-gap", "0")
        assert memae("score", "camera.model", "clip.mp4", "calm.mp4", "--events", "events.jsonl", *many).code == 0
        assert len(list(Path("events").iterdir())) == 4
        assert memae("score", "camera.model", "clip.mp4", "--events", "events.jsonl", *enter).code == 0
        assert sorted(path.name for path in Path("events").iterdir()) == ["event-0001.mp4", "event-0001.png"]
        assert memae("score", "camera.model", "calm.mp4", "--events", "events.jsonl", *enter).code == 0
        assert list(Path("events").iterdir()) == []
        assert Path("events.jsonl").read_text() == ""

    def test_the_installed_script_does_the_same(
        self, real_memae: Callable[..., Done], camera: Path, enter: tuple[str, str]
    ) -> None:
        done = real_memae("score", "camera.model", "clip.mp4", "--overlay", "overlay.mp4", "--out", "frames.csv")
        assert done.code == 0, done.err
        assert scores_of(Path("frames.csv").read_text())[INTRUDER].min() > float(enter[1])
        assert len(watch("overlay.mp4")[0]) == FRAMES


FIGURES = {
    "frame_auroc_micro",
    "frame_auroc_micro_min_max",
    "frame_auroc_macro",
    "pixel_auroc",
    "rbdc",
    "tbdc",
    "event_precision",
    "event_recall",
    "event_f1",
    "false_events_per_hour",
    "normal_time_in_events",
    "onset_error_s",
    "normal_frames_flagged",
    "anomalous_frames_flagged",
}


def write_labels(path: str | Path) -> None:
    """A row a frame of clip.mp4 and calm.mp4, by their names without suffix."""
    lines = [f"{v},{n},{int(v == 'clip' and n in INTRUDER)}" for v in ("clip", "calm") for n in range(FRAMES)]
    Path(path).write_text("\n".join(["video,frame,label", *lines, ""]))


class TestEvaluate:
    def test_masks_give_every_figure_with_its_interval(
        self, memae: Callable[..., Done], camera: Path, enter: tuple[str, str]
    ) -> None:
        shutil.copytree("masks", "truth")
        (camera / "videos").mkdir()
        for name in ("clip", "calm"):
            shutil.move(f"{name}.mp4", "videos")
        done = memae("evaluate", "camera.model", "videos", "--labels", "truth", *enter, "--json")
        assert (done.code, done.err.split(" are too few")[0]) == (0, "note: 9 held-out groups")
        assert done.out.count("\n") == 1
        found = json.loads(done.out, parse_constant=pytest.fail)
        assert {name for name, value in found.items() if isinstance(value, dict)} == FIGURES
        assert (found["videos"], found["frames"], found["anomalous_frames"]) == (2, 200, 20)
        assert (found["segments"], found["events"], found["masked_videos"]) == (1, 1, 2)
        assert found["derived_tracks"] is True
        values = {name: found[name]["value"] for name in FIGURES}
        labels = np.r_[np.zeros(FRAMES), np.isin(np.arange(FRAMES), INTRUDER)].astype(bool)
        scores = scores_of(memae("score", "camera.model", "videos").out)
        assert values["frame_auroc_micro"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)
        stretched = np.concatenate([(s - s.min()) / (s.max() - s.min()) for s in np.split(scores, 2)])
        assert values["frame_auroc_micro_min_max"] == pytest.approx(roc_auc_score(labels, stretched), abs=1e-9)
        assert values["frame_auroc_macro"] == pytest.approx(
            roc_auc_score(labels[FRAMES:], scores[FRAMES:]), abs=1e-9
        )
        assert min(values["frame_auroc_micro"], values["pixel_auroc"]) > 0.95
        assert min(values["rbdc"], values["tbdc"]) > 0.5
        assert (values["event_precision"], values["event_recall"], values["event_f1"]) == (1, 1, 1)
        assert values["false_events_per_hour"] == 0
        assert (found["segments_found"], found["false_events"]) == (1, 0)
        assert abs(values["onset_error_s"]) < 1
        assert found["worst_onset_error_s"] == pytest.approx(values["onset_error_s"])
        assert values["normal_time_in_events"] < 0.2
        assert found["normal_hours"] == pytest.approx(180 / 25 / 3600)
        rate = Detector.load("camera.model", device="cpu").threshold
        assert found["wanted_false_alarm_rate"] == rate.false_alarm_rate
        assert values["normal_frames_flagged"] == pytest.approx((scores[~labels] > rate.value).mean())
        assert values["anomalous_frames_flagged"] == pytest.approx((scores[labels] > rate.value).mean())
        # two videos are too few for an interval, and one alone has anomalous frames
        assert found["frame_auroc_micro"]["low"] is None
        assert [found[name]["groups"] for name in ("frame_auroc_micro", "frame_auroc_macro")] == [2, 1]

    def test_labels_of_frames_and_of_segments_agree(
        self, memae: Callable[..., Done], camera: Path, enter: tuple[str, str]
    ) -> None:
        write_labels("frames.csv")
        Path("segments.csv").write_text(f"video,start,end\nclip,{INTRUDER.start},{INTRUDER.stop - 1}\n")
        words = ("evaluate", "camera.model", "--labels")
        Path("videos").mkdir()
        for name in ("clip", "calm"):
            shutil.move(f"{name}.mp4", "videos")
        by_frame = memae(*words, "frames.csv", "videos", *enter, "--json")
        assert by_frame.code == 0
        assert memae(*words, "segments.csv", "videos", *enter, "--json").out == by_frame.out
        found = json.loads(by_frame.out)
        assert (found["pixel_auroc"], found["rbdc"], found["tbdc"], found["masked_videos"]) == (
            None,
            None,
            None,
            0,
        )
        by_mask = json.loads(memae(*words, "masks", "videos", *enter, "--json").out)
        for name in ("frame_auroc_micro", "frame_auroc_macro", "event_recall", "false_events_per_hour"):
            assert by_mask[name] == found[name]

    def test_the_table_says_what_it_shows(
        self, memae: Callable[..., Done], camera: Path, enter: tuple[str, str]
    ) -> None:
        shutil.rmtree("masks/calm")
        done = memae("evaluate", "camera.model", "clip.mp4", "--labels", "masks", *enter)
        assert (done.code, done.err.split(" are too few")[0]) == (0, "note: 9 held-out groups")
        assert "100 frames of 1 video, 20 of them anomalous, in 1 segment; 1 event " in done.out
        lines = {line.split("│")[1].strip(): line for line in done.out.splitlines() if line.startswith("│")}
        assert len(lines) == len(FIGURES) + 1  # the worst onset is a row, and no estimate
        for figure in ("frame AUROC, micro", "frame AUROC, macro", "pixel AUROC", "RBDC", "TBDC", "event recall"):
            assert sum(name.startswith(figure) for name in lines) == 1
        assert sum("none: too few" in line for line in lines.values()) == len(FIGURES)
        assert (
            f"An event begins at score {float(enter[1]):.4g} and ends below {0.8 * float(enter[1]):.4g}"
            in done.out
        )
        write_labels("labels.csv")
        Path("one.csv").write_text(
            "\n".join(line for line in Path("labels.csv").read_text().split() if "calm" not in line)
        )
        done = memae("evaluate", "camera.model", "clip.mp4", "--labels", "one.csv", *enter)
        assert done.out.count("needs masks") == 3

    def test_a_mask_and_a_frame_rate_count(self, memae: Callable[..., Done], camera: Path) -> None:
        write_frames(Path("videos/clip"), scene(5, INTRUDER)[0])
        shutil.rmtree("masks/calm")
        words = ("evaluate", "camera.model", "videos", "--labels", "masks", "--json")
        Path("mask.json").write_text(
            '{"width": 72, "height": 48, "exclude": [[[0, 32], [72, 32], [72, 48], [0, 48]]]}'
        )
        plain = json.loads(memae(*words, "--on-threshold", "0").out)
        slow = json.loads(memae(*words, "--on-threshold", "0", "--frame-rate", "5", "--mask", "mask.json").out)
        assert plain["events"] == slow["events"] == 1
        wrong = [found["false_events_per_hour"]["value"] for found in (plain, slow)]
        assert wrong == [0, 0]
        none = json.loads(memae(*words, "--on-threshold", "1e9").out)
        assert none["events"] == 0
        assert none["event_precision"] is None

    def test_old_names_of_options_are_accepted_with_a_warning(
        self, memae: Callable[..., Done], camera: Path
    ) -> None:
        shutil.rmtree("masks/calm")
        words = ("evaluate", "camera.model", "clip.mp4", "--labels", "masks", "--json")
        new = memae(*words, "--on-threshold", "1", "--off-threshold", "0.5")
        old = memae(*words, "--enter", "1", "--leave=0.5")
        assert (old.code, old.out) == (0, new.out)
        said = [
            line for line in old.err.splitlines() if line.startswith("warning: ")
        ]  # and progress, where it is slow
        assert said == [
            f"warning: {name} is now called {now}; the old name is accepted until memae 0.2.0"
            for name, now in (("--enter", "--on-threshold"), ("--leave", "--off-threshold"))
        ]

    def test_what_events_promise_is_told_beside_the_figures(
        self, memae: Callable[..., Done], camera: Path
    ) -> None:
        shutil.rmtree("masks/calm")
        done = memae("evaluate", "camera.model", "clip.mp4", "--labels", "masks", "--json")
        assert done.code == 0
        assert json.loads(done.out)["event_recall"]["value"] == 1
        assert "note: 1 false alarm an hour cannot be promised: " in done.err
        assert done.err.count("\n") == 2  # and how few groups there are


def test_video_of_another_frame_rate_is_told_before_its_scores(
    memae: Callable[..., Done], camera: Path, tmp_path: Path
) -> None:
    frames, _ = scene(2)
    write_video(camera / "slow.mp4", frames[:20], "h264.mp4", rate=10)
    said = " ".join(memae("score", "camera.model", "slow.mp4", "--out", "slow.csv").err.split())
    assert "slow.mp4: 10 frames/s, and the model was trained at 25: motion looks faster to it than it is" in said
    assert "fps=25" in said
    assert "frames/s, and the model" not in memae("score", "camera.model", "clip.mp4", "--out", "clip.csv").err


class TestInspect:
    def test_text_tells_how_frames_are_seen_scored_and_judged(
        self, memae: Callable[..., Done], camera: Path
    ) -> None:
        done = memae("inspect", "camera.model")
        assert (done.code, done.err) == (0, "")
        detector = Detector.load("camera.model", device="cpu")
        text = " ".join(done.out.split())
        assert "video of 25 frames/s in clips of 16 grey frames of 32 x 48 px (height x width)" in text
        assert json.loads(memae("inspect", "camera.model", "--json").out)["input"][
            "frames_per_s"
        ] == pytest.approx(25)
        assert f"{detector.facts['samples']['training']} frames of normal" in text
        assert (
            "root mean squared error of the 0.05 of the places of 8 px that are rebuilt worst; a clip every 8 frames"
            in text
        )
        assert f"score {detector.threshold.value:.6g} for a false-alarm rate of 0.01 a frame" in text
        assert (
            f"from score {detector.event_threshold(1).on_threshold:.4g} on, just above all of 0.2 minutes" in text
        )
        assert "too short to promise 1 false alarm an hour" in text
        assert "of 12 items used" in text

    def test_json_and_the_picture_of_the_items(self, memae: Callable[..., Done], camera: Path) -> None:
        done = memae("inspect", "camera.model", "--json", "--out", "items.png")
        assert (done.code, done.err) == (0, "items drawn: items.png\n")
        found = json.loads(done.out)
        assert {*found} == {"config", "input", "facts", "threshold", "items", "events"}
        assert found["input"]["kind"] == "video"
        assert (
            found["events"]["normal_hours"] == found["events"]["footage_hours"] == pytest.approx(300 / 25 / 3600)
        )
        assert len(found["items"]["usage_counts"]) == 12
        with Image.open("items.png") as picture:
            assert len(np.unique(np.asarray(picture.convert("L")))) > 20


UNTRAINED = [word for setting in (*BRIEF, "train.epochs=0") for word in ("--set", setting)]


class TestFit:
    def test_frame_folders_are_video_by_the_preset_or_by_their_rate(
        self, memae: Callable[..., Done], folder: Path
    ) -> None:
        for seed in range(2):
            write_frames(folder / "normal" / f"{seed}", scene(seed)[0], "{:03d}.jpg")
        by_preset = memae("fit", "normal", "--preset", "video", "--out", "a.model", *UNTRAINED)
        by_rate = memae("fit", "normal/0", "normal/1", "--frame-rate", "10", "--out", "b.model", *UNTRAINED)
        assert (by_preset.code, by_rate.code) == (0, 0)
        assert "frames: 200 for training, 0 for early stopping, 200 for the threshold" in by_rate.err
        assert "note: 10 held-out groups are too few" in by_rate.err
        assert "\nevents: from score " in by_rate.err
        assert "just above all of 0.333 minutes of held-out normal video" in by_rate.err
        one, other = (Detector.load(name, device="cpu") for name in ("a.model", "b.model"))
        assert one.config.network == other.config.network == "video"
        assert one.event_threshold(1).normal_hours == pytest.approx(200 / 25 / 3600)
        assert other.event_threshold(1).normal_hours == pytest.approx(200 / 10 / 3600)

    def test_a_model_without_held_out_footage_needs_the_score_of_events(
        self, memae: Callable[..., Done], camera: Path
    ) -> None:
        words = ("normal", "--out", "bare.model", *UNTRAINED, "--set", "threshold.calibration_share=0")
        done = memae("fit", *words)
        assert done.code == 0
        assert "threshold:" not in done.err and "events:" not in done.err
        assert json.loads(memae("inspect", "bare.model", "--json").out)["events"] is None
        assert memae("inspect", "bare.model").code == 0
        done = memae("score", "bare.model", "clip.mp4", "--events", "e.jsonl")
        assert (done.code, done.err.count("\n")) == (1, 1)
        assert "train a model of video with threshold.calibration_share above 0" in done.err


DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_names_every_option_for_video_and_no_other(memae: Callable[..., Done], folder: Path) -> None:
    page = (DOCS / "video.md").read_text(encoding="utf-8")
    helped = " ".join(memae(verb, "--help").out for verb in ("fit", "score", "evaluate"))
    options = set(re.findall(r"--[a-z][a-z-]+", helped))
    named = set(re.findall(r"--[a-z][a-z-]+", re.sub(r"`python -m [^`]+`", "", page)))
    assert named <= options
    assert {
        "--events",
        "--overlay",
        "--labels",
        "--mask",
        "--frame-rate",
        "--on-threshold",
        "--off-threshold",
        "--least",
    } <= named
    assert {"--merge-gap", "--cool-down", "--before", "--after", "--false-alarms-per-hour"} <= named


@pytest.mark.parametrize("ends", [signal.SIGINT, signal.SIGTERM])
def test_a_score_that_is_ended_leaves_nothing_behind(
    camera: Path, tree: Callable[[], dict[str, bytes]], ends: signal.Signals
) -> None:
    write_video(camera / "long.mkv", np.concatenate([scene(7)[0]] * 40), like="ffv1.mkv")
    before = tree()
    words = ("score", "camera.model", "long.mkv", "--out", "s.csv", "--overlay", "o.mp4", "--events", "e.jsonl")
    with subprocess.Popen([sys.executable, "-m", "memae", *words], stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not list(camera.glob(".o.mp4.*.part*")):
            time.sleep(0.02)
        time.sleep(0.2)
        process.send_signal(ends)
        _, said = process.communicate()
    assert process.returncode == 130
    assert said.splitlines()[-1] == "interrupted"
    assert tree() == before
