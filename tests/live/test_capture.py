"""What a camera may send or withhold: the capture survives it and tells it, and shows nothing of its address."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from memae.errors import DataError
from memae.live.address import Address
from memae.live.capture import Capture
from tests.live.mjpeg_server import MjpegServer, answering
from tests.live.waiting import until
from tests.small_footage import scene
from tests.video_files import moving_digits, write_video

SIZE = (32, 48)


@contextmanager
def capturing(address: Address, most: int = 1000) -> Iterator[Capture]:
    capture = Capture("yard", address, 25, SIZE, most, read_s=0.5, connect_s=0.5, first_wait_s=0.1)
    capture.start()
    try:
        yield capture
    finally:
        capture.stop()


def test_the_switch_to_infrared_and_back_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    day = moving_digits(25)
    night = np.repeat(day.mean(axis=-1, keepdims=True).astype(np.uint8), 3, axis=-1)
    path = write_video(tmp_path / "dusk.mp4", np.concatenate([day, night, day]), like="mpeg4.mp4")
    with capturing(Address(str(path))) as capture:
        until(lambda: capture.is_over)
        frames = capture.take()
    assert len(frames) == 75
    assert [frame.begins for frame in frames] == [True] + [False] * 74
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert told == ["camera yard: night mode", "camera yard: the picture is as usual again"]


def test_a_camera_without_colours_is_not_at_night(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_video(tmp_path / "grey.mp4", scene(0)[0][:20], like="mpeg4.mp4")
    with capturing(Address(str(path))) as capture:
        until(lambda: capture.is_over)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_corrupt_pictures_are_dropped_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    with MjpegServer(scene(0)[0]) as server, capturing(Address(server.url)) as capture:
        until(lambda: capture.is_up)
        server.pictures[::2] = [bytes(picture[:60]) for picture in server.pictures[::2]]
        until(lambda: capture.drops["corrupt"] >= 10)
        capture.take()
        until(lambda: any(not frame.begins for frame in capture.take()))  # the others go on
        assert capture.is_up
        assert capture.reconnects == 0
    assert "hush" not in caplog.text


@pytest.mark.parametrize(
    ("status", "kind", "body", "word"),
    [
        (404, "text/plain", b"none", "404"),
        (503, "text/plain", b"none", "5XX"),
        (200, "text/html", b"<html><body>Log in</body></html>" * 50, "gives no video"),
        (200, "application/vnd.apple.mpegurl", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "a playlist"),
        (200, "application/octet-stream", b"#EXTM3U\n#EXTINF:1,\nhttp://a.lan/1.ts\n", "a playlist"),
    ],
)
def test_what_is_no_video_is_told_and_asked_for_again(
    caplog: pytest.LogCaptureFixture, status: int, kind: str, body: bytes, word: str
) -> None:
    with answering(status, kind, body) as url, capturing(Address(url)) as capture:
        until(lambda: capture.reconnects >= 2)
        assert not capture.is_up
    assert word in caplog.text
    assert f"camera yard: {Address(url)}" in caplog.text
    assert "hush" not in caplog.text


@pytest.mark.parametrize("address", ["http://someone:hush@127.0.0.1:{}/x", "rtsp://someone:hush@127.0.0.1:{}/x"])
def test_a_camera_that_never_answers_is_given_up_and_asked_again(
    address: str, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the system takes connections; nobody reads them
        place = Address(address.format(silent.getsockname()[1]))
        with capturing(place) as capture:
            until(lambda: capture.reconnects >= 2)
    assert not capture.is_up
    assert f"camera yard: {place} does not answer; connecting again" in caplog.text
    assert "hush" not in caplog.text


def test_a_file_that_is_no_video_ends_its_camera(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "notes.mp4"
    path.write_text("not a video")
    with capturing(Address(str(path))) as capture:
        until(lambda: capture.is_over)
    assert f"camera yard: {path}" in caplog.text
    assert capture.reconnects == 0


@pytest.mark.skipif(Path("/dev/video9").exists(), reason="ten webcams")
def test_a_webcam_that_is_not_there_is_one_message() -> None:
    with pytest.raises(DataError, match=r"^/dev/video9: no such device: is the webcam plugged in\?$"):
        Address("/dev/video9")


def test_a_folder_is_no_camera(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a folder; a camera is"):
        Address(str(tmp_path))
