"""Cameras that are watched: a file at its own pace, and a real HTTP server that goes away and comes back."""

from __future__ import annotations

import gc
import logging
import os
import threading
import time
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import av
import numpy as np
import pytest
from PIL import Image

from memae import Detector
from memae.errors import ConfigError, DataError
from memae.live.address import Address
from memae.live.capture import Capture, Pace
from memae.live.config import CameraConfig, EventSettings, Keep, WatchConfig, read_watch_config
from memae.live.controls import Zone
from memae.live.message import Message, ScoreMessage
from memae.live.packets import PacketRing, StoredPacket
from memae.live.record import record
from memae.live.sinks import Outbox
from memae.live.watch import Watch, known_rate, tidy
from tests.live.mjpeg_server import MjpegServer, answering
from tests.live.told import Told
from tests.live.waiting import until
from tests.small_footage import INTRUDER, scene
from tests.video_files import write_video

PLAYLIST = b"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\na.ts\n"


def test_a_file_at_its_own_pace_has_the_scores_of_a_pass_over_it(
    detector: Detector, footage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memae.live.camera.MOST_WAIT_S", 60.0)  # a busy machine drops no frame here
    assert known_rate(detector.artifact) == pytest.approx(25)
    alone = detector.score(footage / "clip.mp4")
    usual = detector.event_threshold(1.0).on_threshold
    camera = CameraConfig("gate", Address(str(footage / "clip.mp4")), on_threshold=2 * usual)
    told = Told()
    sinks = [Outbox(told)]
    settings = EventSettings(before_s=0.5, after_s=0.5)
    watching = Watch(detector, WatchConfig(Path("model"), (camera,), tmp_path, settings), sinks)
    kept: list[float] = []
    put = sinks[0].put

    def noting(message: Message) -> None:
        if isinstance(message, ScoreMessage):
            kept.append(message.score)
        put(message)

    sinks[0].put = noting  # type: ignore[method-assign]  # an outbox holds the last score only
    begun = time.monotonic()
    watching.run()
    assert time.monotonic() - begun > 3.5  # it lasts 4 s
    sinks[0].close()
    assert kept == alone.values.tolist()
    (new,), (end,) = told.events("new"), told.events("end")
    assert new.id == end.id
    assert (new.source, new.clip, end.ended_by) == ("gate", None, "quiet")
    assert 0.3 < end.updated_at - end.started_at < 1.5
    assert end.peak_score == pytest.approx(alone.values.max())
    assert end.still is not None and end.clip is not None
    with Image.open(end.still) as still, Image.open(end.rebuilt or "") as rebuilt:
        assert still.width > 500
        assert rebuilt.size == (2 * 336 + 8, 7 * 32)  # what the network saw, and what the memory made of it
        assert np.asarray(rebuilt).std() > 5
    with av.open(str(end.clip)) as clip:
        frames = list(clip.decode(video=0))
    assert 20 < len(frames) < 62  # 0.8 s, half a second on both sides, and up to 12 frames from a keyframe on
    assert frames[0].time == pytest.approx(0, abs=0.1)


def test_a_camera_that_goes_away_and_stalls_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    frames = scene(0)[0]
    caplog.set_level(logging.INFO, "memae")
    server = MjpegServer(frames)
    capture = Capture("yard", Address(server.url), 25, (32, 48), 1000, read_s=1.0, first_wait_s=0.1)
    capture.start()
    try:
        until(lambda: capture.is_up)
        until(lambda: sum(one.begins for one in capture.take()) == 1)
        server.stalled = True
        until(lambda: capture.reconnects >= 1)
        server.stalled = False
        until(lambda: any(one.begins for one in capture.take()))
        port, before = server.port, capture.reconnects
        server.close()
        until(lambda: capture.reconnects > before)
        assert not capture.is_up
        server = MjpegServer(frames[:, ::2, ::2], port=port)
        until(lambda: any(one.begins and one.picture.frame.width == 36 for one in capture.take()))
    finally:
        server.close()
        capture.stop()
    assert "connecting again" in caplog.text
    assert "hush" not in caplog.text
    assert "someone" not in caplog.text


def test_a_model_that_is_too_slow_sees_whole_stretches(footage: Path) -> None:
    capture = Capture("gate", Address(str(footage / "calm.mp4")), 25, (32, 48), 10)
    capture.start()
    until(lambda: capture.is_over)
    found = capture.take()
    assert capture.drops["slow"] + len(found) == 100
    assert [one.begins for one in found][1:] == [False] * (len(found) - 1)
    assert [one.frames.keys[0].frame for one in found] == list(range(len(found)))


def test_a_stream_of_a_faster_rate_is_thinned_evenly() -> None:
    pace = Pace(10)
    taken = [number / 25 for number in range(250) if pace.takes(number / 25)]
    assert len(taken) == pytest.approx(100, abs=2)
    assert max(np.diff(taken)) < 0.17
    slow = Pace(25)
    assert all(slow.takes(number / 10) for number in range(50))


def test_frozen_and_black_pictures_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memae.live.notices.FROZEN_S", 0.3)
    still = np.repeat(scene(0)[0][:1], 15, axis=0)
    black = np.zeros_like(still)
    for pixels, note in ((still, "picture frozen"), (black, "picture black")):
        path = write_video(tmp_path / note / "a.mp4", pixels, like="mpeg4.mp4")
        capture = Capture("gate", Address(str(path)), 25, (32, 48), 100)
        capture.start()
        until(lambda capture=capture: capture.is_over)  # type: ignore[misc]
        assert capture.note == note


def test_a_stream_that_clips_alone_are_cut_from_is_not_decoded(
    footage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Capture, "_frame", lambda *_: pytest.fail("a frame was decoded"))
    ring = PacketRing(60.0)
    added: list[StoredPacket] = []
    monkeypatch.setattr(ring, "add", added.append)
    capture = Capture("gate", Address(str(footage / "clip.mp4")), 25, (32, 48), 100, ring, copies_only=True)
    capture.start()
    until(lambda: capture.is_up)
    until(lambda: capture.is_over)
    assert len(added) == 100
    assert not capture.has_waiting and capture.failed is None


def test_pictures_that_nobody_holds_are_gone_at_once(footage: Path) -> None:
    capture = Capture("gate", Address(str(footage / "clip.mp4")), 25, (32, 48), 1000)
    gc.collect()
    before = [one for one in gc.get_objects() if type(one) is av.VideoFrame]  # of other tests
    gc.disable()  # which frees what stands in a cycle, sooner or later: a watch holds thousands of frames until then
    try:
        capture.start()
        until(lambda: capture.is_over)
        assert len(capture.take()) == 100
        held = [one for one in gc.get_objects() if type(one) is av.VideoFrame]
        assert (
            len(held) - len(before) <= 2
        )  # the first one, whose turn was asked for, and one that the decoder has
    finally:
        gc.enable()


def test_a_recording_copies_packets(tmp_path: Path) -> None:
    with MjpegServer(scene(0)[0]) as server:
        files = record(Address(server.url), tmp_path, 1.5, stop=threading.Event())
    (path,) = files
    assert "hush" not in path.name
    with av.open(str(path)) as video:
        assert video.streams.video[0].codec_context.name == "mjpeg"
        assert len(list(video.decode(video=0))) > 10


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ftp://a.lan/x", "scheme ftp"),
        ("concat:a|b", "no such file"),
        ("http://user:hush@a.lan/live.m3u8?token=hush", "playlist"),
        ("rtsp:///x", "names no host"),
        ("nothing.mp4", "no such file"),
    ],
)
def test_an_address_that_is_not_opened(text: str, words: str) -> None:
    with pytest.raises((ConfigError, DataError), match=words) as error:
        Address(text)
    assert "hush" not in str(error.value)


def test_an_address_shows_its_host_and_no_more() -> None:
    address = Address("rtsp://me:p@ss/word@camera.lan:554/main?key=hush")
    assert str(address) == "rtsp://camera.lan:554"
    assert "hush" not in repr(address)


CONFIG = """
model = "m"
[cameras.gate]
address = "rtsp://camera.lan/main"
{}
"""


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("zone = {}", "cameras.gate: zone: unknown key; did you mean 'zones'"),
        ("zones = { a = [[0, 0], [1.2, 0], [1, 1]] }", "outside the picture"),
        ("zones = { a = [[0, 0], [1, 1]] }", "3 or more points"),
        ("on_threshold = -1", "0 or more"),
        ("is_enabled = 1", "true or false"),
        ("x = '", "TOML"),
        ("[events]\nafter = 3", "did you mean 'after_s'"),
    ],
)
def test_a_config_that_is_wrong_is_one_clear_message(tmp_path: Path, line: str, words: str) -> None:
    path = tmp_path / "watch.toml"
    path.write_text(CONFIG.format(line))
    with pytest.raises(ConfigError, match=words):
        read_watch_config(path)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a b", "a_b"], "both 'a_b' in topics"),
        (["in/out"], "letters, digits"),
        ([".."], "letters, digits"),
        (["a", "a"], "two cameras are called 'a'"),
    ],
)
def test_a_name_that_has_no_route_folder_or_topic_of_its_own(names: list[str], words: str) -> None:
    address = Address("rtsp://camera.lan/main")
    with pytest.raises(ConfigError, match=words):
        WatchConfig(Path("m"), tuple(CameraConfig(name, address) for name in names))


def test_the_example_of_the_config_can_be_read(tmp_path: Path) -> None:
    from memae.live import config
    from memae.live.sinks import from_config

    path = tmp_path / "watch.toml"
    path.write_text((config.__doc__ or "").partition("\n")[2])
    found = read_watch_config(path)
    assert [zone.name for zone in found.cameras[0].zones] == ["path"]
    for sink in found.sinks:
        from_config(sink).close()


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, b"", "refuses"),
        (403, b"", "refuses"),
        (200, PLAYLIST, "gives no video that is read here, or a playlist"),
    ],
)
def test_a_camera_that_will_never_answer_is_given_up_and_the_others_go_on(
    detector: Detector, footage: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, status: int, body: bytes,
    words: str,
) -> None:  # fmt: skip
    with answering(status, "application/vnd.apple.mpegurl", body) as url:
        cameras = (
            CameraConfig("gate", Address(str(footage / "calm.mp4")), on_threshold=1e6),
            CameraConfig("yard", Address(url)),
        )
        told = Told()
        box = Outbox(told)
        watching = Watch(detector, WatchConfig(Path("model"), cameras, tmp_path), [box])
        watching.run()
        box.close()
    assert watching.failed == ("yard",)
    assert f"camera yard: http://127.0.0.1:{urlsplit(url).port} {words}" in caplog.text
    assert "hush" not in caplog.text
    assert any(isinstance(one, ScoreMessage) and one.source == "gate" for one in told.messages)


def test_an_event_ends_where_its_camera_stays_away(detector: Detector, footage: Path, tmp_path: Path) -> None:
    told = Told()
    box = Outbox(told)
    server = MjpegServer(scene(5, INTRUDER)[0])
    camera = CameraConfig("gate", Address(server.url), on_threshold=1e-6)
    config = WatchConfig(Path("model"), (camera,), tmp_path, EventSettings(gone_s=0.3))
    watching = Watch(detector, config, [box])
    thread = threading.Thread(target=watching.run)
    thread.start()
    try:
        until(lambda: told.events("new"))
        server.close()
        until(lambda: told.events("end"))
    finally:
        watching.stop()
        thread.join()
        box.close()
    assert told.events("end")[0].ended_by == "source gone"


def test_a_reload_tells_what_needs_a_new_start_and_refuses_what_cannot_be(
    detector: Detector, footage: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    camera = CameraConfig("gate", Address(str(footage / "calm.mp4")))
    config = WatchConfig(Path("model"), (camera,), tmp_path)
    watching = Watch(detector, config)
    watching.reload(replace(config, model=Path("other"), sinks=({"kind": "jsonl", "folder": "x"},)))
    for what in ("model", "sinks"):
        assert f"{what} has changed, which needs a new start" in caplog.text
    assert "out has changed" not in caplog.text
    mask = Zone("all", ((0, 0), (1, 0), (1, 1), (0, 1)), is_ignored=True)
    with pytest.raises(ConfigError, match="nothing to watch"):
        watching.reload(replace(config, cameras=(replace(camera, zones=(mask,)),)))
    with pytest.raises(ConfigError, match="no such camera"):
        watching.set_threshold("attic", 1.0)
    with pytest.raises(ConfigError, match="finite"):
        watching.set_threshold("gate", float("nan"))
    assert not (tmp_path / "changes.json").exists()


def test_what_was_changed_holds_at_the_next_start_until_its_file_is_deleted(
    detector: Detector, footage: Path, tmp_path: Path
) -> None:
    camera = CameraConfig("gate", Address(str(footage / "calm.mp4")), on_threshold=2.0, off_threshold=1.5)
    config = WatchConfig(Path("model"), (camera,), tmp_path)
    zone = Zone("left", ((0, 0), (0.5, 0), (0.5, 1), (0, 1)))
    first = Watch(detector, config)
    first.set_threshold("gate", 1.0)
    first.set_zones("gate", (zone,))
    first.set_enabled("gate", False)
    for watching in (first, Watch(detector, config)):
        (state,) = watching.cameras()
        assert (state.threshold, state.zones, state.is_enabled) == (1.0, (zone,), False)
    (tmp_path / "changes.json").unlink()
    first.reload(config)
    assert first.cameras()[0].threshold == 2.0
    (tmp_path / "changes.json").write_text('{"gate": {"zones": [{"name": "z", "points": [[0, 9]]}]}}')
    with pytest.raises(ConfigError, match=r"changes\.json: cannot be read"):
        Watch(detector, config)


def test_zones_and_masks_are_shares_of_the_picture(tmp_path: Path) -> None:
    path = tmp_path / "watch.toml"
    path.write_text(
        CONFIG.format(
            "zones = { left = [[0, 0], [0.5, 0], [0.5, 1], [0, 1]] }\n"
            "masks = { sky = [[0, 0], [1, 0], [1, 0.5], [0, 0.5]] }"
        )
    )
    (camera,) = read_watch_config(path).cameras
    watched = camera.watched(8, 12)
    expected = np.zeros((8, 12), dtype=bool)
    expected[4:, :6] = True
    np.testing.assert_array_equal(watched, expected)


def test_old_and_too_many_files_are_removed(tmp_path: Path) -> None:
    (tmp_path / "gate").mkdir()
    for number in range(4):
        path = tmp_path / "gate" / f"{number}.mp4"
        path.write_bytes(bytes(1000))
        age = time.time() - (4 - number) * 86400
        os.utime(path, (age, age))
    tidy(tmp_path, Keep(days=3.5, gigabytes=2e-6))
    assert sorted(path.name for path in tmp_path.rglob("*.mp4")) == ["2.mp4", "3.mp4"]
